"""An undo that fails is a clear stop: on record, with the targets kept until a person releases them; nothing tries on."""

import logging

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import Busy, Conflict
from arborgate.tools.change import Target
from arborgate.tools.proposal import Proposal, Release, Requester
from tests.server.applier.test_crashes import crash, keys_of, resume
from tests.server.applier.test_worker import WORK, reached, running
from tests.server.applier.world import World, until

pytestmark = pytest.mark.anyio


def release(world: World) -> Release:
    return Release(by=Requester.of(world.approver("rita")), comment="Scaled by hand.", at=world.clock())


async def plan_stuck(world: World) -> Proposal:
    """Its first change can't be undone when its second fails: somebody has changed it meanwhile."""
    world.cluster.breaks.add("api")

    def scale_by_hand(target: Target) -> None:
        if target.name == "api":
            world.cluster.edit("Deployment", "db", {"spec": {"replicas": 7}})

    world.cluster.before_patch = scale_by_hand
    return await world.approved(world.scale("db"), world.scale("api"))


async def test_what_is_left_is_told_on_record_and_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    proposal = await plan_stuck(world)
    await world.worker.advance(proposal.id)
    stuck = await world.book.get(proposal.id)
    assert (stuck.state, stuck.stuck) == ("failed", True)
    assert [step.state for step in stuck.steps] == ["stuck", "undone"]
    assert "somebody has changed it since" in stuck.state_note
    (entry,) = [entry for entry in world.audit.entries if entry.event == "change:stuck"]
    assert (entry.outcome, entry.resource) == ("refused", "App::main/argocd/db")
    assert "somebody has changed it since" in entry.detail
    assert f"proposal {proposal.id} is stuck" in caplog.text


async def test_nothing_tries_on_and_the_stream_is_left_empty(world: World) -> None:
    proposal = await plan_stuck(world)
    async with running(world.worker):
        await reached(world, proposal, "failed")

        async def done() -> bool:
            return await world.redis.xlen(WORK) == 0

        await until(done, "nothing is left in the stream")
    entries = len(world.audit.entries)
    await world.make_worker().advance(proposal.id)
    assert len(world.audit.entries) == entries


async def test_its_targets_stay_claimed_until_somebody_releases_them(world: World) -> None:
    proposal = await plan_stuck(world)
    await world.worker.advance(proposal.id)
    world.cluster.before_patch = lambda _: None
    world.cluster.breaks.clear()
    for name in ("db", "api"):
        world.cluster.edit("Application", name, {"status": {"health": {"status": "Healthy"}}})
        world.relist(name)
    other = await world.approved(world.scale("db", 5))
    with pytest.raises(Busy):
        await world.make_worker().advance(other.id)
    async with running(world.worker):
        released = await world.book.release(proposal.id, release(world))
        assert (released.state, released.stuck) == ("failed", False)
        assert (await reached(world, other, "applied")).steps[0].state == "healthy"
    assert ("proposal:released", "ok") in world.audit.told()
    (told,) = [entry for entry in world.audit.entries if (entry.event, entry.outcome) == ("proposal:released", "ok")]
    assert (told.caller_name, told.detail) == ("Rita", "Scaled by hand.")
    assert (await world.book.get(proposal.id)).state == "failed", "a release undoes nothing"


async def test_only_what_is_stuck_can_be_released_and_once(world: World) -> None:
    proposal = await plan_stuck(world)
    with pytest.raises(Conflict):
        await world.book.release(proposal.id, release(world))
    await world.worker.advance(proposal.id)
    await world.book.release(proposal.id, release(world))
    with pytest.raises(Conflict):
        await world.book.release(proposal.id, release(world))


async def test_those_that_are_stuck_are_listed_until_they_are_released(world: World) -> None:
    proposal = await plan_stuck(world)
    assert await world.book.stuck() == []
    await world.worker.advance(proposal.id)
    assert [one.id for one in await world.book.stuck()] == [proposal.id]
    await world.book.release(proposal.id, release(world))
    assert await world.book.stuck() == []


async def test_wherever_it_crashes_a_stuck_one_says_so_and_keeps_its_targets(redis: Redis) -> None:
    at, crashed = 0, True
    while crashed:
        at += 1
        await redis.delete(*await keys_of(redis))
        world = World(redis, health_timeout=2.0)
        proposal = await plan_stuck(world)
        crashed = await crash(world, proposal, at)
        done = await resume(world, proposal)
        assert (done.state, done.stuck) == ("failed", True), (at, done.state_note)
        assert done.state_note.count("Not undone") == 1, at
        assert [step.state for step in done.steps] == ["stuck", "undone"], at
        assert world.replicas() == {"db": 7, "api": 1, "web": 1}
        key = world.worker._leases._keys([world.scale("db").target])[0]
        assert await redis.hget(key, "proposal") == proposal.id, at
        await redis.delete(*world.worker._leases._keys(change.target for change in proposal.content.changes))
    assert at > 40


async def test_what_was_begun_and_is_believed_no_more_is_left_and_stuck(world: World) -> None:
    """Nobody is known to have approved it any more: it is not undone either, and a person has to look."""
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"))
    await crash(world, proposal, 30)
    assert world.replicas()["db"] == 3
    await world.forge(proposal.id, approvals="[]")
    done = await resume(world, proposal)
    assert (done.state, done.stuck) == ("failed", True)
    assert done.state_note.endswith("Nothing was undone.")
    assert world.replicas()["db"] == 3


async def test_what_was_not_begun_and_is_believed_no_more_keeps_nothing(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    await world.forge(proposal.id, state="applying", steps='[{"state": "pending"}]', approvals="[]")
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, done.stuck) == ("failed", False)
    assert await world.redis.exists(world.worker._leases._keys([world.scale("db").target])[0]) == 0
