"""An order at any moment of applying: one that was taken is heeded, and no step is lost or done twice for it."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from arborgate.policies.errors import Conflict
from arborgate.server.proposals import ProposalBook
from arborgate.server.steering import Command, Steering
from arborgate.tools.proposal import Proposal
from arborgate.tools.record import Event
from tests.server.applier.test_crashes import swap
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio

Doing = Callable[..., Coroutine[Any, Any, Proposal]]
MOMENTS = range(9)
"""`begin`, three steps of each of two changes, and the end; and one that is past it."""


class Moments:
    """Does something just before, or just after, the n-th time that the book keeps anything of a proposal."""

    def __init__(
        self, book: ProposalBook, moment: int, *, after: bool, do: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._left = moment
        self._after = after
        self._do = do
        for name in ("begin", "step", "finish"):
            swap(book, name, self._count(getattr(book, name)))

    def _count(self, keep: Doing) -> Doing:
        async def count_and_keep(*arguments: Any) -> Proposal:
            now = self._left == 0
            self._left -= 1
            if now and not self._after:
                await self._do()
            kept = await keep(*arguments)
            if now and self._after:
                await self._do()
            return kept

        return count_and_keep


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_abort_that_was_taken_is_heeded(world: World, moment: int, after: bool) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    steering, taken = make_steering(world), list[bool]()

    async def abort() -> None:
        try:
            await steering.steer(proposal.id, Command.ABORT, world.approver(), "It is this change.")
        except Conflict:
            taken.append(False)
        else:
            taken.append(True)

    Moments(world.book, moment, after=after, do=abort)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    if taken == [True]:
        assert done.state == "rolled_back", done.state_note
        assert world.replicas() == {"db": 1, "api": 1, "web": 1}
        assert "aborted it" in done.state_note
    else:
        assert done.state == "applied"
        assert world.replicas() == {"db": 3, "api": 3, "web": 1}
    told = [one.outcome for one in world.audit.entries if one.event is Event.PROPOSAL_ABORTED]
    assert told == {(): [], (True,): ["intended", "ok"], (False,): ["intended", "conflict"]}[tuple(taken)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_pause_that_was_taken_back_loses_no_step(world: World, moment: int, after: bool) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    steering, ana = make_steering(world), world.approver()
    paused: list[int] = []

    async def pause() -> None:
        try:
            await steering.steer(proposal.id, Command.PAUSE, ana)
        except Conflict:
            return
        paused.append(len(world.cluster.patched))

    async def sleep(seconds: float) -> None:
        await world.clock.sleep(seconds)
        if paused and await steering.standing(await world.book.get(proposal.id)):
            assert len(world.cluster.patched) <= paused[0] + 1  # what was begun when it came
            await steering.steer(proposal.id, Command.RESUME, ana)

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    Moments(world.book, moment, after=after, do=pause)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, [step.state for step in done.steps]) == ("applied", ["healthy", "healthy"])
    assert sorted(name for name, _ in world.cluster.patched) == ["api", "db"]


def make_steering(world: World) -> Steering:
    return Steering(world.state, world.book, world.audit, world.clock)
