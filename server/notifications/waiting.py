"""What is due about a proposal that waits: reminders, escalations and the end that comes, from its own times alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...tools.proposal import Proposal, ProposalState
from .occasions import Occasion
from .settings import NotifySettings


@dataclass(frozen=True, slots=True)
class Due:
    """One thing to tell; `step` tells several of a kind apart. `channels` and `groups` are those it goes to alone; empty:
    all that want it."""

    occasion: Occasion
    step: int = 0
    channels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.occasion}/{self.step}" if self.step else str(self.occasion)


def list_due(settings: NotifySettings, proposal: Proposal, now: float) -> Iterator[Due]:
    """All that is due by now, told before or not. Nothing depends on when it was looked at last: after an outage the
    newest reminder comes and those before it do not, and no escalation is left out."""
    if proposal.state is not ProposalState.PROPOSED or now >= proposal.ends_at:
        return
    waited, left = now - proposal.state_at, proposal.ends_at - now
    reminders = sum(waited >= after for after in set(settings.remind_after))
    if reminders:
        yield Due(Occasion.REMINDER, reminders)
    steps = sorted(settings.escalation, key=lambda step: step.after)
    for number, step in enumerate(steps, 1):
        if waited >= step.after:
            yield Due(Occasion.ESCALATION, number, step.channels, step.groups)
    if left <= settings.expiring_before < proposal.ends_at - proposal.state_at:
        yield Due(Occasion.EXPIRING)
