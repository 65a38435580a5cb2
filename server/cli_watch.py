"""Following a proposal in the terminal: a line for each thing that happens, until it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import IntEnum

import orjson
import typer

from ..policies.errors import Unavailable
from ..tools.proposal import Hold, Proposal, ProposalState, Step
from ..tools.times import write_time
from .web.progress import view_progress
from .web.terminal import Followed
from .web.words import reveal_line

_PATIENCE = 5
"""How often in a row a server may be away."""
_PAUSE = 2.0


class Ending(IntEnum):
    """The exit code that says how it ended."""

    APPLIED = 0
    NOT_APPLIED = 3
    NEEDS_A_PERSON = 4


def follow(ask: Callable[[str], Followed], *, as_json: bool) -> Ending:
    """Writes what happens until it is over. `ask` waits for the proposal to stand elsewhere than at the mark it is given;
    a server that is away for a moment is asked again."""
    mark, failures = "", 0
    before: tuple[Step, ...] = ()
    while True:
        try:
            followed = ask(mark)
        except Unavailable:
            failures += 1
            if failures == _PATIENCE:
                raise
            time.sleep(_PAUSE)
            continue
        failures, proposal, hold = 0, followed.shown.proposal, followed.shown.hold
        if followed.mark != mark:
            mark = followed.mark
            for line in [_dump(proposal, hold)] if as_json else _tell(proposal, hold, before):
                typer.echo(line)
            before = proposal.steps
        if proposal.stuck:
            return Ending.NEEDS_A_PERSON
        if proposal.state.final:
            return Ending.APPLIED if proposal.state is ProposalState.APPLIED else Ending.NOT_APPLIED


def _tell(proposal: Proposal, hold: Hold | None, before: tuple[Step, ...]) -> Iterator[str]:
    """Where it stands, and each change that is elsewhere than before."""
    note = f" {reveal_line(proposal.state_note)}" if proposal.state_note else ""
    yield f"{write_time(time.time())}  {view_progress(proposal, hold).status}{note}"
    if hold:
        comment = f": {reveal_line(hold.comment)}" if hold.comment else ""
        yield f"  {hold.order} by {reveal_line(hold.by.name)}{comment}"
    for index, step in enumerate(proposal.steps):
        if index >= len(before) or before[index] != step:
            message = f": {reveal_line(step.message)}" if step.message else ""
            yield f"  {step.state}  {reveal_line(proposal.content.changes[index].summary)}{message}"


def _dump(proposal: Proposal, hold: Hold | None) -> str:
    """The same as one line of JSON."""
    told = {
        "time": write_time(time.time()),
        "proposal": proposal.id,
        "state": proposal.state,
        "note": proposal.state_note,
        "hold": hold.order if hold else None,
        "stuck": proposal.stuck,
        "steps": [{"state": step.state, "message": step.message} for step in proposal.steps],
    }
    return orjson.dumps(told).decode()
