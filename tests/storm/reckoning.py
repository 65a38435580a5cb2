"""What is looked at once the storm is over: each proposal, each write it led to, and each line about it on record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from arborgate.server.chain import read_records
from arborgate.server.log_files import group_files
from arborgate.server.proof import Proof, prove
from arborgate.server.proposal_states import TRANSITIONS
from arborgate.server.proposal_store import ProposalStore
from arborgate.server.state import State
from arborgate.server.worker import GROUP
from arborgate.tools.change import ChangeKind
from arborgate.tools.proposal import Proposal, ProposalQuery, ProposalState, StepState
from arborgate.tools.record import Record

from .fleet import Fleet
from .history import History
from .landscape import is_doomed

_SETTLED = 90.0
_CALM = frozenset({ProposalState.FAILED, *(one for one in ProposalState if one.final)})
_UNDONE = frozenset({ProposalState.FAILED, ProposalState.ROLLED_BACK})
_NEVER_BEGUN = frozenset({ProposalState.REFUSED, ProposalState.REJECTED, ProposalState.STALE})


@dataclass
class Reckoning:
    """Everything that was found, and what of it is wrong."""

    proposals: Sequence[Proposal]
    history: History
    records: Sequence[Record]
    proofs: Sequence[Proof]
    moves: Sequence[tuple[str, str]]
    """The states that proposals came to, by Redis's own stream: id and state, in order."""
    wrong: list[str] = field(default_factory=list)

    def judge(self, approved: set[str]) -> list[str]:
        """Everything that should not be, in words; `approved` are the proposals whose approval was answered for."""
        self.wrong = [fault for proof in self.proofs for fault in proof.faults]
        known = {proposal.id for proposal in self.proposals}
        self.wrong += [f"{one}: was approved, and is gone" for one in approved - known]
        marks, operations = self.history.count_marks(), self.history.count_operations()
        for proposal in self.proposals:
            self._judge_end(proposal, approved)
            self._judge_writes(proposal, marks, operations)
        return [*self.wrong, *self.judge_moves()]

    def _judge_end(self, proposal: Proposal, approved: set[str]) -> None:
        state, note = proposal.state, proposal.state_note
        if state not in _CALM:
            self._say(proposal, f"is stuck in {state}")
        if proposal.id in approved and not proposal.approvals:
            self._say(proposal, "has lost its approval")
        if state is ProposalState.FAILED and "Not undone" not in note:
            self._say(proposal, f"failed, and does not say what was left: {note!r}")
        well = any(step.state is StepState.HEALTHY for step in proposal.steps)
        if state is ProposalState.ROLLED_BACK and well and "With nothing to undo" not in note:
            self._say(proposal, f"was rolled back, and does not say what stays: {note!r}")
        if state in _UNDONE | _NEVER_BEGUN and not note:
            self._say(proposal, f"is {state} and does not say why")
        self._judge_reason(proposal)

    def _judge_reason(self, proposal: Proposal) -> None:
        """What was approved is applied, unless it was to fail or somebody else was first: a crash alone is no reason."""
        changes, steps, state = proposal.content.changes, proposal.steps, proposal.state
        doomed = any(map(is_doomed, changes))
        if doomed and state is ProposalState.APPLIED:
            self._say(proposal, "is applied, with a change that can't be")
        if not doomed and state in _UNDONE:
            self._say(proposal, f"is {state}, though nothing in it was to fail: {proposal.state_note!r}")
        if state in _NEVER_BEGUN and not self.history.was_changed_for_another(proposal):
            self._say(proposal, f"is {state}, though nobody else touched its targets: {proposal.state_note!r}")
        for change, step in zip(changes, steps, strict=False):
            if step.state is StepState.STUCK and change.undo is not None:
                self._say(proposal, f"is stuck, though that could be undone: {step.message!r}")

    def _judge_writes(self, proposal: Proposal, marks: Counter[str], operations: Counter[str]) -> None:
        """Each change is made once, and undone once where the step says so; never twice, and never unseen."""
        for index, change in enumerate(proposal.content.changes):
            mark = f"{proposal.id}/{index}"
            made, undone = marks[mark], marks[f"{mark}/undone"]
            step = proposal.steps[index].state if proposal.steps else StepState.PENDING
            stays = step is StepState.HEALTHY and change.kind is ChangeKind.RESTART
            expected = {
                ProposalState.APPLIED: (1, 0),
                ProposalState.ROLLED_BACK: (1, 1) if step is StepState.UNDONE else (int(stays), 0),
                ProposalState.FAILED: (1, 1) if step is StepState.UNDONE else (made, 0),
            }.get(proposal.state, (0, 0))
            if (made, undone) != expected or made > 1:
                self._say(
                    proposal, f"made change {index} {made} and undid it {undone} times, as {proposal.state}, {step}"
                )
            if "operation" in change.patch and operations[mark] > made:
                self._say(proposal, f"started the operation of change {index} {operations[mark]} times")

    def judge_moves(self) -> list[str]:
        """What Redis saw happen is what the rules allow, and is on record as intended and as done; else what is not."""
        wrong: list[str] = []
        told: dict[tuple[str, str], set[str]] = defaultdict(set)
        for record in self.records:
            if record.proposal:
                told[record.proposal, record.event].add(record.outcome)
        before: dict[str, str] = {}
        for proposal, state in self.moves:
            was = before.get(proposal)
            before[proposal] = state
            if state == was:
                continue
            if was and ProposalState(state) not in TRANSITIONS.get(ProposalState(was), frozenset()):
                wrong.append(f"{proposal}: went from {was} to {state}")
            missing = {"intended", "ok"} - told[proposal, f"proposal:{state}"]
            if missing:
                wrong.append(f"{proposal}: is {state}, which is not on record as {' and '.join(sorted(missing))}")
        left = [one for one in self.proposals if before.get(one.id) != one.state]
        return [*wrong, *(f"{one.id}: is {one.state}, and was last seen as {before.get(one.id)}" for one in left)]

    def _say(self, proposal: Proposal, what: str) -> None:
        self.wrong.append(f"{proposal.id}: {what}")


