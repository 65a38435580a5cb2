"""Whether the targets of a proposal have moved since it was planned: what the applier would find stale, told before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ...policies.errors import ArborgateError
from ...tools.change import Change, JsonObject, Target, fields_digest
from ...tools.proposal import Proposal, ProposalState
from ...tools.tree import AppTree
from ..background import end

MOST_READ = 24
"""How many objects are read for one look; of further ones nothing is said."""

_AT_ONCE = 8
_WAITING = frozenset({ProposalState.DRAFTED, ProposalState.PROPOSED})
"""The states in which nothing of the proposal's own can have moved a target: once it is approved the applier looks for
itself, and what moves is its own doing."""


class Standing(StrEnum):
    """How a target stands to what was planned."""

    GONE = "gone"
    MOVED = "moved"
    REPLACED = "replaced"
    SAME = "same"
    UNKNOWN = "unknown"


class Live(Protocol):
    """Where live objects are read, as `Clusters` does."""

    async def read(self, target: Target) -> JsonObject | None: ...


@dataclass(frozen=True, slots=True)
class Movement:
    """One change whose target does not stand as planned, by its `number` from 1. `fields` are the pointers of what has
    another value now; unless `sure`, it is one or more of them."""

    number: int
    change: Change
    standing: Standing
    fields: tuple[str, ...] = ()
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the changes that moved, and of how many nobody can tell."""

    moved: tuple[Movement, ...] = ()
    unknown: int = 0
    same: int = 0


@dataclass(frozen=True, slots=True)
class Lookout:
    """Looks after the targets, with the read-only credentials of this process."""

    tree: AppTree
    live: Live | None = None

    async def look(self, proposal: Proposal, within: float) -> Look | None:
        """How the targets stand, by the precondition that the applier holds them to; what is not known within so many
        seconds is unknown. None for a proposal that is past waiting."""
        if proposal.state not in _WAITING:
            return None
        changes = proposal.content.changes
        wanted = {str(change.target): change.target for change in changes if not self._unmoved(change)}
        found = await self._read(list(wanted.items())[:MOST_READ], within)
        moved: list[Movement] = []
        unknown = 0
        for number, change in enumerate(changes, 1):
            movement = _compare(number, change, found, known=str(change.target) not in wanted)
            if movement.standing is Standing.UNKNOWN:
                unknown += 1
            elif movement.standing is not Standing.SAME:
                moved.append(movement)
        return Look(tuple(moved), unknown, len(changes) - len(moved) - unknown)

    def _unmoved(self, change: Change) -> bool:
        """Whether the app tree, being current, holds the very version that was planned on."""
        node = self.tree.find(change.target.app) if change.target.kind == "Application" else None
        if node is None or self.tree.freshness(node.app.id.cluster).stale:
            return False
        planned = change.precondition
        return (node.app.uid, node.app.resource_version) == (planned.uid, planned.resource_version)

    async def _read(self, wanted: Sequence[tuple[str, Target]], within: float) -> dict[str, JsonObject | None]:
        """The objects that answered in time, None for one that is not there."""
        if self.live is None or not wanted:
            return {}
        live, gate = self.live, asyncio.Semaphore(_AT_ONCE)

        async def read(target: Target) -> JsonObject | None:
            async with gate:
                return await live.read(target)

        tasks = {asyncio.create_task(read(target)): name for name, target in wanted}
        try:
            done, _ = await asyncio.wait(tasks, timeout=within)
        finally:
            await end(*tasks)
        found: dict[str, JsonObject | None] = {}
        for task in done:
            error = task.exception()
            if error is None:
                found[tasks[task]] = task.result()
            elif not isinstance(error, ArborgateError):
                raise error
        return found


def _compare(number: int, change: Change, found: dict[str, JsonObject | None], *, known: bool) -> Movement:
    if known or str(change.target) not in found:
        return Movement(number, change, Standing.SAME if known else Standing.UNKNOWN)
    live = found[str(change.target)]
    if live is None:
        return Movement(number, change, Standing.GONE)
    try:
        return _judge(number, change, live)
    except (ArborgateError, KeyError, TypeError, ValueError):
        return Movement(number, change, Standing.UNKNOWN)


def _judge(number: int, change: Change, live: JsonObject) -> Movement:
    planned = change.precondition
    if live["metadata"]["uid"] != planned.uid:
        return Movement(number, change, Standing.REPLACED)
    if fields_digest(live, planned.fields) == planned.digest:
        return Movement(number, change, Standing.SAME)
    return Movement(number, change, Standing.MOVED, *_find_fields(change, live))


def _find_fields(change: Change, live: JsonObject) -> tuple[tuple[str, ...], bool]:
    """Which of the watched fields have another value, and whether that is certain. What they were is in the undo, where
    that restores all of them: then it has the precondition's own digest."""
    planned = change.precondition
    if change.undo is None or fields_digest(change.undo, planned.fields) != planned.digest:
        return planned.fields, len(planned.fields) == 1
    undo = change.undo
    return tuple(each for each in planned.fields if fields_digest(live, [each]) != fields_digest(undo, [each])), True
