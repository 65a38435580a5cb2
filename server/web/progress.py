"""How far applying has come, in words: what each wave waits for and since when, and what a person has ordered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby

from ...tools.change import Change
from ...tools.proposal import Hold, Order, Proposal, ProposalState, Step, StepState
from ...tools.times import write_time

_DONE = frozenset({StepState.HEALTHY})
_UNDONE = frozenset({StepState.UNDONE})
_BEGUN = frozenset({ProposalState.APPROVED, ProposalState.APPLYING})


@dataclass(frozen=True, slots=True)
class StepView:
    """One change on its way: `number` is its place in the list of changes, `words` what it waits for."""

    number: int
    change: Change
    step: Step
    words: str


@dataclass(frozen=True, slots=True)
class WaveView:
    """The changes that go together."""

    wave: int
    steps: tuple[StepView, ...]

    @property
    def done(self) -> int:
        return sum(one.step.state in _DONE for one in self.steps)


@dataclass(frozen=True, slots=True)
class ProgressView:
    """How far one proposal has come, and the order that stands."""

    proposal: Proposal
    waves: tuple[WaveView, ...]
    hold: Hold | None

    @property
    def started(self) -> bool:
        """Whether anything has been applied, or is about to be."""
        return bool(self.proposal.steps) or self.proposal.state in _BEGUN

    @property
    def mark(self) -> str:
        """Where it stands, in a word: another one as soon as anything has become of it."""
        hold = self.hold.model_dump_json() if self.hold else ""
        text = f"{self.proposal.model_dump_json(exclude={'content'})}\n{hold}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def paused(self) -> bool:
        return self.hold is not None and self.hold.order is Order.PAUSE

    @property
    def aborted(self) -> bool:
        return self.hold is not None and self.hold.order is Order.ABORT

    @property
    def status(self) -> str:
        """One sentence or two, which a screen reader says whenever they are others."""
        state, steps = self.proposal.state, [one.step.state for wave in self.waves for one in wave.steps]
        done = sum(step in _DONE for step in steps)
        match state:
            case ProposalState.APPROVED if self.hold:
                said = "Approved."
            case ProposalState.APPROVED:
                said = "Approved. The applier takes it up next."
            case ProposalState.APPLYING:
                said = f"Applying: {done} of {len(steps)} {'change' if len(steps) == 1 else 'changes'} in place and healthy."
            case ProposalState.APPLIED:
                whole = "Its change is" if len(steps) == 1 else f"All {len(steps)} changes are"
                return f"Applied. {whole} in place and healthy."
            case ProposalState.FAILED if self.proposal.stuck:
                return "It stopped half way, and needs a person."
            case ProposalState.FAILED:
                undone = sum(step in _UNDONE for step in steps)
                said = f"It failed, and is being undone: {undone} so far."
            case _:
                said = f"It is {state.replace('_', ' ')}."
        ordered = "Paused by a person." if self.paused else "A person has aborted it." if self.aborted else ""
        return f"{said} {ordered}".strip()


def view_progress(proposal: Proposal, hold: Hold | None) -> ProgressView:
    """The progress of a proposal; `hold` is the order that stands for it."""
    steps = proposal.steps or (Step(),) * len(proposal.content.changes)
    views = [
        StepView(index + 1, change, steps[index], _say(change, steps[index]))
        for index, change in enumerate(proposal.content.changes)
    ]
    ordered = sorted(views, key=lambda one: (one.change.wave, one.number))
    waves = tuple(WaveView(wave, tuple(group)) for wave, group in groupby(ordered, key=lambda one: one.change.wave))
    return ProgressView(proposal, waves, hold)


def _say(change: Change, step: Step) -> str:
    """What the change waits for, and since when."""
    check = change.check
    since = f"since {_clock(step.at)}" if step.at else ""
    match step.state:
        case StepState.STARTED:
            return f"is being written, {since}"
        case StepState.APPLIED:
            gate = " and ".join(filter(None, (check.health, check.sync)))
            until = f"until {_clock(step.at + check.timeout)} at most"
            return f"written; waits for {check.app.rpartition('/')[2]} to be {gate}, {since}, {until}"
        case StepState.PENDING:
            return ""
        case StepState.HEALTHY if check.bake:
            return f"{since}; stays under watch until {_clock(step.at + check.bake)}"
        case StepState.UNDOING:
            return f"is being undone, {since}"
        case _:
            return since


def _clock(at: float) -> str:
    """The time of day, in UTC."""
    return write_time(at)[11:19]
