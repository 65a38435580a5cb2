"""What people are told of: the closed vocabulary of notifications, and how each state of a proposal becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ...tools.proposal import Proposal, ProposalState


class Occasion(StrEnum):
    """What happened to a proposal, or what is still to happen to it."""

    APPLIED = "applied"
    APPROVED = "approved"
    ESCALATION = "escalation"
    EXPIRED = "expired"
    EXPIRING = "expiring"
    FAILED = "failed"
    GLASS_BROKEN = "glass_broken"
    PROPOSED = "proposed"
    REJECTED = "rejected"
    REMINDER = "reminder"
    ROLLED_BACK = "rolled_back"
    STALE = "stale"
    STUCK = "stuck"
    WITHDRAWN = "withdrawn"

    @property
    def waits(self) -> bool:
        """Whether somebody is asked to decide."""
        return self in _WAITING


_WAITING = frozenset({Occasion.ESCALATION, Occasion.EXPIRING, Occasion.PROPOSED, Occasion.REMINDER})

HEADINGS: Mapping[Occasion, str] = {
    Occasion.PROPOSED: "Waits for approval",
    Occasion.REMINDER: "Still waits for approval",
    Occasion.ESCALATION: "Still waits for approval, and goes to the next group",
    Occasion.EXPIRING: "Expires soon without a decision",
    Occasion.APPROVED: "Approved",
    Occasion.REJECTED: "Rejected",
    Occasion.WITHDRAWN: "Withdrawn",
    Occasion.EXPIRED: "Expired",
    Occasion.STALE: "Stale: what it would change has moved",
    Occasion.GLASS_BROKEN: "The glass was broken",
    Occasion.APPLIED: "Applied",
    Occasion.FAILED: "Failed, and is being undone",
    Occasion.ROLLED_BACK: "Rolled back",
    Occasion.STUCK: "Stuck: a person is needed",
}
"""What each is called in a message, in the order of a proposal's life."""

_OF_STATES: Mapping[ProposalState, Occasion] = {
    ProposalState.APPLIED: Occasion.APPLIED,
    ProposalState.APPROVED: Occasion.APPROVED,
    ProposalState.EXPIRED: Occasion.EXPIRED,
    ProposalState.FAILED: Occasion.FAILED,
    ProposalState.PROPOSED: Occasion.PROPOSED,
    ProposalState.REJECTED: Occasion.REJECTED,
    ProposalState.ROLLED_BACK: Occasion.ROLLED_BACK,
    ProposalState.STALE: Occasion.STALE,
    ProposalState.WITHDRAWN: Occasion.WITHDRAWN,
}


def find_occasion(state: ProposalState, proposal: Proposal) -> Occasion | None:
    """What a move into this state is to people; None where they need not know, or need not any more.

    Of a draft that never waited for anybody nobody is told, and nobody is asked for what is decided already."""
    if state is ProposalState.PROPOSED and proposal.state is not ProposalState.PROPOSED:
        return None
    if proposal.content.rehearsal is None:
        return None
    if state is ProposalState.APPROVED and proposal.glass:
        return Occasion.GLASS_BROKEN
    return _OF_STATES.get(state)
