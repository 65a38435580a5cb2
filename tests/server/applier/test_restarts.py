"""A restart leaves nothing to undo: one that went well holds up no rollback, and one that did not needs a person."""

from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from arborgate.tools.proposal import Order, Proposal, Step, StepState
from tests.server.applier.cluster import make_app, make_deployment
from tests.server.applier.test_crashes import crash, keys_of, resume
from tests.server.applier.test_gates import add_family, bake, set_health, when_asleep
from tests.server.applier.test_orders import order_when_patched
from tests.server.applier.test_steps_by_hand import pretend
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio

FELL = "It did not get there in 300 seconds. The app is Degraded, not Healthy."
STAYS = "A restart leaves nothing to undo: the pods run what they ran before."


def states(proposal: Proposal) -> list[str]:
    return [str(step.state) for step in proposal.steps]


async def run(world: World, *changes: Any) -> Proposal:
    proposal = await world.approved(*changes)
    await world.worker.advance(proposal.id)
    return await world.book.get(proposal.id)


async def test_a_restart_that_went_well_is_passed_over_and_named(world: World) -> None:
    world.cluster.breaks.add("web")
    ended = await run(world, world.scale("db"), world.restart("api"), world.scale("web"))
    assert ended.state == "rolled_back"
    assert ended.state_note == f"{FELL} With nothing to undo, and well: Restart Deployment api of api."
    assert states(ended) == ["undone", "healthy", "undone"]
    assert world.replicas() == {"db": 1, "api": 1, "web": 1}


async def test_a_restart_that_is_well_when_its_wave_fails_is_passed_over_too(world: World) -> None:
    """What is seen of each change is kept before the first failure ends it."""
    add_beside_web(world, "cart")
    proposal = await world.approved(world.scale("web"), world.restart("cart"))
    world.cluster.before_patch = lambda target: starve(world, "web") if target.name == "cart" else None
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("rolled_back", ["undone", "healthy"])


async def test_a_restart_is_passed_over_when_what_came_next_was_never_made(world: World) -> None:
    proposal = await world.approved(world.restart("api"), world.scale("web"))
    world.cluster.before_patch = lambda _: world.cluster.refuses.add("web")
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("rolled_back", ["healthy", "failed"])


async def test_a_restart_that_is_not_well_yet_when_another_change_fails_needs_a_person(world: World) -> None:
    add_beside_web(world, "cart")
    world.cluster.breaks.add("cart")
    proposal = await world.approved(world.scale("web"), world.restart("cart"))
    when_asleep(world, lambda _: starve(world, "web"))
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("failed", ["failed", "stuck"])
    assert ended.state_note.endswith(f"Not undone: Restart Deployment cart of cart: {STAYS}")


async def test_a_restart_that_fails_itself_needs_a_person(world: World) -> None:
    world.cluster.breaks.add("api")
    ended = await run(world, world.scale("db"), world.restart("api"))
    assert (ended.state, states(ended)) == ("failed", ["healthy", "stuck"])
    assert world.replicas()["db"] == 3, "what it stands on stays as well"


async def test_a_restart_that_was_well_and_broke_needs_a_person(world: World) -> None:
    proposal = await world.approved(world.restart("db"), bake(world.scale("api"), 600))
    when_asleep(world, lambda count: set_health(world, "db", "Degraded") if count == 4 else None)
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("failed", ["stuck", "undone"])


async def test_harm_beside_a_restart_alone_needs_a_person(world: World) -> None:
    add_family(world)
    proposal = await world.approved(bake(world.restart("db"), 600))
    when_asleep(world, lambda count: set_health(world, "cart", "Degraded") if count == 4 else None)
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("failed", ["stuck"])
    assert "cart beside it is Degraded" in ended.state_note
    assert ended.state_note.endswith(STAYS)


async def test_who_aborts_after_a_restart_does_not_have_to_release_it_too(world: World) -> None:
    proposal = await world.approved(world.restart("db"), world.scale("api"))
    order_when_patched(world, proposal, "api", Order.ABORT)
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("rolled_back", ["healthy", "undone"])


async def test_who_aborts_when_only_a_restart_was_made_does_not_have_to_release_it_too(world: World) -> None:
    proposal = await world.approved(bake(world.restart("db"), 600), world.scale("api"))

    async def sleep(seconds: float) -> None:
        await world.clock.sleep(seconds)
        await world.order(proposal, Order.ABORT)

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, states(ended)) == ("rolled_back", ["healthy", "pending"])
    assert ended.state_note.startswith("Ana aborted it")


async def test_a_restart_that_only_redis_says_went_well_is_not_passed_over(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.restart("api"))
    steps = (Step(state=StepState.FAILED, at=world.clock()), Step(state=StepState.HEALTHY, at=world.clock()))
    ended = await pretend(world, proposal, "failed", *steps)
    assert world.cluster.patched == []
    assert "With nothing to undo" not in ended.state_note


async def test_wherever_it_crashes_a_rollback_goes_around_its_restart(redis: Redis) -> None:
    at, crashed = 0, True
    while crashed:
        at += 1
        await redis.delete(*await keys_of(redis))
        world = World(redis, health_timeout=2.0)
        world.cluster.breaks.add("web")
        proposal = await world.approved(world.scale("db"), world.restart("api"), world.scale("web"))
        crashed = await crash(world, proposal, at)
        done = await resume(world, proposal)
        assert (done.state, states(done)) == ("rolled_back", ["undone", "healthy", "undone"]), (at, done.state_note)
        assert done.state_note.count("With nothing to undo") == 1, at
        assert [name for name, _ in world.cluster.patched] == ["db", "api", "web", "web", "db"], at
    assert at > 60


def add_beside_web(world: World, name: str) -> None:
    """Another app of the same wave."""
    world.cluster.add(make_app(name, wave=2, environment="production"))
    world.cluster.add(make_deployment(name))
    world.relist(name)


def starve(world: World, name: str) -> None:
    """Its new pods get nowhere."""
    conditions = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
    world.cluster.edit("Deployment", name, {"status": {"conditions": conditions}})