async def settle(fleet: Fleet, state: State, history: History) -> list[str]:
    """Waits until nothing is at work any more and all that happened is on record; what is left after a while, in words."""
    ends = time.monotonic() + _SETTLED
    while True:
        fleet.watch_over()
        left = await _find_left(fleet, state) or (await reckon(state, history, fleet.record)).judge_moves()
        if not left or time.monotonic() > ends:
            return left
        await asyncio.sleep(0.5)


async def _find_left(fleet: Fleet, state: State) -> list[str]:
    work, admin = state.key("work"), fleet.redis.admin
    pending = cast("dict[str, Any]", await asyncio.to_thread(admin.xpending, work, GROUP))["pending"]
    waiting = await asyncio.to_thread(admin.xlen, work)
    claims = await asyncio.to_thread(lambda: list(admin.scan_iter(match=f"{state.prefix}lease:*")))
    found = {"entries are pending": pending, "entries are in the stream": waiting, "targets are claimed": len(claims)}
    return [f"{count} {what}" for what, count in found.items() if count]


async def reckon(state: State, history: History, record: Path) -> Reckoning:
    """Reads everything that is kept by now."""
    store = ProposalStore(state)
    proposals: list[Proposal] = []
    query = ProposalQuery(limit=100)
    while True:
        page = await store.page(query)
        proposals += page.proposals
        if not page.next:
            break
        query = ProposalQuery(limit=100, before=page.next)
    events = cast("list[tuple[str, dict[str, str]]]", await state.redis.xrange(state.key("events")))
    chains = await asyncio.to_thread(lambda: group_files(sorted(record.glob("*.jsonl"))))
    return Reckoning(
        proposals,
        history,
        [each for files in chains.values() for file in files for each, _ in read_records(file)],
        [prove(files, {}, []) for files in chains.values()],
        [(fields["proposal"], fields["state"]) for _, fields in events],
    )
