"""What a person may do about a proposal, in words that say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...policies.errors import LoginNeeded
from ...policies.model import Action, Basis, Caller, Decision
from ...tools.proposal import Hold, Proposal, ProposalState
from ..steering import STEERED

UNSIGNED = "This has to be signed with your passkey."
SIGN_THERE = "Decide on its page in the browser; passkeys are enrolled under /passkeys."

SIGNED = frozenset({Action.PROPOSAL_APPROVE, Action.PROPOSAL_BREAK_GLASS})
"""What a passkey's signature can be needed for: to stop something takes less."""

_VERBS: Mapping[Action, str] = {
    Action.PROPOSAL_APPROVE: "approve",
    Action.PROPOSAL_BREAK_GLASS: "break the glass for",
    Action.PROPOSAL_REJECT: "reject",
}
_OPEN_TO: Mapping[Action, frozenset[ProposalState]] = {
    Action.PROPOSAL_APPROVE: frozenset({ProposalState.PROPOSED}),
    Action.PROPOSAL_BREAK_GLASS: frozenset({ProposalState.PROPOSED}),
    Action.PROPOSAL_REJECT: frozenset({ProposalState.PROPOSED, ProposalState.APPROVED}),
}
_STANDING = {state: str(state).replace("_", " ") for state in ProposalState} | {ProposalState.APPLYING: "being applied"}
_DENIALS = {
    Basis.ERROR: "Policy could not be decided, which counts as no.",
    Basis.FORBID: "Policy forbids it.",
    Basis.NO_PERMIT: "No policy allows you to.",
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether the caller may do this now: `why` in words, and the ids of the policies that decided.

    `login` is what would do where a more recent or a stronger login of the same person would be allowed; `signs` says
    that it has to be signed with their passkey."""

    allowed: bool
    why: str
    policies: tuple[str, ...] = ()
    login: LoginNeeded | None = None
    signs: bool = False

    @property
    def login_helps(self) -> bool:
        return self.login is not None

    @property
    def open(self) -> bool:
        """Whether there is something to offer: the thing itself, or the login for it."""
        return self.allowed or self.login_helps


@dataclass(frozen=True, slots=True)
class Budget:
    """How many changes an app (by its name) has had in the last 24 hours, and how many it may have: None where no policy
    sets a limit, or it can't be told."""

    app: str
    applied: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A proposal that the caller may see, with what they may do about it. `review` is about broken glass, `steer` about
    pausing, resuming and aborting, and `personal` says whether they may see the personal data in it. `hold` is the order
    to the applier that stands, where one proposal was asked for."""

    proposal: Proposal
    approve: Ruling
    reject: Ruling
    break_glass: Ruling
    review: Ruling
    steer: Ruling
    hold: Hold | None = None
    budgets: tuple[Budget, ...] = ()
    personal: bool = False


def find_obstacle(caller: Caller, proposal: Proposal, action: Action, now: float) -> str:
    """What stands in the way of this now, whatever policy says; `""` when nothing does."""
    if action in (Action.PROPOSAL_REVIEW, Action.PROPOSAL_STEER):
        steers = action is Action.PROPOSAL_STEER
        return _find_obstacle_to_steer(proposal) if steers else _find_obstacle_to_review(caller, proposal)
    content = proposal.content
    if proposal.state not in _OPEN_TO[action]:
        over = f"It is {_STANDING[proposal.state]}, so there is nothing to {_VERBS[action]} any more."
        return "Its dry run is not done yet." if proposal.state is ProposalState.DRAFTED else over
    if proposal.ends_at <= now:
        return "It has expired. Ask for it to be proposed again."
    if action is not Action.PROPOSAL_REJECT and caller.key == content.requester.key:
        return "You asked for this yourself; somebody else has to approve it."
    if action is Action.PROPOSAL_APPROVE and any(one.approver.key == caller.key for one in proposal.approvals):
        return "You have approved it already."
    return ""


def explain(decision: Decision, reasons: str = "") -> str:
    """Why not, in words that name the policies. `reasons` is what the settings had to do with it."""
    named = f"Decided by {', '.join(decision.policies)}." if decision.policies else ""
    return " ".join(filter(None, (_DENIALS[decision.basis], reasons, named)))


def rule(decision: Decision, login: LoginNeeded | None, reasons: str = "") -> Ruling:
    """The decision in words, and the login that would do where it is a no. `reasons` as for `explain`."""
    if decision.allowed:
        return Ruling(True, "Policy allows it.", decision.policies)
    why = _say_login(login) or f"{_DENIALS[decision.basis]} {reasons}".strip()
    return Ruling(False, why, decision.policies, login)


def _find_obstacle_to_review(caller: Caller, proposal: Proposal) -> str:
    if proposal.glass is None:
        return "The glass was not broken for this."
    if proposal.review is not None:
        return "It has been reviewed."
    if not (proposal.state.final or proposal.state is ProposalState.FAILED):
        return f"It is {_STANDING[proposal.state]}; it is reviewed when that is over."
    if caller.key == proposal.breaker:
        return "You broke the glass yourself; somebody else has to review that."
    if caller.key == proposal.content.requester.key:
        return "You asked for this yourself; somebody else has to review it."
    return ""


def _find_obstacle_to_steer(proposal: Proposal) -> str:
    if proposal.state in STEERED or proposal.stuck:
        return ""
    return f"It is {_STANDING[proposal.state]}: there is nothing to pause, abort or release."


def _say_login(login: LoginNeeded | None) -> str:
    if login is None:
        return ""
    return "This needs a stronger login than yours." if login.acr_values else "Your login is too old for this."
