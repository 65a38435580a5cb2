"""The applier's loop: it takes what comes, takes over what others left, and goes on when what it needs is back."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server import background
from arborgate.server.leases import Lease
from arborgate.server.worker import GROUP, Worker
from arborgate.tools.proposal import Proposal
from tests.parts.redis import RedisServer
from tests.server.applier.world import DEADLINE, PREFIX, World, until

pytestmark = pytest.mark.anyio

WORK = f"{PREFIX}work"


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def reached(world: World, proposal: Proposal, state: str) -> Proposal:
    async def there() -> bool:
        with suppress(Unavailable):
            return (await world.book.get(proposal.id)).state == state
        return False

    await until(there, f"the proposal is {state}")
    return await world.book.get(proposal.id)


async def test_a_running_applier_takes_a_proposal_from_draft_to_applied(world: World) -> None:
    async with running(world.worker):
        proposal = await reached(world, await world.draft([world.scale("api")]), "proposed")
        await world.book.decide(world.vote(proposal))
        await reached(world, proposal, "applied")

        async def done() -> bool:
            return await world.redis.xlen(WORK) == 0

        await until(done, "nothing is left in the stream")
    assert world.replicas()["api"] == 3


async def test_two_appliers_share_the_work_and_do_nothing_twice(world: World) -> None:
    async with running(world.worker, world.make_worker()):
        proposals = [await world.draft([world.scale(name)]) for name in ("db", "api", "web")]
        for proposal in proposals:
            await world.book.decide(world.vote(await reached(world, proposal, "proposed")))
        for proposal in proposals:
            await reached(world, proposal, "applied")
    assert sorted(name for name, _ in world.cluster.patched) == ["api", "db", "web"]


async def test_what_another_applier_took_and_left_is_taken_over(world: World) -> None:
    await world.redis.xgroup_create(WORK, GROUP, id="0", mkstream=True)
    proposal = await world.draft([world.scale("api")])
    await world.redis.xreadgroup(GROUP, "a-dead-one", {WORK: ">"})
    async with running(world.worker):
        await reached(world, proposal, "proposed")


async def test_what_has_to_wait_is_tried_again(world: World) -> None:
    world.cluster.answers = False
    async with running(world.worker):
        proposal = await world.draft([world.scale("api")])

        async def tried() -> bool:
            pending = await world.redis.xpending_range(WORK, GROUP, "-", "+", 1)
            return bool(pending) and int(pending[0]["times_delivered"]) > 2

        await until(tried, "it was tried more than once")
        assert (await world.book.get(proposal.id)).state == "drafted"
        world.cluster.answers = True
        await reached(world, proposal, "proposed")


async def test_what_is_due_expires_while_the_applier_runs(world: World) -> None:
    proposal = await world.propose(world.scale("api"))
    async with running(world.worker):
        world.clock.now += 3600
        await reached(world, proposal, "expired")


async def test_an_applier_goes_on_when_redis_is_back(world: World, redis_server: RedisServer) -> None:
    async with running(world.worker):
        proposal = await reached(world, await world.draft([world.scale("api")]), "proposed")
        await asyncio.to_thread(redis_server.restart)

        async def approved() -> bool:
            with suppress(Unavailable):  # the client drops its broken connections one by one
                return (await world.book.decide(world.vote(proposal))).state == "approved"
            return False

        await until(approved, "it is approved")
        await reached(world, proposal, "applied")


async def test_those_that_wait_at_the_front_do_not_keep_others_from_their_turn(world: World) -> None:
    await world.redis.xgroup_create(WORK, GROUP, id="0", mkstream=True)
    for number in range(100):
        await world.redis.xadd(WORK, {"proposal": f"p-{number}"})
    await world.redis.xreadgroup(GROUP, "a-dead-one", {WORK: ">"})
    worker = world.make_worker(seconds=0.001)
    taken: set[str] = set()

    async def all_had_a_turn() -> bool:
        taken.update(proposal for _, proposal in await worker._take_over())
        return len(taken) == 100

    await until(all_had_a_turn, "all were taken over")


async def test_what_comes_for_a_proposal_at_work_has_its_turn_right_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.make_worker(seconds=60)
    advance, begun, go_on = worker.advance, asyncio.Event(), asyncio.Event()

    async def advance_slowly(proposal_id: str) -> None:
        await advance(proposal_id)
        begun.set()
        await go_on.wait()

    monkeypatch.setattr(worker, "advance", advance_slowly)
    async with running(worker):
        proposal = await reached(world, await world.draft([world.scale("api")]), "proposed")
        await begun.wait()
        await world.book.decide(world.vote(proposal))

        async def taken() -> bool:
            return int((await world.redis.xpending(WORK, GROUP))["pending"]) == 2

        await until(taken, "the second entry is taken while the first is at work")
        began = time.monotonic()
        go_on.set()
        await reached(world, proposal, "applied")
        assert time.monotonic() - began < 2.5, "it was left for the next round of what is taken over"


async def test_what_waits_for_long_is_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.cluster.answers = False
    caplog.set_level(logging.WARNING)
    async with running(world.worker):
        await world.draft([world.scale("api")])

        async def told() -> bool:
            world.clock.now += 5
            return "waits since" in caplog.text

        await until(told, "a warning that it waits")


async def test_nonsense_in_the_stream_is_dropped(world: World) -> None:
    for name, value in (("proposal", "p-none"), ("other", "x"), ("proposal", "../../x" * 100)):
        await world.redis.xadd(WORK, {name: value})
    async with running(world.worker):
        proposal = await world.draft([world.scale("api")])
        await reached(world, proposal, "proposed")

        async def empty() -> bool:
            return await world.redis.xlen(WORK) == 0

        await until(empty, "nothing is left in the stream")


async def test_an_applier_that_is_stopped_lets_the_next_one_resume_at_once(world: World) -> None:
    world.cluster.breaks.add("api")
    waiting = asyncio.Event()

    async def wait_for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    worker = world.make_worker(seconds=60)
    worker._pace = type(worker._pace)(wait_for_ever, world.clock, 1.0, 5.0, 300.0)
    proposal = await world.approved(world.scale("api"))
    async with running(worker):
        async with asyncio.timeout(10):
            await waiting.wait()
    assert (await world.book.get(proposal.id)).state == "applying"
    await world.make_worker(seconds=60).advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"


async def test_a_renewal_that_loses_its_cancellation_holds_no_lease_for_ever(
    world: World, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_AGAIN_SECONDS", 0.01)
    proposal = await world.approved(world.scale("api"))

    async def renew(_: Lease) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.worker, "_renew", renew)
    async with asyncio.timeout(DEADLINE):
        await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert redis_server.admin.keys(f"{PREFIX}lease:*") == []
