"""What a person may see and decide: the one path of the pages and of the terminal, from caller to recorded answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from ...policies.engine import Engine
from ...policies.errors import ArborgateError, Denied, Invalid, LoginNeeded, NotThere, Reason, Refused
from ...policies.model import INSTALLATION, Action, Caller, Channel, Decision, Question, Resource, ResourceType
from ...tools.cuts import shorten
from ...tools.proposal import (
    Approval,
    Assertion,
    Finding,
    GlassReview,
    Proposal,
    ProposalPage,
    ProposalQuery,
    Requester,
    Verdict,
    proposal_resources,
    touched,
)
from ...tools.reach import Keep
from ...tools.record import Entry, Event, Judged, Record, RecordQuery, Records, name_caller, name_decision
from ...tools.tree import AppId, AppTree, Node
from ..counts import Counts
from ..enrolment import Enrolment
from ..following import Follower
from ..gate import Recorder
from ..proposals import VERDICT_ACTIONS
from ..reasons import explain_denial
from ..steering import Command, Steered, Steering
from ..step_up import find_login
from ..votes import check_glass
from .budgets import find_budgets
from .checks import check_app, check_comment, check_digest
from .rulings import SIGN_THERE, SIGNED, UNSIGNED, Ruling, Seen, explain, find_obstacle, rule

_RECORDS_SHOWN = 100


class Book(Steered, Protocol):
    """The proposals, as far as people read and decide them."""

    follower: Follower

    async def list(self, query: ProposalQuery) -> ProposalPage: ...

    async def decide(self, approval: Approval) -> Proposal: ...

    async def review(self, proposal_id: str, review: GlassReview) -> Proposal: ...

    async def counts(self, *proposals: Proposal) -> Counts: ...

    async def unreviewed(self) -> Sequence[Proposal]: ...


@dataclass(frozen=True, slots=True)
class Review:
    """Shows proposals to people and takes their verdicts. Deny by default, and nothing happens off the record."""

    book: Book
    records: Records
    tree: AppTree
    engine: Callable[[], Engine]
    audit: Recorder
    sign: Callable[[Approval], Approval]
    steering: Steering
    clock: Callable[[], float]
    acr_values: tuple[str, ...] = ()
    """What a stronger login can be, the weakest first (RFC 9470)."""
    glass_lasts: float = 900.0
    """How many seconds after breaking the glass applying must have begun."""
    enrolment: Enrolment | None = None
    """The passkeys that verdicts are signed with; None where none are used."""
    must_sign: Callable[[Proposal], bool] = lambda _: False
    """Whether the next approval has to be signed for the proposal ever to be applied."""

    async def find(self, caller: Caller, query: ProposalQuery) -> tuple[list[Seen], str]:
        """The proposals that the caller may see, newest first, and the position to go on from (`""` at the end).

        Raises `Denied` for a caller who may not list at all."""
        judged = self._judge(caller, Action.PROPOSAL_LIST)
        if not judged.decision.allowed:
            await self._record(Event.CALL_DENIED, caller, Action.PROPOSAL_LIST, INSTALLATION.uid, judged)
            raise Denied("You may not see proposals.", hint="Ask the platform team which group you need.")
        page = await self.book.list(query)
        visible = [
            proposal for proposal in page.proposals if self._decide(caller, Action.PROPOSAL_READ, proposal).allowed
        ]
        await self._record(Event.CALL_ANSWERED, caller, Action.PROPOSAL_LIST, INSTALLATION.uid, judged)
        counts = await self.book.counts(*visible)
        return [self._seen(caller, proposal, counts) for proposal in visible], page.next

    async def get(self, caller: Caller, proposal_id: str) -> Seen:
        """One proposal. Raises `NotThere` when it does not exist and, in the same words, when it may not be seen."""
        proposal = await self._find(caller, proposal_id)
        counts = await self.book.counts(proposal)
        judged = self._judge(caller, Action.PROPOSAL_READ, proposal)
        await self._record(Event.CALL_ANSWERED, caller, Action.PROPOSAL_READ, _uid(proposal), judged)
        seen = await self._steered(self._seen(caller, proposal, counts))
        return replace(seen, budgets=find_budgets(self.engine(), proposal, self._apps(proposal), counts, self.clock()))

    async def look_again(self, caller: Caller, proposal_id: str) -> Seen:
        """What has become of a proposal that was shown by `get`, which has it on record that the caller follows it; what
        they may not see any more is on record each time. Raises as `get` does."""
        proposal = await self._find(caller, proposal_id)
        return await self._steered(self._seen(caller, proposal, await self.book.counts(proposal)))

    async def decide(
        self,
        caller: Caller,
        proposal_id: str,
        verdict: Verdict,
        *,
        digest: str,
        comment: str = "",
        app: str = "",
        assertion: Assertion | None = None,
        until: float = 0.0,
    ) -> Proposal:
        """Gives the caller's verdict on exactly the content that `digest` stands for; returns the proposal after it.

        To break the glass takes a reason (`comment`) and, typed out, the name of the `app` (the first it touches).
        `assertion` is what the caller's passkey signed, and `until` when the broken glass lapses that it is about.
        Raises `NotThere`, `Denied` (`LoginNeeded` where another login would do), `Refused` (not in a state to be decided,
        or asked for by the caller), `Conflict` (the digest shown is not the digest now, or somebody was first), `Invalid`
        (comment, app), `Unavailable` or `Unrecorded`."""
        check_comment(comment)
        proposal = await self._find(caller, proposal_id)
        counts = await self.book.counts(proposal)
        action, uid = VERDICT_ACTIONS[verdict], _uid(proposal)
        now, breaking = self.clock(), verdict is Verdict.BREAK_GLASS
        assertion = assertion if self.enrolment else None
        judged = self._judge(caller, action, proposal, counts, signed=assertion is not None)
        approval = Approval(
            proposal=proposal.id,
            digest=proposal.digest,
            verdict=verdict,
            approver=Requester.of(caller),
            comment=comment.strip(),
            at=now,
            authenticated_at=caller.authenticated_at,
            session=caller.session,
            until=(until if assertion else float(int(now + self.glass_lasts))) if breaking else 0.0,
            assertion=assertion,
        )
        async with self._intending(caller, action, uid, judged):
            self._check(caller, proposal, action, self._decide_signed(caller, action, proposal, counts), counts)
            if assertion is None and self._has_to_sign(caller, action, proposal, counts):
                raise Refused(UNSIGNED, hint=SIGN_THERE)
            check_digest(proposal, digest)
            if breaking:
                check_glass(approval, self.glass_lasts)
                check_app(proposal, app)
            if self.enrolment:
                await self.enrolment.accept(approval, proposal.content)
        return await self._do(caller, action, uid, judged, self.book.decide(self.sign(approval)))

    async def review_glass(self, caller: Caller, proposal_id: str, finding: Finding, *, comment: str) -> Proposal:
        """Keeps what the caller finds about broken glass; returns the proposal after it.

        Raises `NotThere`, `Denied` (`LoginNeeded`), `Refused` (nothing to review, not over, or the caller had a part in
        it), `Conflict` (somebody was first), `Invalid` (comment), `Unavailable` or `Unrecorded`."""
        check_comment(comment)
        proposal = await self._find(caller, proposal_id)
        counts = await self.book.counts(proposal)
        action, uid = Action.PROPOSAL_REVIEW, _uid(proposal)
        judged = self._judge(caller, action, proposal, counts)
        async with self._intending(caller, action, uid, judged):
            self._check(caller, proposal, action, judged.decision, counts)
            if not comment.strip():
                raise Invalid("Say what you found.", field="comment")
        review = GlassReview(
            finding=finding, reviewer=Requester.of(caller), comment=comment.strip(), at=round(self.clock(), 3)
        )
        return await self._do(caller, action, uid, judged, self.book.review(proposal.id, review))

    async def steer(self, caller: Caller, proposal_id: str, command: Command, *, comment: str = "") -> Proposal:
        """Tells the applier what to do about the proposal; returns what it was about.

        Raises `NotThere`, `Denied` (`LoginNeeded`), `Refused` (nothing to steer), `Conflict` (it is so already, or would
        take an abort back), `Invalid` (comment), `Unavailable` or `Unrecorded`."""
        check_comment(comment)
        proposal = await self._find(caller, proposal_id)
        counts = await self.book.counts(proposal)
        action, uid = Action.PROPOSAL_STEER, _uid(proposal)
        judged = self._judge(caller, action, proposal, counts)
        async with self._intending(caller, action, uid, judged):
            self._check(caller, proposal, action, judged.decision, counts)
        return await self._do(caller, action, uid, judged, self.steering.steer(proposal.id, command, caller, comment))

    async def unreviewed(self, caller: Caller) -> list[Seen]:
        """The proposals with broken glass that nobody has reviewed, as far as the caller may see them, the longest
        waiting first. Raises `Denied` for a caller who may not list at all."""
        judged = self._judge(caller, Action.PROPOSAL_LIST)
        event = Event.CALL_ANSWERED if judged.decision.allowed else Event.CALL_DENIED
        await self._record(event, caller, Action.PROPOSAL_LIST, INSTALLATION.uid, judged)
        if not judged.decision.allowed:
            raise Denied("You may not see proposals.", hint="Ask the platform team which group you need.")
        visible = await self._find_unreviewed(caller)
        counts = await self.book.counts(*visible)
        return [self._seen(caller, proposal, counts) for proposal in visible]

    async def count_unreviewed(self, caller: Caller) -> int:
        """How many of them the caller may see, for what every page says; a page is on record by itself."""
        return len(await self._find_unreviewed(caller))

    def rule(self, caller: Caller, proposal: Proposal, action: Action, counts: Counts) -> Ruling:
        """Whether the caller may do this about the proposal now, in words that say why."""
        if obstacle := find_obstacle(caller, proposal, action, self.clock()):
            return Ruling(False, obstacle)
        decision = self._decide_signed(caller, action, proposal, counts)
        signs = decision.allowed and self._has_to_sign(caller, action, proposal, counts)
        if signs and caller.channel is not Channel.PAGES:
            return Ruling(False, f"{UNSIGNED} {SIGN_THERE}", decision.policies, signs=True)
        if decision.allowed:
            return replace(rule(decision, None), signs=signs)
        login = self._find_login(caller, proposal, action, counts)
        return rule(decision, login, self._explain(caller, proposal, decision))

    async def records_of(self, caller: Caller, proposal: Proposal) -> Sequence[Record]:
        """What was done about the proposal, oldest first: by everyone, or as policy may have it by the caller alone.

        Raises `Denied` or `Unavailable`."""
        if not self._decide(caller, Action.RECORD_SEARCH, proposal).allowed:
            raise Denied("You may not search the record.")
        everyone = self._decide(caller, Action.RECORD_SEARCH_ALL, proposal).allowed
        query = RecordQuery(proposal=proposal.id, caller="" if everyone else caller.key, limit=_RECORDS_SHOWN)
        found = (await self.records.search(query)).records
        # What was intended is followed by its outcome, and looking changes nothing.
        return [one for one in reversed(found) if one.outcome != "intended" and one.event is not Event.CALL_ANSWERED]

    async def apps(self, caller: Caller) -> list[Node]:
        """Every app that the caller may see, worst first. Raises `Denied`."""
        judged = self._judge(caller, Action.APP_LIST)
        event = Event.CALL_ANSWERED if judged.decision.allowed else Event.CALL_DENIED
        await self._record(event, caller, Action.APP_LIST, INSTALLATION.uid, judged)
        if not judged.decision.allowed:
            raise Denied("You may not see the app tree.", hint="Ask the platform team which group you need.")
        return self._visible(caller, self.tree.nodes())

    def reads_personal(self, caller: Caller, proposal: Proposal | None = None) -> bool:
        """Whether the caller may see the personal data in a proposal, on every app it touches; without one, in what is
        about the whole installation."""
        return self._judge(caller, Action.PERSONAL_READ, proposal).decision.allowed

    def find_personal(self, caller: Caller, nodes: Sequence[Node]) -> frozenset[AppId]:
        """Those of the apps of which the caller may see personal data."""
        answers = self.engine().visible(caller, Action.PERSONAL_READ, [node.resource for node in nodes])
        return frozenset(node.app.id for node, shows in zip(nodes, answers, strict=True) if shows)

    def named(self, caller: Caller, text: str) -> list[Node]:
        """The visible apps that the text can mean."""
        return self._visible(caller, self.tree.named(text))

    def keep_for(self, caller: Caller) -> Keep:
        """What keeps, of any apps, those that the caller may see."""
        return lambda nodes: self._visible(caller, nodes)

    def _visible(self, caller: Caller, nodes: Sequence[Node]) -> list[Node]:
        answers = self.engine().visible(caller, Action.APP_READ, [node.resource for node in nodes])
        return [node for node, seen in zip(nodes, answers, strict=True) if seen]

    async def _find(self, caller: Caller, proposal_id: str) -> Proposal:
        uid = f"{ResourceType.PROPOSAL}::{shorten(proposal_id, 64)}"
        try:
            proposal = await self.book.get(proposal_id)
        except NotThere as error:
            await self._record(Event.CALL_FAILED, caller, Action.PROPOSAL_READ, uid, error=error)
            raise _not_there() from error
        judged = self._judge(caller, Action.PROPOSAL_READ, proposal)
        if not judged.decision.allowed:
            await self._record(Event.CALL_DENIED, caller, Action.PROPOSAL_READ, uid, judged)
            raise _not_there()
        return proposal

    async def _find_unreviewed(self, caller: Caller) -> list[Proposal]:
        broken = await self.book.unreviewed()
        return [one for one in broken if self._decide(caller, Action.PROPOSAL_READ, one).allowed]

    @asynccontextmanager
    async def _intending(self, caller: Caller, action: Action, uid: str, judged: Judged) -> AsyncIterator[None]:
        """What is checked inside is on record after it: that it was refused, and why, or that it is about to be done."""
        try:
            yield
        except ArborgateError as error:
            event = Event.CALL_FAILED if judged.decision.allowed else Event.CALL_DENIED
            await self._record(event, caller, action, uid, judged, error=error)
            raise
        await self._record(Event.CALL_INTENDED, caller, action, uid, judged)

    async def _do(
        self, caller: Caller, action: Action, uid: str, judged: Judged, doing: Awaitable[Proposal]
    ) -> Proposal:
        try:
            return await doing
        except ArborgateError as error:
            await self._record(Event.CALL_FAILED, caller, action, uid, judged, error=error)
            raise

    async def _steered(self, seen: Seen) -> Seen:
        return replace(seen, hold=await self.steering.standing(seen.proposal))

    def _seen(self, caller: Caller, proposal: Proposal, counts: Counts) -> Seen:
        seen = Seen(
            proposal,
            approve=self.rule(caller, proposal, Action.PROPOSAL_APPROVE, counts),
            reject=self.rule(caller, proposal, Action.PROPOSAL_REJECT, counts),
            break_glass=self.rule(caller, proposal, Action.PROPOSAL_BREAK_GLASS, counts),
            review=self.rule(caller, proposal, Action.PROPOSAL_REVIEW, counts),
            steer=self.rule(caller, proposal, Action.PROPOSAL_STEER, counts),
        )
        # Who may decide it now sees all of it: their verdict is on exactly what the digest stands for, and whether
        # [mail:1] belongs among the admins can be judged by nobody.
        judges = any(ruling.allowed for ruling in (seen.approve, seen.reject, seen.break_glass, seen.review))
        return replace(seen, personal=judges or self.reads_personal(caller, proposal))

    def _decide_signed(self, caller: Caller, action: Action, proposal: Proposal, counts: Counts) -> Decision:
        """What policy says of it when it is signed with a passkey, where there are any."""
        return self._judge(caller, action, proposal, counts, signed=self.enrolment is not None).decision

    def _has_to_sign(self, caller: Caller, action: Action, proposal: Proposal, counts: Counts) -> bool:
        """Whether policy lets the caller do it with a passkey's signature alone."""
        if self.enrolment is None or action not in SIGNED:
            return False
        unsigned = self._decide(caller, action, proposal, counts)
        return not unsigned.allowed or (action is Action.PROPOSAL_APPROVE and self.must_sign(proposal))

    def _decide(self, caller: Caller, action: Action, proposal: Proposal, counts: Counts | None = None) -> Decision:
        return self._judge(caller, action, proposal, counts).decision

    def _judge(
        self,
        caller: Caller,
        action: Action,
        proposal: Proposal | None = None,
        counts: Counts | None = None,
        *,
        signed: bool = False,
    ) -> Judged:
        """The decision over the proposal under each app it touches: every one must allow. Without a proposal it is one
        over the installation. A proposal without changes touches nothing that anybody could be allowed to decide on."""
        engine, now = self.engine(), self.clock()
        apps = self._apps(proposal) if proposal else []
        resources = proposal_resources(proposal, apps) if proposal else (INSTALLATION,)
        told = [
            counts.context(action, proposal, app.id, caller.key, now, signed=signed)
            for app in apps
            if counts and proposal
        ]
        question = Question(caller, action, resources, tuple(told), now)
        return Judged(engine.answer(question), question, engine.digest)

    def _explain(self, caller: Caller, proposal: Proposal, decision: Decision) -> str:
        resources = proposal_resources(proposal, self._apps(proposal))
        return explain_denial(self.engine(), caller, resources, decision, self.clock())

    def _find_login(self, caller: Caller, proposal: Proposal, action: Action, counts: Counts) -> LoginNeeded | None:
        def allows(other: Caller) -> bool:
            return self._decide_signed(other, action, proposal, counts).allowed

        return find_login(caller, action, allows, acr_values=self.acr_values, now=self.clock())

    def _apps(self, proposal: Proposal) -> list[Resource]:
        return [self.tree.resource(app_id) for app_id in touched(proposal)]

    def _check(self, caller: Caller, proposal: Proposal, action: Action, decision: Decision, counts: Counts) -> None:
        if obstacle := find_obstacle(caller, proposal, action, self.clock()):
            raise Refused(obstacle)
        if not decision.allowed:
            reasons = self._explain(caller, proposal, decision)
            raise self._find_login(caller, proposal, action, counts) or Denied(explain(decision, reasons))

    async def _record(
        self,
        event: Event,
        caller: Caller,
        action: Action,
        resource: str,
        judged: Judged | None = None,
        *,
        error: ArborgateError | None = None,
    ) -> None:
        detail = (error.detail or error.message) if error else ""
        decision, question, policy_set = judged or (None, None, self.engine().digest)
        await self.audit.write(
            Entry(
                event=event,
                **name_caller(caller),
                action=action,
                resource=resource,
                **name_decision(decision, question, policy_set, detail),
                outcome=_outcome(event, judged, error),
                # Only what was done about a proposal is listed with it; who looked is found by the resource.
                proposal="" if action.hides else resource.partition("::")[2],
            )
        )


def _uid(proposal: Proposal) -> str:
    return f"{ResourceType.PROPOSAL}::{proposal.id}"


def _outcome(event: Event, judged: Judged | None, error: ArborgateError | None) -> str:
    if error is not None:
        return str(error.reason)
    if event is Event.CALL_INTENDED:
        return "intended"
    return "ok" if judged is None or judged.decision.allowed else str(Reason.DENIED)


def _not_there() -> NotThere:
    return NotThere("There is no such proposal, or you may not see it.")
