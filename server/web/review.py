"""What a person may see and decide: the one path of the pages and of the terminal, from caller to recorded answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...policies.engine import Engine
from ...policies.errors import ArborgateError, Conflict, Denied, Invalid, LoginNeeded, NotThere, Reason, Refused
from ...policies.model import (
    INSTALLATION,
    Action,
    Basis,
    Caller,
    Decision,
    Resource,
    ResourceType,
)
from ...tools.proposal import (
    Approval,
    Proposal,
    ProposalPage,
    ProposalQuery,
    ProposalState,
    Requester,
    Verdict,
    proposal_resources,
)
from ...tools.record import Entry, Event, Record, RecordQuery, Records, name_caller
from ...tools.tree import AppId, AppTree, Node
from ..gate import Recorder
from ..step_up import find_login

COMMENT_LIMIT = 2_000
"""The most characters of an approver's comment."""

_RECORDS_SHOWN = 100
_ACTIONS = {Verdict.APPROVE: Action.PROPOSAL_APPROVE, Verdict.REJECT: Action.PROPOSAL_REJECT}
_OPEN_TO = {
    Verdict.APPROVE: frozenset({ProposalState.PROPOSED}),
    Verdict.REJECT: frozenset({ProposalState.PROPOSED, ProposalState.APPROVED}),
}
_STANDING = {state: str(state).replace("_", " ") for state in ProposalState} | {ProposalState.APPLYING: "being applied"}
_DENIALS = {
    Basis.ERROR: "Policy could not be decided, which counts as no.",
    Basis.FORBID: "Policy forbids it.",
    Basis.NO_PERMIT: "No policy allows you to.",
}


