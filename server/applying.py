"""Applying one approved proposal: wave by wave, each gated on health, undone in reverse when one fails.

It can be stopped between any two lines and begun again by another process: what was done is told by the objects
themselves (each patch leaves the mark of its change on the object it patches), never by memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from itertools import groupby
from typing import cast

from ..policies.errors import Busy, Refused, Stale
from ..tools.change import Change, ChangeKind, JsonObject, Target, Writer, fields_digest, heed_nobody, merge
from ..tools.cuts import shorten
from ..tools.proposal import Proposal, ProposalState, Step, StepState
from .counts import Counts
from .gates import Gates, Look, Watch
from .leases import Lease
from .lifetimes import check_undo
from .marks import Marks, attribute, is_unmoved, mark_patch, require_latest, require_precondition
from .orders import PAUSED, Orders
from .pace import Pace
from .progress import Progress, operation_digest, writes_operation
from .proposal_store import Ordered, Outpaced
from .proposals import ProposalBook

_HEARS = 0.5
"""Seconds between two looks at the orders of people, at most."""
_AT_ONCE = 16
"""How many objects are checked at once before the first is changed."""
_ATTEMPTS = 8
"""How often a patch is tried on an object whose other fields keep moving."""
_NAMED = 500
"""Characters of the names of what a rollback left as it was."""


class Applying:
    """One proposal at work under one lease. `permit` raises when a change may not be started (any more) after those that
    their objects show as made, and else says by which counts it was judged; `vouch` when one is not, on its live object,
    what was approved: by a dry run too where its third argument says so. `approvers` are the names of those whose
    approvals count."""

    def __init__(
        self,
        book: ProposalBook,
        writer: Writer,
        proposal: Proposal,
        lease: Lease,
        pace: Pace,
        permit: Callable[[Collection[int]], Awaitable[Counts]],
        vouch: Callable[[int, JsonObject, bool], Awaitable[None]],
        orders: Orders,
        gates: Gates,
        approvers: tuple[str, ...],
    ) -> None:
        self._book = book
        self._writer = writer
        self._proposal = proposal
        self._lease = lease
        self._pace = pace
        self._permit = permit
        self._orders = orders
        self._gates = gates
        self._approvers = approvers
        self._said: str | None = None
        self._first: JsonObject | None = None
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._vouch = vouch
        self._vouched: set[int] = set()
        self._shown: set[int] = set()  # as made, by the objects: Redis is not asked
        self._changes = proposal.content.changes
        self._order = sorted(range(len(self._changes)), key=lambda index: (self._changes[index].wave, index))
        self._marks = Marks(proposal.id, self._changes, self._order)

    async def run(self) -> Proposal:
        """From where it stands to its end, or until it is stuck; how it is then. Raises `Unavailable`, `Unrecorded` or
        `LostLease` when that must wait."""
        resumed = self._proposal.state is not ProposalState.APPROVED
        if not resumed and not await self._begin():
            return self._proposal
        if resumed and not await self._is_told():
            return self._proposal
        if self._proposal.state is ProposalState.APPLYING:
            try:
                if resumed:
                    await self._require_begun()
                await self._apply_to_the_end(await self._gates.open(self._proposal))
            except (Refused, Stale) as error:
                await self._finish(ProposalState.FAILED, error.message)
            await self._gates.close(self._proposal)
        if self._proposal.state is ProposalState.FAILED:
            await self._undo_all()
        return self._proposal

    async def _begin(self) -> bool:
        """Asks policy and checks every precondition before anything is changed; False when a target has moved, or when it
        may not be begun after all."""
        try:
            counts = await self._check_all()
            await self._gates.open(self._proposal)
            for _ in range(_ATTEMPTS):
                with suppress(Outpaced):
                    self._proposal = await self._book.begin(self._proposal.id, self._lease, counts)
                    return True
                # Another took a place in the same budget: is there still one for this?
                counts = await self._permit(self._shown)
        except Stale as error:
            await self._close(ProposalState.STALE, error.message)
        except Refused as error:
            await self._close(ProposalState.REJECTED, error.message)
        else:
            raise Busy("Other changes of the same apps are begun all the time.")
        return False

    async def _check_all(self) -> Counts:
        """Policy and the preconditions at the same time: from here on somebody waits for the first change."""
        free = (self._require_free(index) for index in range(len(self._changes)))
        counts, *others = await asyncio.gather(self._permit(self._shown), *free, return_exceptions=True)
        for found in (counts, *others):
            if isinstance(found, BaseException):
                raise found
        return cast("Counts", counts)

    async def _require_free(self, index: int) -> None:
        """What is to be changed is as it was planned on, unless it is done already."""
        async with self._free:
            live = await self._read(self._changes[index].target)
            if not self._took(index, live):
                await self._require_told(index, live)
                self._require_not_undone(index, live)
                if index == self._order[0]:
                    self._first = live

    async def _require_begun(self) -> None:
        """Broken glass that has lapsed serves only what was begun in time, which the objects themselves must show."""
        glass = self._proposal.glass
        if glass is None or self._pace.clock() < glass.until:
            return
        for index in self._order:
            live = await self._writer.read(self._changes[index].target)
            if live is not None and self._took(index, live):
                return
        raise Refused("The broken glass had lapsed before anything was begun.")

    async def _require_told(self, index: int, live: JsonObject) -> None:
        """The object is as it was when the change was planned, and the change is what the approvers were told."""
        require_precondition(self._changes[index], live)
        require_latest(self._changes[index], live, self._proposal.content)
        if index not in self._vouched:
            await self._vouch(index, live, True)
            self._vouched.add(index)

    async def _is_told(self) -> bool:
        """Whether all that no object shows as done is what the approvers were told. Redis may claim that something was
        begun which never was; then nothing at all is done about it, not even an undo."""
        try:
            for index, change in enumerate(self._changes):
                live = await self._writer.read(change.target)
                if live is None:
                    continue
                if self._is_made(index, live):
                    self._shown.add(index)
                if self._marks.read(live) is None and is_unmoved(change, live):
                    await self._vouch(index, live, False)
        except Refused as error:
            if self._proposal.state is ProposalState.APPLYING:
                await self._finish(ProposalState.FAILED, f"{error.message} Nothing was undone.")
            return False
        return True

    async def _apply_to_the_end(self, watch: Watch) -> None:
        """An order that came when all was done, and before that was kept, is heeded like any other."""
        while self._proposal.state is ProposalState.APPLYING:
            await self._apply_all(watch)
            with suppress(Ordered):
                await self._finish(ProposalState.APPLIED, "")

    async def _apply_all(self, watch: Watch) -> None:
        """Wave by wave. Between any two steps, and while it waits, it hears what people order."""
        for step in self._proposal.steps:
            if step.state is StepState.FAILED:
                raise Refused(step.message)
        waves = [list(group) for _, group in groupby(self._order, key=lambda index: self._changes[index].wave)]
        for place, wave in enumerate(waves):
            if self._shown.issuperset(wave) and any(not self._shown.isdisjoint(later) for later in waves[place + 1 :]):
                continue
            for index in wave:
                await self._hear()
                if self._orders.pause:
                    await self._pass((), watch)
                try:
                    await self._apply(index)
                except (Refused, Stale) as error:
                    await self._fail(index, error.message)
            await self._pass(wave, watch)

    async def _pass(self, wave: Sequence[int], watch: Watch) -> None:
        """Until the wave is well and has been for its bake time, and nobody says to wait."""
        pauses = self._pace.pauses()
        await self._hear()
        while not await self._look_around(wave, watch):
            await self._rest(next(pauses))

    async def _rest(self, seconds: float) -> None:
        """No longer than until an order comes or is taken back."""
        paused, ends = self._orders.pause, self._pace.clock() + seconds
        while self._orders.pause == paused and (left := ends - self._pace.clock()) > 0:
            await self._pace.sleep(min(left, _HEARS))
            await self._hear()

    async def _hear(self) -> None:
        """Heeds an order to stop at once, and says of one to wait that it was heard."""
        await self._orders.hear()
        if self._said == self._orders.told:
            return
        for state in (StepState.PENDING, StepState.HEALTHY):  # what waits; at the end that is all of it
            waiting = [index for index in self._order if self._step(index).state is state]
            if waiting:
                step = self._step(waiting[0])
                if self._orders.told or step.message.startswith(PAUSED):
                    await self._put(waiting[0], step.model_copy(update={"message": self._orders.told}))
                self._said = self._orders.told
                return

    async def _look_around(self, wave: Sequence[int], watch: Watch) -> bool:
        """Looks at all that was done so far, and keeps what it saw of each; whether the next may begin."""
        began = self._pace.clock()
        watched = (StepState.APPLIED, StepState.HEALTHY)
        looks = await watch.look({i: self._step(i) for i in self._order if self._step(i).state in watched})
        if harm := watch.find_harm():
            raise Refused(harm)
        failures: list[Refused] = []
        for index, look in looks.items():
            try:
                await self._weigh(index, look, began)
            except Refused as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        if self._orders.pause and not self._is_over(began):
            return False
        return all(looks[i].done and began >= self._step(i).at + self._gates.bake(self._changes[i]) for i in wave)

    async def _weigh(self, index: int, look: Look, began: float) -> None:
        """Keeps what was seen of one change; raises `Refused` when it has failed."""
        change, step = self._changes[index], self._step(index)
        patience = self._patience(change)
        if step.state is StepState.HEALTHY:
            if look.harmed or (look.since and began >= look.since + patience):
                await self._lose(index, look, f"It was well, and is no longer. {look.message}")
        elif look.done:
            await self._keep(index, state=StepState.HEALTHY, message="")
        elif look.progress is Progress.FAILED:
            await self._lose(index, look, look.message)
        elif began >= step.at + patience:
            await self._lose(index, look, f"It did not get there in {patience:g} seconds. {look.message}")

    def _patience(self, change: Change) -> float:
        return min(change.check.timeout, self._pace.health_timeout)

    async def _lose(self, index: int, look: Look, message: str) -> None:
        """What could not be seen is not known to have failed."""
        if look.error is not None:
            raise look.error
        await self._fail(index, message)

    async def _fail(self, index: int, message: str) -> None:
        await self._keep(index, state=StepState.FAILED, message=message)
        raise Refused(message)

    def _is_over(self, at: float) -> bool:
        """Whether waiting on is of no use: what is left could not be begun any more."""
        left = any(step.state is StepState.PENDING for step in self._proposal.steps)
        return left and at >= self._proposal.content.expires_at

    async def _apply(self, index: int) -> None:
        change = self._changes[index]
        step = self._step(index)
        if step.state in (StepState.APPLIED, StepState.HEALTHY):
            if index not in self._shown:
                raise Refused(f"{change.target} does not show that it was changed, though that was said to be done.")
            return
        if step.state is StepState.FAILED:
            raise Refused(step.message)
        for _ in range(_ATTEMPTS):
            # What was read a moment ago is as good: if it has moved since, the patch is not taken.
            live, self._first = self._first or await self._read(change.target), None
            if self._took(index, live):
                await self._keep_applied(index, live, "found done")
                return
            await self._require_told(index, live)
            await self._permit(self._shown)
            if (step := self._step(index)).state is StepState.PENDING or step.seen != operation_digest(live):
                await self._keep(index, state=StepState.STARTED, seen=operation_digest(live))
            try:
                after = await self._patch(index, change.patch, live)
            except Stale:
                continue  # some field moved since it was read: look again whether it was one of ours
            await self._keep_applied(index, after)
            return
        raise Stale(f"{change.target} keeps moving, so it could not be changed.")

    async def _undo_all(self) -> None:
        """In reverse, as far as it goes: what comes before a change that stays is what that change stands on. A restart
        that went well is passed over; only where nothing else tells why it ended has a person to look."""
        for index in reversed(self._order):
            change = self._changes[index]
            try:
                if self._leaves_nothing(index) or not await self._is_to_undo(index):
                    continue
                check_undo(self._proposal.content, self._pace.clock())
                if change.undo is None:
                    raise Refused(change.undo_note or "It has no undo.")
                await self._undo(index)
            except (Refused, Stale) as error:
                await self._get_stuck(index, error.message)
                return
        restarts = [index for index in self._order if self._leaves_nothing(index)]
        known = any(step.state in (StepState.FAILED, StepState.UNDONE) for step in self._proposal.steps)
        if restarts and not known and not await self._orders.is_aborted():
            await self._get_stuck(restarts[-1], self._changes[restarts[-1]].undo_note)
            return
        names = shorten("; ".join(self._changes[index].summary for index in restarts), _NAMED)
        note = f" With nothing to undo, and well: {names}." if restarts else ""
        await self._finish(ProposalState.ROLLED_BACK, f"{self._proposal.state_note}{note}")

    async def _get_stuck(self, index: int, why: str) -> None:
        """It needs a person."""
        left = f" Not undone: {self._changes[index].summary}: {why}"
        if not self._proposal.state_note.endswith(left):
            note = f"{self._proposal.state_note}{left}"
            self._proposal = await self._book.remark(self._proposal.id, note, self._lease)
        await self._keep(index, state=StepState.STUCK, message=why)

    def _leaves_nothing(self, index: int) -> bool:
        """Whether it is a restart that went well: the pods run what they ran before."""
        restarts = self._changes[index].kind is ChangeKind.RESTART
        return restarts and self._step(index).state is StepState.HEALTHY and index in self._shown

    async def _is_to_undo(self, index: int) -> bool:
        """Whether the change is there. A patch may have taken although its answer never came."""
        step = self._step(index)
        if step.state is StepState.UNDONE or (step.state is StepState.PENDING and not step.digest):
            return False
        if step.digest:
            return True
        live = await self._writer.read(self._changes[index].target)
        if live is None or not self._took(index, live):
            return False
        await self._keep_applied(index, live, "found done")
        return True

    async def _undo(self, index: int) -> None:
        change = self._changes[index]
        undo, step = change.undo or {}, self._step(index)
        ends = step.at + (0 if step.state is StepState.FAILED else self._patience(change))
        for _ in range(_ATTEMPTS):
            live = await self._read_idle(index, ends)
            if self._marks.read(live) == (index, True):
                await self._keep(index, state=StepState.UNDONE)
                return
            self._require_ours(index, live)
            if self._step(index).state is not StepState.UNDOING:
                await self._keep(index, state=StepState.UNDOING)
            try:
                await self._patch(index, undo, live, undone=True)
            except Stale:
                continue
            await self._keep(index, state=StepState.UNDONE)
            return
        raise Stale(f"{change.target} keeps moving.")

    async def _read_idle(self, index: int, ends: float) -> JsonObject:
        """The object once the operation that the change asked for has ended, if it does in time: its undo is another one."""
        change, pauses = self._changes[index], self._pace.pauses()
        while True:
            live = await self._read(change.target)
            runs = (
                writes_operation(change.undo or {})
                and live.get("operation")
                and self._marks.read(live) == (index, False)
            )
            if not runs or self._pace.clock() >= ends:
                return live
            await self._pace.sleep(next(pauses))

    def _require_ours(self, index: int, live: JsonObject) -> None:
        """An undo must not run over what somebody did since, nor undo what the object itself does not show as done."""
        change = self._changes[index]
        fields = fields_digest(live, change.precondition.fields)
        known = (self._step(index).digest, change.precondition.digest)  # an operation leaves the object when it is done
        if live["metadata"].get("uid") != change.precondition.uid or fields not in known:
            raise Refused("somebody has changed it since.")
        if not self._is_made(index, live):
            raise Refused("the object does not show that it was done.")
        # What the fields were after the change is Redis's word; that they still hold what it wrote is the object's own.
        if not writes_operation(change.patch) and merge(live, change.patch) != live:
            raise Refused("somebody has changed it since.")
        if writes_operation(change.undo or {}) and live.get("operation"):
            raise Refused("its operation is still running.")

    def _require_not_undone(self, index: int, live: JsonObject) -> None:
        """An old state of a proposal, put back into Redis, must not apply it once more."""
        if (mark := self._marks.read(live)) is not None and mark[1]:
            raise Stale(f"{self._changes[index].target} had this change already, and it was undone.")

    def _took(self, index: int, live: JsonObject) -> bool:
        return self._marks.took(index, live, self._step(index).seen)

    def _is_made(self, index: int, live: JsonObject) -> bool:
        return self._marks.is_made(index, live, self._step(index).seen)

    async def _read(self, target: Target) -> JsonObject:
        live = await self._writer.read(target)
        if live is None:
            raise Stale(f"{target} is gone.")
        return live

    async def _patch(self, index: int, patch: JsonObject, live: JsonObject, *, undone: bool = False) -> JsonObject:
        marked = mark_patch(patch, self._proposal.id, index, undone=undone)
        attribution = attribute(self._proposal, index, self._approvers, undone=undone)
        target, version = self._changes[index].target, live["metadata"]["resourceVersion"]
        heed = heed_nobody if undone else self._hear
        return await self._writer.apply(target, marked, version, attribution, heed)

    def _step(self, index: int) -> Step:
        return self._proposal.steps[index] if self._proposal.steps else Step()

    async def _keep_applied(self, index: int, live: JsonObject, message: str = "") -> None:
        self._shown.add(index)
        digest = fields_digest(live, self._changes[index].precondition.fields)
        await self._keep(index, state=StepState.APPLIED, digest=digest, message=message)

    async def _keep(self, index: int, *, state: StepState, message: str = "", **more: str) -> None:
        update = {"state": state, "message": message, "at": round(self._pace.clock(), 3), **more}
        await self._put(index, self._step(index).model_copy(update=update))

    async def _put(self, index: int, step: Step) -> None:
        self._proposal = await self._book.step(self._proposal.id, index, step, self._lease)

    async def _close(self, state: ProposalState, note: str) -> None:
        self._proposal = await self._book.close(self._proposal.id, state, note)

    async def _finish(self, state: ProposalState, note: str) -> None:
        self._proposal = await self._book.finish(self._proposal.id, state, note, self._lease)
