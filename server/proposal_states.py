"""The states of a proposal: where each may go, and what a proposal is once it has gone there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..policies.errors import Conflict
from ..tools.proposal import Proposal, ProposalState

TRANSITIONS: Mapping[ProposalState, frozenset[ProposalState]] = {
    ProposalState.DRAFTED: frozenset(
        {ProposalState.PROPOSED, ProposalState.REFUSED, ProposalState.WITHDRAWN, ProposalState.EXPIRED}
    ),
    ProposalState.PROPOSED: frozenset(
        {
            ProposalState.APPROVED,
            ProposalState.REJECTED,
            ProposalState.WITHDRAWN,
            ProposalState.EXPIRED,
            ProposalState.STALE,
        }
    ),
    ProposalState.APPROVED: frozenset(
        {
            ProposalState.APPLYING,
            ProposalState.REJECTED,
            ProposalState.WITHDRAWN,
            ProposalState.EXPIRED,
            ProposalState.STALE,
        }
    ),
    ProposalState.APPLYING: frozenset({ProposalState.APPLIED, ProposalState.FAILED}),
    ProposalState.FAILED: frozenset({ProposalState.ROLLED_BACK}),
}
"""Where each state may go; one that is not here goes nowhere."""

Rule = Callable[[Proposal], Proposal]
"""What a proposal becomes; raises when it must not."""


def move_to(proposal: Proposal, state: ProposalState, at: float, note: str) -> Proposal:
    """The proposal in that state since `at` (seconds since the epoch); raises `Conflict` where it may not go there."""
    if state not in TRANSITIONS.get(proposal.state, frozenset()):
        raise conflict_of(proposal, f"become {state}")
    return proposal.model_copy(update={"state": state, "state_at": round(at, 3), "state_note": note})


def conflict_of(proposal: Proposal, what: str) -> Conflict:
    """Says what can't be done with it as it stands."""
    return Conflict(f"It is {str(proposal.state).replace('_', ' ')}, so it can't {what.replace('_', ' ')}.")
