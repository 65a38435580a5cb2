"""What the record says of proposals: each move of one, and each step of applying it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..policies.model import Action, Caller
from ..tools.proposal import Proposal, ProposalState, Requester, Step, StepState
from ..tools.record import Entry, Event

Actor = Caller | Requester
"""Who moves a proposal."""

_STEP_EVENTS: Mapping[StepState, tuple[Event, str]] = {
    StepState.STARTED: (Event.CHANGE_STARTED, "intended"),
    StepState.APPLIED: (Event.CHANGE_APPLIED, "ok"),
    StepState.FAILED: (Event.CHANGE_APPLIED, "refused"),
    StepState.UNDOING: (Event.CHANGE_UNDONE, "intended"),
    StepState.UNDONE: (Event.CHANGE_UNDONE, "ok"),
    StepState.STUCK: (Event.CHANGE_STUCK, "refused"),
}
_ACTIONS: Mapping[ProposalState, Action] = {
    ProposalState.DRAFTED: Action.ROLLOUT_PROPOSE,
    ProposalState.APPROVED: Action.PROPOSAL_APPROVE,
    ProposalState.REJECTED: Action.PROPOSAL_REJECT,
    ProposalState.WITHDRAWN: Action.PROPOSAL_WITHDRAW,
    ProposalState.APPLYING: Action.PROPOSAL_APPLY,
}


def enter_draft(proposal: Proposal, by: Actor) -> Entry:
    """The record of a new proposal."""
    return _enter(proposal, Event.PROPOSAL_DRAFTED, by, Action.ROLLOUT_PROPOSE)


def enter_move(before: Proposal, after: Proposal, by: Actor) -> Entry:
    """The record of a move. A vote that is not yet enough is recorded as an approval too; broken glass, its review
    and a release have events of their own, with what people said."""
    if after.glass and not before.glass:
        return replace(_enter(after, Event.GLASS_BROKEN, by, Action.PROPOSAL_BREAK_GLASS), detail=after.glass.comment)
    if after.review and not before.review:
        detail = f"{after.review.finding.replace('_', ' ')}: {after.review.comment}"
        return replace(_enter(after, Event.GLASS_REVIEWED, by, Action.PROPOSAL_REVIEW), detail=detail)
    if after.release and not before.release:
        return replace(_enter(after, Event.PROPOSAL_RELEASED, by, None), detail=after.release.comment)
    voted = after.state is before.state is ProposalState.PROPOSED
    event = Event.PROPOSAL_APPROVED if voted else Event(f"proposal:{after.state}")
    entry = _enter(after, event, by, _ACTIONS.get(ProposalState.APPROVED if voted else after.state))
    if event is Event.PROPOSAL_APPROVED:
        return replace(entry, detail=f"{len(after.approvals)} of {after.content.approvals_needed} approvals")
    return replace(entry, detail=after.state_note)


def enter_step(proposal: Proposal, index: int, step: Step, by: Actor) -> Entry | None:
    """The record of a step of applying, if it is one that is recorded."""
    if step.state not in _STEP_EVENTS:
        return None
    change = proposal.content.changes[index]
    event, outcome = _STEP_EVENTS[step.state]
    detail = f"{change.summary}{': ' if step.message else ''}{step.message}"
    entry = _enter(proposal, event, by, Action.PROPOSAL_APPLY)
    return replace(entry, resource=f"App::{change.target.app}", outcome=outcome, detail=detail)


def _enter(proposal: Proposal, event: Event, by: Actor, action: Action | None) -> Entry:
    return Entry(
        event=event,
        caller=by.key,
        caller_name=by.name,
        agent=by.agent,
        actors=by.actors,
        channel=by.channel if isinstance(by, Caller) else "",
        action=action or "",
        resource=f"Proposal::{proposal.id}",
        arguments_digest=proposal.digest,
        proposal=proposal.id,
    )