class Book(Protocol):
    """The proposals, as far as people read and decide them."""

    async def get(self, proposal_id: str) -> Proposal: ...

    async def list(self, query: ProposalQuery) -> ProposalPage: ...

    async def decide(self, approval: Approval) -> Proposal: ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether the caller may give this verdict now: `why` in words, and the ids of the policies that decided.

    `login` is what would do where a more recent or a stronger login of the same person would be allowed."""

    verdict: Verdict
    allowed: bool
    why: str
    policies: tuple[str, ...] = ()
    login: LoginNeeded | None = None

    @property
    def login_helps(self) -> bool:
        return self.login is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """A proposal that the caller may see, with what they may do about it."""

    proposal: Proposal
    approve: Ruling
    reject: Ruling


@dataclass(frozen=True, slots=True)
class Review:
    """Shows proposals to people and takes their verdicts. Deny by default, and nothing happens off the record."""

    book: Book
    records: Records
    tree: AppTree
    engine: Callable[[], Engine]
    audit: Recorder
    sign: Callable[[Approval], Approval]
    clock: Callable[[], float]
    acr_values: tuple[str, ...] = ()
    """What a stronger login can be, the weakest first (RFC 9470)."""

    async def find(self, caller: Caller, query: ProposalQuery) -> tuple[list[Seen], str]:
        """The proposals that the caller may see, newest first, and the position to go on from (`""` at the end).

        Raises `Denied` for a caller who may not list at all."""
        decision = self.engine().decide(caller, Action.PROPOSAL_LIST, INSTALLATION)
        if not decision.allowed:
            await self._record(Event.CALL_DENIED, caller, Action.PROPOSAL_LIST, INSTALLATION.uid, decision)
            raise Denied("You may not see proposals.", hint="Ask the platform team which group you need.")
        page = await self.book.list(query)
        visible = [
            proposal for proposal in page.proposals if self._decide(caller, Action.PROPOSAL_READ, proposal).allowed
        ]
        await self._record(Event.CALL_ANSWERED, caller, Action.PROPOSAL_LIST, INSTALLATION.uid, decision)
        return [self._seen(caller, proposal) for proposal in visible], page.next

    async def get(self, caller: Caller, proposal_id: str) -> Seen:
        """One proposal. Raises `NotThere` when it does not exist and, in the same words, when it may not be seen."""
        proposal = await self._find(caller, proposal_id)
        decision = self._decide(caller, Action.PROPOSAL_READ, proposal)
        await self._record(Event.CALL_ANSWERED, caller, Action.PROPOSAL_READ, _uid(proposal), decision)
        return self._seen(caller, proposal)

    async def decide(
        self, caller: Caller, proposal_id: str, verdict: Verdict, *, digest: str, comment: str = ""
    ) -> Proposal:
        """Gives the caller's verdict on exactly the content that `digest` stands for; returns the proposal after it.

        Raises `NotThere`, `Denied` (`LoginNeeded` where another login would do), `Refused` (not in a state to be decided,
        or asked for by the caller), `Conflict` (the digest shown is not the digest now, or somebody was first), `Invalid`
        (comment) or `Unrecorded`."""
        if len(comment) > COMMENT_LIMIT:
            raise Invalid(f"A comment has at most {COMMENT_LIMIT} characters.", field="comment")
        proposal = await self._find(caller, proposal_id)
        action, uid = _ACTIONS[verdict], _uid(proposal)
        decision = self._decide(caller, action, proposal)
        try:
            self._check(caller, proposal, verdict, decision, digest)
        except ArborgateError as error:
            event = Event.CALL_FAILED if decision.allowed else Event.CALL_DENIED
            await self._record(event, caller, action, uid, decision, error=error)
            raise
        await self._record(Event.CALL_INTENDED, caller, action, uid, decision)
        approval = Approval(
            proposal=proposal.id,
            digest=proposal.digest,
            verdict=verdict,
            approver=Requester.of(caller),
            comment=comment.strip(),
            at=self.clock(),
            authenticated_at=caller.authenticated_at,
            session=caller.session,
        )
        try:
            return await self.book.decide(self.sign(approval))
        except ArborgateError as error:
            await self._record(Event.CALL_FAILED, caller, action, uid, decision, error=error)
            raise

    def rule(self, caller: Caller, proposal: Proposal, verdict: Verdict) -> Ruling:
        """Whether the caller may give this verdict now, in words that say why."""
        if obstacle := self._obstacle(caller, proposal, verdict):
            return Ruling(verdict, False, obstacle)
        decision = self._decide(caller, _ACTIONS[verdict], proposal)
        if decision.allowed:
            return Ruling(verdict, True, "Policy allows it.", decision.policies)
        login = self._find_login(caller, proposal, verdict)
        return Ruling(verdict, False, _say_login(login) or _DENIALS[decision.basis], decision.policies, login)

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
        decision = self.engine().decide(caller, Action.APP_LIST, INSTALLATION)
        event = Event.CALL_ANSWERED if decision.allowed else Event.CALL_DENIED
        await self._record(event, caller, Action.APP_LIST, INSTALLATION.uid, decision)
        if not decision.allowed:
            raise Denied("You may not see the app tree.", hint="Ask the platform team which group you need.")
        return self._visible(caller, self.tree.nodes())

    def named(self, caller: Caller, text: str) -> list[Node]:
        """The visible apps that the text can mean."""
        return self._visible(caller, self.tree.named(text))

    def apps_under(self, caller: Caller, proposal: Proposal) -> list[Node]:
        """The apps that the proposal touches and all below them, each once, as far as the caller may see them."""
        found: dict[AppId, Node] = {}
        for app_id in touched(proposal):
            if (node := self.tree.get(app_id)) is not None:
                found.update((below.app.id, below) for below in (node, *self.tree.descendants(node)))
        return self._visible(caller, list(found.values()))

    def _visible(self, caller: Caller, nodes: Sequence[Node]) -> list[Node]:
        answers = self.engine().visible(caller, Action.APP_READ, [node.resource for node in nodes])
        return [node for node, seen in zip(nodes, answers, strict=True) if seen]

    async def _find(self, caller: Caller, proposal_id: str) -> Proposal:
        uid = f"{ResourceType.PROPOSAL}::{proposal_id[:64]}"
        try:
            proposal = await self.book.get(proposal_id)
        except NotThere as error:
            await self._record(Event.CALL_FAILED, caller, Action.PROPOSAL_READ, uid, error=error)
            raise _not_there() from error
        decision = self._decide(caller, Action.PROPOSAL_READ, proposal)
        if not decision.allowed:
            await self._record(Event.CALL_DENIED, caller, Action.PROPOSAL_READ, uid, decision)
            raise _not_there()
        return proposal

    def _seen(self, caller: Caller, proposal: Proposal) -> Seen:
        approve, reject = (self.rule(caller, proposal, verdict) for verdict in (Verdict.APPROVE, Verdict.REJECT))
        return Seen(proposal, approve, reject)

    def _decide(self, caller: Caller, action: Action, proposal: Proposal) -> Decision:
        """The decision over the proposal under each app it touches: every one must allow."""
        engine, now = self.engine(), self.clock()
        policies: dict[str, None] = {}
        for resource in proposal_resources(proposal, self._apps(proposal)):
            decision = engine.decide(caller, action, resource, at=now)
            if not decision.allowed:
                return decision
            policies.update(dict.fromkeys(decision.policies))
        # A proposal without changes touches nothing that anybody could be allowed to decide on.
        return Decision(bool(policies), Basis.PERMIT if policies else Basis.NO_PERMIT, tuple(policies))

    def _find_login(self, caller: Caller, proposal: Proposal, verdict: Verdict) -> LoginNeeded | None:
        action = _ACTIONS[verdict]

        def allows(other: Caller) -> bool:
            return self._decide(other, action, proposal).allowed

        return find_login(caller, action, allows, acr_values=self.acr_values, now=self.clock())

    def _apps(self, proposal: Proposal) -> list[Resource]:
        return [self.tree.resource(app_id) for app_id in touched(proposal)]

    def _obstacle(self, caller: Caller, proposal: Proposal, verdict: Verdict) -> str:
        """What stands in the way of this verdict now, whatever policy says; `""` when nothing does."""
        content = proposal.content
        if proposal.state not in _OPEN_TO[verdict]:
            if proposal.state is ProposalState.DRAFTED:
                return "Its dry run is not done yet."
            return f"It is {_STANDING[proposal.state]}, so there is nothing to {verdict} any more."
        if content.expires_at <= self.clock():
            return "It has expired. Ask for it to be proposed again."
        if verdict is Verdict.APPROVE:
            if caller.key == content.requester.key:
                return "You asked for this yourself; somebody else has to approve it."
            if any(one.approver.key == caller.key for one in proposal.approvals):
                return "You have approved it already."
        return ""

    def _check(self, caller: Caller, proposal: Proposal, verdict: Verdict, decision: Decision, digest: str) -> None:
        if obstacle := self._obstacle(caller, proposal, verdict):
            raise Refused(obstacle)
        if not decision.allowed:
            raise self._find_login(caller, proposal, verdict) or Denied(explain(decision))
        if not secrets.compare_digest(digest.encode(), proposal.digest.encode()):
            raise Conflict(
                "What you saw is not what this proposal says now, so nothing was decided.",
                field="digest",
                hint="Read it again, then decide.",
            )

    async def _record(
        self,
        event: Event,
        caller: Caller,
        action: Action,
        resource: str,
        decision: Decision | None = None,
        *,
        error: ArborgateError | None = None,
    ) -> None:
        detail = (error.detail or error.message) if error else ""
        await self.audit.write(
            Entry(
                event=event,
                **name_caller(caller),
                action=action,
                resource=resource,
                decision="" if decision is None else "allow" if decision.allowed else "deny",
                policies=decision.policies if decision else (),
                policy_set=self.engine().digest,
                outcome=_outcome(event, decision, error),
                detail=decision.error if decision and decision.error else detail,
                # Only what was done about a proposal is listed with it; who looked is found by the resource.
                proposal="" if action.hides else resource.partition("::")[2],
            )
        )


def touched(proposal: Proposal) -> list[AppId]:
    """The apps whose objects the proposal changes, each once, in the order of the changes."""
    return list(dict.fromkeys(AppId(*change.target.app.split("/", 2)) for change in proposal.content.changes))


def explain(decision: Decision) -> str:
    """Why not, in words that name the policies."""
    named = f" Decided by {', '.join(decision.policies)}." if decision.policies else ""
    return _DENIALS[decision.basis] + named


def _say_login(login: LoginNeeded | None) -> str:
    if login is None:
        return ""
    return "This needs a stronger login than yours." if login.acr_values else "Your login is too old for this."


def _uid(proposal: Proposal) -> str:
    return f"{ResourceType.PROPOSAL}::{proposal.id}"


def _outcome(event: Event, decision: Decision | None, error: ArborgateError | None) -> str:
    if error is not None:
        return str(error.reason)
    if event is Event.CALL_INTENDED:
        return "intended"
    return "ok" if decision is None or decision.allowed else str(Reason.DENIED)


def _not_there() -> NotThere:
    return NotThere("There is no such proposal, or you may not see it.")
