"""The tool that waits for what people and the applier do about a proposal."""

from __future__ import annotations

import time
from enum import StrEnum

from pydantic import Field

from ..proposal import Proposal, ProposalState, StepState
from ..text import quote
from ..tool import Context, Params, Result, Untrusted, join_lines
from .results import say_next

LONGEST = 45.0
"""Seconds that a call may wait: most clients give up on a call after a minute."""

_UNDECIDED = frozenset({ProposalState.DRAFTED, ProposalState.PROPOSED})


class Awaited(StrEnum):
    """What is waited for."""

    APPLIED = "applied"
    CHANGE = "change"
    DECIDED = "decided"


class ProposalWaitParams(Params):
    proposal: str = Field(min_length=1, max_length=100, description="its id")
    until: Awaited = Field(default=Awaited.CHANGE, description="applied: or over")
    timeout: float = Field(default=30.0, ge=1.0, le=LONGEST, description="seconds")


class Standing(Result):
    proposal: str
    reached: bool
    state: ProposalState
    note: Untrusted | None = None
    steps: str = ""
    next: str


async def wait(ctx: Context, params: ProposalWaitParams) -> Standing:
    """Tells what happens meanwhile; ends with what was waited for, with the time, or when nothing can come any more."""
    first = proposal = await ctx.proposals.get(params.proposal)
    ends = time.monotonic() + params.timeout
    while not _has_come(params.until, first, proposal):
        left = ends - time.monotonic()
        after = await ctx.proposals.wait(proposal, ctx.caller.key, left) if left > 0 else proposal
        if after == proposal:
            break
        proposal = after
        await ctx.report(say_standing(proposal))
    return Standing(
        proposal=proposal.id,
        reached=_has_come(params.until, first, proposal),
        state=proposal.state,
        note=proposal.state_note or None,
        steps=_count_steps(proposal),
        next=say_next(proposal),
    )


def render_standing(result: Standing) -> str:
    steps = f" ({result.steps})" if result.steps else ""
    return join_lines(
        [
            f"{result.proposal} is {result.state}{steps}",
            f"Note: {quote(result.note)}" if result.note else None,
            None if result.reached else "What you waited for has not come yet: call again.",
            f"Next: {result.next}",
        ]
    )


def say_standing(proposal: Proposal) -> str:
    """Where it stands, in our own words alone."""
    return ": ".join(filter(None, (str(proposal.state).replace("_", " "), _count_steps(proposal))))


def _count_steps(proposal: Proposal) -> str:
    states = [step.state for step in proposal.steps]
    return ", ".join(f"{states.count(state)} {state}" for state in StepState if state in states)


def _has_come(until: Awaited, first: Proposal, proposal: Proposal) -> bool:
    """What is over changes no more, so nobody waits for it."""
    over = proposal.state.final or proposal.stuck
    match until:
        case Awaited.APPLIED:
            return over
        case Awaited.DECIDED:
            return over or proposal.state not in _UNDECIDED
        case Awaited.CHANGE:
            return over or proposal != first
