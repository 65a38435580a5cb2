"""Proposals and their states: who may move one from where to where, each move on record and all or nothing."""

from __future__ import annotations

import base64
import logging
import secrets
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..policies.errors import ArborgateError, Busy, Conflict, Denied, Invalid, NotThere, Reason, Refused
from ..policies.model import Action, Binding, Caller, Channel
from ..tools.change import Change, Rehearsal
from ..tools.proposal import (
    Approval,
    Content,
    Draft,
    GlassReview,
    Proposal,
    ProposalPage,
    ProposalQuery,
    ProposalState,
    Release,
    Requester,
    Step,
    Verdict,
    digest_content,
)
from ..tools.record import Entry, Event, Judged, name_caller, name_decision
from ..tools.risk import Risk
from .background import complete
from .counts import Counts
from .following import Follower
from .leases import Lease
from .proposal_entries import Actor, enter_draft, enter_move, enter_step
from .proposal_states import Rule, conflict_of, move_to
from .proposal_store import EXPIRING, ProposalEvent, ProposalStore
from .settings import ProposalSettings
from .state import State
from .unfinished import doubt
from .votes import check_glass, find_lack

if TYPE_CHECKING:
    from .gate import Recorder

VERDICT_ACTIONS: Mapping[Verdict, Action] = {
    Verdict.APPROVE: Action.PROPOSAL_APPROVE,
    Verdict.BREAK_GLASS: Action.PROPOSAL_BREAK_GLASS,
    Verdict.REJECT: Action.PROPOSAL_REJECT,
}
"""What policy is asked about each verdict."""

APPLIER = Caller(
    issuer="arborgate",
    subject="applier",
    name="the applier",
    groups=frozenset(),
    roles=frozenset({"applier"}),
    agent="",
    channel=Channel.APPLIER,
    itself=True,
    binding=Binding.LOCAL,
)
"""Who the applier is, in policy and on record. No identity provider can issue a token for it."""

_WAKES = frozenset({ProposalState.DRAFTED, ProposalState.APPROVED})
_ATTEMPTS = 5

log = logging.getLogger(__name__)


