"""Moves of proposals whose outcome nobody heard, by a crash here or of the state: it is told later, from what is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..policies.errors import ArborgateError, NotThere, Reason, Refused, Unavailable, Unrecorded
from ..tools.proposal import Proposal, ProposalState
from ..tools.record import Entry, Event, Record
from .background import linger
from .chain import open_line
from .log_files import find_sealed
from .proposal_store import ProposalStore

if TYPE_CHECKING:
    from .audit import AuditLog
    from .gate import Recorder

LOST, UNKNOWN = "lost", "unknown"
"""The outcomes of a move that was never made, since its process ended before, and of one that nothing tells of any more."""

_TAIL = 16 * 1024 * 1024
"""How many bytes at the end of a file are looked at: what was under way at a crash had begun seconds before."""
_AGAIN_SECONDS = 1.0
_SAID = (Event.GLASS_BROKEN, Event.GLASS_REVIEWED, Event.PROPOSAL_RELEASED)
_MOVES = frozenset({*_SAID, *(Event(f"proposal:{state}") for state in ProposalState)})
_WORTH = (b'"event":"glass:', b'"event":"log:opened"', b'"event":"proposal:')
"""What lines hold that are worth parsing."""
_ENTRY_FIELDS = tuple(each.name for each in fields(Entry))


async def tell_unfinished(audit: AuditLog, store: ProposalStore) -> None:
    """Records the outcome of each move that this log left without one when its process ended; waits for the state as
    long as it must."""
    for record in await asyncio.to_thread(find_unfinished, [*find_sealed(audit.path)[-1:], audit.path]):
        told = {name: getattr(record, name) for name in _ENTRY_FIELDS}
        await tell_doubtful(audit, store, Entry(**told), datetime.fromisoformat(record.time).timestamp())


def doubt(audit: Recorder, store: ProposalStore, move: Entry, error: ArborgateError) -> None:
    """Has it told later what became of a move where the error leaves that open: its answer may have been lost."""
    if error.reason is Reason.UNAVAILABLE:
        linger(tell_doubtful(audit, store, move, time.time()))


async def tell_doubtful(audit: Recorder, store: ProposalStore, move: Entry, began: float) -> None:
    """Records what became of one move that was begun then (seconds since the epoch), once the state answers. Who ends
    before has it told at the next start."""
    while True:
        try:
            await audit.write(await _conclude(move, began, store))
            return
        except (Unavailable, Unrecorded):
            await asyncio.sleep(_AGAIN_SECONDS)


def find_unfinished(paths: Iterable[Path]) -> Sequence[Record]:
    """The intended moves without an outcome, of the runs before the one that writes the last file now; oldest first."""
    begun: dict[tuple[str, str, str], Record] = {}
    before: Sequence[Record] = ()
    for path in paths:
        for record in _read_tail(path):
            if record.event is Event.LOG_OPENED:
                before = tuple(begun.values())
            elif record.event in _MOVES:
                key = (record.proposal, record.event, record.caller)
                if record.outcome == "intended":
                    begun[key] = record
                elif record.outcome != Reason.UNAVAILABLE:  # then the move may have been made all the same
                    begun.pop(key, None)
    return before


def _read_tail(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        if (start := path.stat().st_size - _TAIL) > 0:
            file.seek(start)
            file.readline()
        for line in file:
            if line.endswith(b"\n") and any(part in line for part in _WORTH):
                with suppress(ValueError):  # a line that somebody has changed: `record verify` names it
                    yield open_line(line)


async def _conclude(move: Entry, began: float, store: ProposalStore) -> Entry:
    since, states = await store.states(move.proposal)
    try:
        made = _is_made(move, (await store.read(move.proposal)).proposal, states)
    except (NotThere, Refused):
        made = False
    outcome = "ok" if made else LOST if since <= began else UNKNOWN
    return replace(move, outcome=outcome, detail="found out afterwards")


def _is_made(record: Entry, proposal: Proposal, states: Iterable[str]) -> bool:
    """Whether what is kept shows the move: the vote or the review itself, or that the proposal came to the state."""
    match record.event:
        case Event.GLASS_BROKEN:
            return proposal.breaker == record.caller
        case Event.GLASS_REVIEWED:
            return proposal.review is not None and proposal.review.reviewer.key == record.caller
        case Event.PROPOSAL_RELEASED:
            return proposal.release is not None and proposal.release.by.key == record.caller
        case Event.PROPOSAL_APPROVED:
            return any(one.approver.key == record.caller for one in proposal.approvals)
        case _:
            return record.event.partition(":")[2] in {proposal.state, *states}
