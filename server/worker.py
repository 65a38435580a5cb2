"""The applier's work: it takes the ids of proposals from a stream, and reads, checks and applies them by itself.

An id that it can't deal with now stays in the stream and is taken up again, by whichever applier comes first.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn, cast

from ..policies.errors import ArborgateError, NotThere, Refused, Unavailable, Unrecorded
from ..tools.change import JsonObject, Rehearsal, Rehearsed, Target, Writer
from ..tools.cuts import shorten
from ..tools.proposal import Approval, Content, Proposal, ProposalState, Step, StepState
from .applying import Applying
from .background import end
from .counts import Counts
from .gates import Gates
from .groups import join_group
from .holds import Holds
from .leases import Lease, Leases, LostLease
from .marks import mark_patch
from .orders import Orders
from .pace import Pace
from .proposals import ProposalBook
from .retold import check_rehearsed
from .state import State, reaching_state
from .verification import Verifier

GROUP = "appliers"

_AT_ONCE = 64
"""How many proposals are at work at once: most of them wait for health, or for people."""
_BLOCK_MS = 300
_ROUND = 0.3
_TRY_AGAIN = 3.0
"""Seconds after which an entry that nobody finished is looked at again, unless leases are even shorter."""
_PATIENCE = 60.0
"""Seconds after which it is a warning that a proposal still waits for something."""
_REMEMBERED = 1_000
_APPLIED_FROM = (ProposalState.APPROVED, ProposalState.APPLYING, ProposalState.FAILED)

log = logging.getLogger(__name__)


class Worker:
    """Rehearses what is drafted, applies what is approved, finishes what was interrupted, expires what is due."""

    def __init__(
        self,
        *,
        state: State,
        book: ProposalBook,
        leases: Leases,
        verifier: Verifier,
        writer: Writer,
        pace: Pace,
        holds: Holds,
        gates: Gates,
    ) -> None:
        self._state = state
        self._book = book
        self._leases = leases
        self._verifier = verifier
        self._writer = writer
        self._pace = pace
        self._holds = holds
        self._gates = gates
        self._consumer = secrets.token_hex(8)
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._entries: dict[str, list[str]] = {}
        self._patience: dict[str, tuple[float, float]] = {}
        self._reached = "0-0"

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. What is at work then is left where it stands, for the next applier to resume."""
        joined = False
        try:
            while not stop.is_set():
                try:
                    if not joined:
                        await self._join()
                        joined = True
                    await self._book.expire_due()
                    for take in (self._take_over, self._take_new):
                        for entry, proposal_id in await take():
                            self._start(entry, proposal_id)
                except (Unavailable, Unrecorded) as error:
                    log.warning("waiting: %s %s", error.message, error.detail)
                    joined = False
                    await asyncio.sleep(_ROUND)
        finally:
            await end(*self._at_work.values())

    async def advance(self, proposal_id: str) -> None:
        """Takes one proposal as far as it can go. Raises what keeps it from its end for now."""
        try:
            proposal = await self._book.get(proposal_id)
        except (NotThere, Refused) as error:
            log.warning("proposal %s is left alone: %s", shorten(proposal_id, 40), error.message)
            return
        if proposal.state is ProposalState.DRAFTED:
            await self._rehearse(proposal)
        elif proposal.state in _APPLIED_FROM and proposal.release is None:
            if not proposal.stuck:  # one that is waits for a person, and so do others that would change its targets
                await self._apply(proposal)
        else:
            await self._leases.release(proposal_id, _targets(proposal))

    async def _rehearse(self, proposal: Proposal) -> None:
        """Dry runs only; what the systems say becomes part of what is approved."""
        content = proposal.content
        rehearsed: list[Rehearsed] = []
        note = ""
        try:
            self._verifier.check_content(content)
            for index, change in enumerate(content.changes):
                self._gates.prober.check(change)
                live = await self._writer.read(change.target)
                if live is None:
                    raise Refused(f"{change.target} is gone.")
                self._verifier.check_told(content, index, live, await self._read_origin(content, index))
                rehearsed.append(await self._rehearse_patch(change.target, mark_patch(change.patch, content.id, index)))
            note = next((one.refusal for one in rehearsed if not one.ok), "")
        except Refused as error:
            note = error.message
        rehearsal = Rehearsal(changes=tuple(rehearsed), at=round(self._pace.clock(), 3))
        await self._book.rehearsed(proposal.id, rehearsal, note)

    async def _read_origin(self, content: Content, index: int) -> JsonObject | None:
        """What a promotion comes from, as it is; None for any other change."""
        origin = self._verifier.find_origin(content, index)
        if origin is None:
            return None
        live = await self._writer.read(origin)
        if live is None:
            raise Refused(f"{origin} is gone.")
        return live

    async def _rehearse_patch(self, target: Target, patch: JsonObject) -> Rehearsed:
        try:
            return await self._writer.rehearse(target, patch)
        except Refused as error:
            return Rehearsed(ok=False, refusal=error.message)

    async def _apply(self, proposal: Proposal) -> None:
        lease = await self._leases.acquire(proposal.id, _targets(proposal))
        try:
            proposal = await self._book.get(proposal.id)  # what was read before the lease may be history
            if proposal.state in _APPLIED_FROM and not proposal.stuck:
                proposal = await self._settle(await self._carry_out(proposal, lease), lease)
            if proposal.stuck:
                log.error("proposal %s is stuck, and keeps its targets: %s", proposal.id, proposal.state_note)
                await self._leases.let_go(lease)
            else:
                await self._leases.release(proposal.id, _targets(proposal))
        except BaseException:
            with suppress(Unavailable):
                await self._leases.let_go(lease)
            raise

    async def _carry_out(self, proposal: Proposal, lease: Lease) -> Proposal:
        if proposal.state is ProposalState.APPROVED and self._pace.clock() >= proposal.ends_at:
            return await self._book.close(proposal.id, ProposalState.EXPIRED, "")
        try:
            approvals = self._believe(proposal)
        except Refused as refusal:
            log.warning("proposal %s is not applied: %s %s", proposal.id, refusal.message, refusal.detail)
            return await self._leave(proposal, refusal.message, lease)
        applying = Applying(
            self._book,
            self._writer,
            proposal,
            lease,
            self._pace,
            permit=partial(self._permit, proposal),
            vouch=partial(self._vouch, proposal),
            orders=Orders(self._holds, proposal.id),
            gates=self._gates,
            approvers=tuple(dict.fromkeys(one.approver.name for one in approvals)),
        )
        return await self._hold(lease, applying)

    def _believe(self, proposal: Proposal) -> Sequence[Approval]:
        """The approvals that count. Raises `Refused` where it can't be believed that people have approved exactly this, or
        should have been asked."""
        approvals = self._verifier.check_approvals(proposal)
        if proposal.state is ProposalState.APPROVED:
            self._verifier.check_content(proposal.content)
        elif len(proposal.steps) != len(proposal.content.changes):
            raise Refused("How far it has come can't be told.")
        return approvals

    async def _leave(self, proposal: Proposal, why: str, lease: Lease) -> Proposal:
        """Nothing at all is done about it, not even an undo."""
        if proposal.state is ProposalState.APPROVED:
            return await self._book.close(proposal.id, ProposalState.REJECTED, why)
        if proposal.state is ProposalState.APPLYING:
            return await self._book.finish(proposal.id, ProposalState.FAILED, f"{why} Nothing was undone.", lease)
        return proposal

    async def _settle(self, proposal: Proposal, lease: Lease) -> Proposal:
        """What failed and left anything behind is stuck: a person has to look before others change its targets."""
        steps = proposal.steps[: len(proposal.content.changes)]
        left = [index for index, step in enumerate(steps) if step.state not in (StepState.PENDING, StepState.UNDONE)]
        if proposal.state is not ProposalState.FAILED or proposal.stuck or not left:
            return proposal
        step = steps[left[-1]].model_copy(update={"state": StepState.STUCK, "message": proposal.state_note})
        return await self._book.step(proposal.id, left[-1], step, lease)

    async def _permit(self, proposal: Proposal, begun: Collection[int]) -> Counts:
        """Each change is started under the policies of that moment, and never after the approval's time."""
        counts, now = await self._book.counts(proposal), self._pace.clock()
        # A parent app's approval holds for what is begun, however that is now; what is begun the objects say.
        steps = [
            Step(state=StepState.APPLIED if at in begun else StepState.PENDING)
            for at in range(len(proposal.content.changes))
        ]
        proposal = proposal.model_copy(update={"steps": tuple(steps)})
        if now >= proposal.content.expires_at:
            raise Refused("The approval had expired before this change was started.")
        self._verifier.check_content(proposal.content)
        judged = self._verifier.judge_policy(proposal, self._verifier.check_approvals(proposal), counts, now)
        await self._book.note(proposal, judged)
        self._verifier.require(judged)
        return counts

    async def _vouch(self, proposal: Proposal, index: int, live: JsonObject, dry_run: bool) -> None:
        """Before anything is changed, a change has to be what its approvers were told: by its planner, and by the system
        itself, whose warnings may have been kept from them."""
        content = proposal.content
        target, rehearsal = content.changes[index].target, content.rehearsal
        self._verifier.check_told(content, index, live, await self._read_origin(content, index))
        if not dry_run:
            return
        again = await self._rehearse_patch(target, mark_patch(content.changes[index].patch, content.id, index))
        (said,) = self._book.clean_rehearsal(Rehearsal(changes=(again,), at=0)).changes
        told = rehearsal.changes[index] if rehearsal else Rehearsed(ok=False)
        check_rehearsed(target, told, said)

    async def _hold(self, lease: Lease, applying: Applying) -> Proposal:
        """Runs it as long as the lease is held, and not a moment longer."""
        work, renewal = asyncio.create_task(applying.run()), asyncio.create_task(self._renew(lease))
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = work.done()
            await end(work, renewal)
        return work.result() if ended else renewal.result()

    async def _renew(self, lease: Lease) -> NoReturn:
        """Ends only by `LostLease`: another took over, or for a whole term it could not be told whether one did."""
        loop = asyncio.get_running_loop()
        held = loop.time()
        while True:
            await asyncio.sleep(self._leases.seconds / 3)
            asked = loop.time()
            try:
                await self._leases.renew(lease)
                held = asked
            except Unavailable as error:
                if loop.time() - held >= self._leases.seconds:
                    raise LostLease("The lease could not be renewed in time.") from error

    async def _join(self) -> None:
        await join_group(self._state, self._book.store.work, GROUP, start="0")

    async def _take_over(self) -> Sequence[tuple[str, str]]:
        """Some entries that were left unfinished, by whomever: each an entry id and a proposal id."""
        idle, work = int(min(self._leases.seconds, _TRY_AGAIN) * 1000), self._book.store.work
        if not self._free:
            return ()
        with reaching_state():
            # From where the last look ended: else those at the front would keep the others from their turn.
            answer = await self._state.redis.xautoclaim(
                work, GROUP, self._consumer, idle, self._reached, count=self._free
            )
        self._reached = cast("str", answer[0])
        return _name_proposals(cast("list[tuple[str, dict[str, str] | None]]", answer[1]))

    async def _take_new(self) -> Sequence[tuple[str, str]]:
        """New entries, as soon as there are any."""
        if not self._free:
            await asyncio.sleep(_ROUND)
            return ()
        work = self._book.store.work
        with reaching_state():
            answer = await self._state.redis.xreadgroup(
                GROUP, self._consumer, {work: ">"}, count=self._free, block=_BLOCK_MS
            )
        taken = cast("list[tuple[str, list[tuple[str, dict[str, str] | None]]]]", answer or [])
        return [named for _, entries in taken for named in _name_proposals(entries)]

    @property
    def _free(self) -> int:
        """How many more may be taken."""
        return max(_AT_ONCE - len(self._at_work), 0)

    def _start(self, entry: str, proposal_id: str) -> None:
        """One task per proposal: another entry for one that is at work has its turn right after."""
        waiting = self._entries.setdefault(proposal_id, [])
        if entry not in waiting:
            waiting.append(entry)
        if proposal_id not in self._at_work:
            task = asyncio.create_task(self._finish(proposal_id), name=f"proposal {proposal_id}")
            self._at_work[proposal_id] = task
            task.add_done_callback(lambda _: self._forget(proposal_id))

    def _forget(self, proposal_id: str) -> None:
        del self._at_work[proposal_id]
        del self._entries[proposal_id]

    async def _finish(self, proposal_id: str) -> None:
        entries = self._entries[proposal_id]
        while entries:
            try:
                await self.advance(proposal_id)
                with reaching_state():
                    # In one: an entry that is acknowledged and still there would stay for ever.
                    async with self._state.redis.pipeline(transaction=True) as pipe:
                        pipe.xack(self._book.store.work, GROUP, entries[0])
                        pipe.xdel(self._book.store.work, entries[0])
                        await pipe.execute()
                self._patience.pop(proposal_id, None)
            except ArborgateError as error:
                self._tell_waiting(proposal_id, error)
            except Exception:
                log.exception("proposal %s waits: something unforeseen", proposal_id)
            entries.pop(0)

    def _tell_waiting(self, proposal_id: str, error: ArborgateError) -> None:
        """What waits for long is said aloud, less and less often."""
        now = self._pace.clock()
        if len(self._patience) > _REMEMBERED:  # others may have finished them
            self._patience.clear()
        since, patience = self._patience.setdefault(proposal_id, (now, _PATIENCE))
        loud = now - since >= patience
        if loud:
            self._patience[proposal_id] = (since, patience * 2)
        told = (proposal_id, now - since, error.message, error.detail)
        log.log(logging.WARNING if loud else logging.INFO, "proposal %s waits since %d s: %s %s", *told)


def _name_proposals(entries: Sequence[tuple[str, dict[str, str] | None]]) -> list[tuple[str, str]]:
    return [(entry, (fields or {}).get("proposal", "")) for entry, fields in entries if entry]


def _targets(proposal: Proposal) -> list[Target]:
    return [change.target for change in proposal.content.changes]