class ProposalBook:
    """The proposals. Every move is recorded as intended before it is made, and with its outcome after; what can't be
    recorded is not done. A move that lost a race is judged again by what is there now."""

    def __init__(
        self,
        state: State,
        audit: Recorder,
        settings: ProposalSettings,
        clock: Callable[[], float] = time.time,
        *,
        count_broken: Callable[[], None] = lambda: None,
        clean: Callable[[str], str] = str,
        quorum: Callable[[Content], int] | None = None,
        hold: Callable[[Change], Change] = lambda change: change,
    ) -> None:
        """`quorum` finds how many have to approve what is drafted here; without it the settings say. `count_broken`
        is called for each glass that is broken here. `clean` takes secrets out of what agents and systems say before it
        is kept, so that it is never kept anywhere and an approval is of what is shown.
        `hold` adds to a change what the settings ask of its app."""
        self.store = ProposalStore(state)
        self.follower = Follower(self.store)
        self._audit = audit
        self._settings = settings
        self._clock = clock
        self._count_broken = count_broken
        self._clean = clean
        self._quorum = quorum
        self._hold = hold

    def new_id(self) -> str:
        """An id that no proposal has, for a draft whose changes name it."""
        return _new_id(self._clock())

    async def draft(self, caller: Caller, draft: Draft) -> Proposal:
        """Keeps a new proposal (`drafted`) and hands it to the applier for rehearsal."""
        now = round(self._clock(), 3)
        content = Content(
            id=draft.id or self.new_id(),
            title=self._clean(draft.title),
            reason=self._clean(draft.reason),
            requester=Requester.of(caller),
            created_at=now,
            expires_at=round(now + self._settings.expire_after, 3),
            environments=draft.environments,
            risk=draft.risk,
            factors=draft.factors,
            approvals_needed=approvals_needed(self._settings, draft.risk),
            changes=tuple(map(self._hold, draft.changes)),
            evidence=tuple(one.model_copy(update={"note": self._clean(one.note)}) for one in draft.evidence),
        )
        if self._quorum:
            content = content.model_copy(update={"approvals_needed": self._quorum(content)})
        digest_content(content)  # what has no canonical form could never be approved: refuse it now
        proposal = Proposal(content=content, digest="", state=ProposalState.DRAFTED, state_at=now)
        return await complete(self._keep(proposal, caller))

    async def settle(self, proposal_id: str, timeout: float) -> Proposal:
        """The proposal once it has left `drafted`, or as it is after `timeout` seconds."""
        proposal = await self.get(proposal_id)
        if proposal.state is ProposalState.DRAFTED and timeout > 0:
            with suppress(Busy):  # then nobody waits, and the answer says that it is drafted
                return await self.wait(proposal, proposal.content.requester.key, timeout)
        return proposal

    async def wait(self, proposal: Proposal, by: str, timeout: float) -> Proposal:
        """The proposal as soon as it is another than this, or as it is after `timeout` seconds; `by` is the key of the
        person who waits. Raises `Busy` when they wait for too many."""
        ends = time.monotonic() + timeout
        async with self.follower.watch(proposal.id, by) as watch:
            while (now := await self.get(proposal.id)) == proposal and (left := ends - time.monotonic()) > 0:
                if not await watch.wait(left):
                    break
        return now

    async def get(self, proposal_id: str) -> Proposal:
        """Raises `NotThere`."""
        return (await self.store.read(proposal_id)).proposal

    async def list(self, query: ProposalQuery) -> ProposalPage:
        """Newest first; `before` and `next` are ids."""
        return await self.store.page(query)

    async def counts(self, *proposals: Proposal) -> Counts:
        """What policy has to be told about deciding on these proposals; raises `Unavailable`."""
        return await self.store.counts(change.target.app for one in proposals for change in one.content.changes)

    async def unreviewed(self) -> Sequence[Proposal]:
        """The proposals with broken glass that nobody has reviewed, the longest waiting first."""
        return await self.store.unreviewed()

    async def stuck(self) -> Sequence[Proposal]:
        """The proposals that keep their targets until a person releases them, the longest waiting first."""
        return await self.store.stuck()

    async def has_applied(self, requester: str) -> bool:
        """Whether any proposal of the person with this key was ever applied."""
        return await self.store.has_applied(requester)

    async def events(self, after: str = "") -> AsyncIterator[ProposalEvent]:
        """What happens to proposals behind a position (default: from now on), as it happens, without end."""
        async for event in self.store.events(after or await self.store.last_event()):
            if event:
                yield event

    async def withdraw(self, proposal_id: str, caller: Caller) -> Proposal:
        """`drafted`, `proposed` or `approved` to `withdrawn`."""
        return await self._move(proposal_id, self._to(ProposalState.WITHDRAWN), caller)

    async def decide(self, approval: Approval, *, alone: bool = False) -> Proposal:
        """Counts a signed vote on exactly one digest: enough approvals make it `approved`, as does broken glass alone;
        one rejection makes it `rejected`.

        Raises `Denied` for the requester's own vote, `Conflict` for a second vote, another digest or a state that is
        past deciding, `Invalid` for broken glass without a reason or an end, and `Refused` once the proposal has expired
        (which it then has, whoever noticed first). `alone`: the vote of a parent app needs no person's beside it."""
        if not (approval.signature or approval.statement):
            raise Invalid("An approval has to be signed.", field="signature")
        decided = await self._move(approval.proposal, self._vote(approval, alone), approval.approver)
        if decided.state is ProposalState.EXPIRED:
            raise Refused("This proposal has expired.", hint="Propose it again.")
        if approval.verdict is Verdict.BREAK_GLASS:
            self._count_broken()
            told = (decided.id, approval.approver.key, approval.comment)
            log.warning("the glass was broken for proposal %s by %r, and has to be reviewed: %r", *told)
        return decided

    async def review(self, proposal_id: str, review: GlassReview) -> Proposal:
        """Keeps what somebody found about broken glass, once.

        Raises `Denied` for who broke it or asked for the change, `Conflict` while it is not over or when it was reviewed
        before, `Refused` where no glass was broken."""

        def rule(proposal: Proposal) -> Proposal:
            if proposal.glass is None:
                raise Refused("The glass was not broken for this.")
            if review.reviewer.key in (proposal.breaker, proposal.content.requester.key):
                raise Denied(
                    "Who broke the glass or asked for the change does not review it.", hint="Ask somebody else."
                )
            if proposal.review is not None:
                raise Conflict("It has been reviewed already.")
            if not (proposal.state.final or proposal.state is ProposalState.FAILED):
                raise conflict_of(proposal, "be reviewed yet")
            return proposal.model_copy(update={"review": review})

        return await self._move(proposal_id, rule, review.reviewer)

    async def release(self, proposal_id: str, release: Release) -> Proposal:
        """Lets others change the targets of a stuck proposal again, once the applier has heard of it.

        Raises `Conflict` unless it is stuck."""

        def rule(proposal: Proposal) -> Proposal:
            if not (proposal.state is ProposalState.FAILED and proposal.stuck):
                raise conflict_of(proposal, "be released")
            return proposal.model_copy(update={"release": release})

        return await self._move(proposal_id, rule, release.by)

    async def rehearsed(self, proposal_id: str, rehearsal: Rehearsal, note: str = "") -> Proposal:
        """`drafted` to `proposed`, or to `refused` when a dry run failed or `note` says why it can't be proposed.

        The rehearsal becomes part of the content, and with it the digest is final."""

        def rule(proposal: Proposal) -> Proposal:
            refused = bool(note) or not rehearsal.ok
            after = self._to(ProposalState.REFUSED if refused else ProposalState.PROPOSED, note)(proposal)
            content = proposal.content.model_copy(update={"rehearsal": self.clean_rehearsal(rehearsal)})
            return after.model_copy(update={"content": content, "digest": digest_content(content)})

        return await self._move(proposal_id, rule, APPLIER)

    async def close(self, proposal_id: str, state: ProposalState, note: str) -> Proposal:
        """Ends a proposal that the applier finds stale, expired or not validly approved."""
        return await self._move(proposal_id, self._to(state, note), APPLIER)

    async def begin(self, proposal_id: str, lease: Lease, counts: Counts) -> Proposal:
        """`approved` to `applying`, every change pending, and all of them counted as begun.

        Raises `Outpaced` when something of the same apps was begun after `counts` were read."""

        def rule(proposal: Proposal) -> Proposal:
            steps = tuple(Step() for _ in proposal.content.changes)
            return self._to(ProposalState.APPLYING)(proposal).model_copy(update={"steps": steps})

        return await self._move(proposal_id, rule, APPLIER, lease, counts)

    async def step(self, proposal_id: str, index: int, step: Step, lease: Lease) -> Proposal:
        """Keeps how far one change has come, recorded first. Raises `LostLease` when it is no longer ours to say."""
        before = await self.store.read(proposal_id)
        proposal = before.proposal
        if proposal.state not in (ProposalState.APPLYING, ProposalState.FAILED):
            raise conflict_of(proposal, "apply")
        if (entry := enter_step(proposal, index, step, APPLIER)) is not None:
            await self._audit.write(entry)
        step = step.model_copy(update={"at": step.at or self._clock(), "message": self._clean(step.message)})
        after = proposal.model_copy(update={"steps": (*proposal.steps[:index], step, *proposal.steps[index + 1 :])})
        if not await self.store.swap(before, after, by=APPLIER.key, lease=lease):
            raise Conflict("Somebody else has changed this proposal while it was being applied.")
        return after

    async def finish(self, proposal_id: str, state: ProposalState, note: str, lease: Lease) -> Proposal:
        """`applying` to `applied` or `failed`, `failed` to `rolled_back`."""
        return await self._move(proposal_id, self._to(state, note), APPLIER, lease)

    async def remark(self, proposal_id: str, note: str, lease: Lease) -> Proposal:
        """Says more about why a proposal `failed`: what could not be undone."""

        def rule(proposal: Proposal) -> Proposal:
            if proposal.state is not ProposalState.FAILED:
                raise conflict_of(proposal, "be remarked on")
            return proposal.model_copy(update={"state_note": self._clean(note)})

        return await self._move(proposal_id, rule, APPLIER, lease)

    async def note(self, proposal: Proposal, judged: Judged) -> None:
        """Records what policy said of a proposal while it was being applied."""
        decision, question, policy_set = judged
        await self._audit.write(
            Entry(
                event=Event.CALL_ANSWERED if decision.allowed else Event.CALL_DENIED,
                **name_caller(question.caller),
                action=question.action,
                resource=f"Proposal::{proposal.id}",
                arguments_digest=proposal.digest,
                outcome="ok" if decision.allowed else Reason.DENIED,
                proposal=proposal.id,
                **name_decision(decision, question, policy_set, "by the applier, before a change is started"),
            )
        )

    async def expire_due(self) -> int:
        """Expires every proposal whose time is up; returns how many."""
        expired = 0
        for proposal_id in await self.store.due(self._clock()):
            try:
                await self._move(proposal_id, self._to(ProposalState.EXPIRED), APPLIER)
                expired += 1
            except Conflict:
                continue  # somebody was first
            except (NotThere, Refused):
                await self.store.forget_expiry(proposal_id)
        return expired

    def clean_rehearsal(self, rehearsal: Rehearsal) -> Rehearsal:
        """The rehearsal as it is kept: without secrets."""
        changes = [
            one.model_copy(
                update={"warnings": tuple(map(self._clean, one.warnings)), "refusal": self._clean(one.refusal)}
            )
            for one in rehearsal.changes
        ]
        return rehearsal.model_copy(update={"changes": tuple(changes)})

    def _to(self, state: ProposalState, note: str = "") -> Rule:
        return lambda proposal: move_to(proposal, state, self._clock(), self._clean(note))

    def _vote(self, approval: Approval, alone: bool) -> Rule:
        def rule(proposal: Proposal) -> Proposal:
            content = proposal.content
            if approval.approver.key == content.requester.key:
                raise Denied("Who asked for a change never decides on it.", hint="Withdraw it, or ask somebody else.")
            if proposal.state in EXPIRING and self._clock() >= proposal.ends_at:
                return self._to(ProposalState.EXPIRED)(proposal)
            match approval.verdict:
                case Verdict.APPROVE:
                    after = self._approve(proposal, approval, alone)
                case Verdict.BREAK_GLASS:
                    check_glass(approval, self._settings.break_glass_lasts)
                    after = self._to(ProposalState.APPROVED)(proposal)
                case Verdict.REJECT:
                    after = self._to(ProposalState.REJECTED, approval.comment)(proposal)
            if not approval.digest == proposal.digest == digest_content(content):
                raise Conflict("What was decided on is not what this proposal says.", field="digest")
            return after.model_copy(update={"approvals": (*proposal.approvals, approval)})

        return rule

    def _approve(self, proposal: Proposal, approval: Approval, alone: bool) -> Proposal:
        approved = self._to(ProposalState.APPROVED)(proposal)
        voters = {one.approver.key for one in proposal.approvals}
        if approval.approver.key in voters:
            raise Conflict("You have approved this already.")
        votes, content = (*proposal.approvals, approval), proposal.content
        return proposal if find_lack(votes, content.approvals_needed, content.risk, alone=alone) else approved

    async def _keep(self, proposal: Proposal, caller: Caller) -> Proposal:
        entry = enter_draft(proposal, caller)
        await self._audit.write(replace(entry, outcome="intended"))
        try:
            await self.store.swap(None, proposal, by=caller.key, wake=True)
        except ArborgateError as error:
            await self._audit.write(replace(entry, outcome=error.reason, detail=error.detail))
            doubt(self._audit, self.store, entry, error)
            raise
        await self._audit.write(replace(entry, outcome="ok"))
        return proposal

    async def _move(
        self, proposal_id: str, rule: Rule, by: Actor, lease: Lease | None = None, counts: Counts | None = None
    ) -> Proposal:
        """Once begun, a move is finished even when its caller goes away: its outcome belongs on the record."""
        return await complete(self._move_now(proposal_id, rule, by, lease, counts))

    async def _move_now(
        self, proposal_id: str, rule: Rule, by: Actor, lease: Lease | None, counts: Counts | None
    ) -> Proposal:
        entry: Entry | None = None
        try:
            for _ in range(_ATTEMPTS):
                before = await self.store.read(proposal_id)
                after = rule(before.proposal)
                if entry is None:
                    entry = enter_move(before.proposal, after, by)
                    await self._audit.write(replace(entry, outcome="intended"))
                wake = after.state in _WAKES and after.state is not before.proposal.state
                wake = wake or after.release is not before.proposal.release
                if await self.store.swap(before, after, by=by.key, lease=lease, wake=wake, counts=counts):
                    break
            else:
                raise Conflict("Too many decided on this proposal at once.", hint="Try again.")
        except ArborgateError as error:
            if entry is not None:
                await self._audit.write(replace(entry, outcome=error.reason, detail=error.detail or error.message))
                doubt(self._audit, self.store, entry, error)
            raise
        await self._audit.write(replace(entry, outcome="ok"))
        return after


def approvals_needed(settings: ProposalSettings, risk: Risk) -> int:
    """How many people have to approve a proposal of this risk."""
    return settings.approvals_high if risk is Risk.HIGH else settings.approvals_low


def _new_id(now: float) -> str:
    """Sorts by the second it was made in; the other 48 bits can't be guessed."""
    raw = struct.pack(">I", int(now)) + secrets.token_bytes(6)
    return f"p-{base64.b32hexencode(raw).decode().lower()}"
