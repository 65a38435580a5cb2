"""People can tell the applier to wait, or to stop and undo, between any two steps and while it waits."""

from dataclasses import replace
from typing import Any

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server.orders import PAUSED
from arborgate.server.steering import Command, Steering
from arborgate.tools.change import JsonObject, Target
from arborgate.tools.proposal import Order, Proposal
from tests.server.applier.test_crashes import Crash, resume, swap
from tests.server.applier.world import World, until

pytestmark = pytest.mark.anyio


def order_when_patched(world: World, proposal: Proposal, name: str, order: Order) -> None:
    """Gives the order just before the patch of that object."""
    patch = world.cluster.apply

    async def order_and_patch(target: Target, *rest: Any) -> JsonObject:
        if target.name == name:
            swap(world.cluster, "apply", patch)
            await world.order(proposal, order)
        return await patch(target, *rest)

    swap(world.cluster, "apply", order_and_patch)


async def take_back_after(world: World, proposal: Proposal, sleeps: int) -> list[float]:
    """The order is taken back after so many sleeps of the applier; returns the list of their lengths."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await world.clock.sleep(seconds)
        if len(slept) == sleeps:
            await world.order(proposal, None)

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    return slept


async def test_while_it_is_paused_no_further_change_is_begun(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    await world.order(proposal, Order.PAUSE)
    told: list[str] = []

    async def sleep(seconds: float) -> None:
        await world.clock.sleep(seconds)
        told.append((await world.book.get(proposal.id)).steps[0].message)
        assert world.cluster.patched == []
        if len(told) == 40:
            await world.order(proposal, None)

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert done.state == "applied"
    assert told[0] == f'{PAUSED} by Ana: "Look at the logs."'
    assert {step.message for step in done.steps} == {""}
    assert world.replicas() == {"db": 3, "api": 3, "web": 1}


async def test_an_order_is_noticed_within_a_second(world: World) -> None:
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await world.clock.sleep(seconds)
        if len(slept) == 100:
            await world.order(proposal, Order.ABORT)

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    await world.worker.advance(proposal.id)
    assert len(slept) == 100, "it did not sleep once more"
    assert max(slept) <= 1.0


async def test_a_pause_also_keeps_the_last_wave_from_counting_as_applied(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    order_when_patched(world, proposal, "db", Order.PAUSE)
    slept = await take_back_after(world, proposal, 30)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, len(slept)) == ("applied", 30)
    assert done.steps[0].message == ""


async def test_what_is_there_is_watched_while_it_is_paused(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    order_when_patched(world, proposal, "db", Order.PAUSE)

    async def sleep(seconds: float) -> None:
        await world.clock.sleep(seconds)
        if (await world.book.get(proposal.id)).steps[0].state == "healthy":
            world.cluster.edit("Application", "db", {"status": {"health": {"status": "Degraded"}}})

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert done.state == "rolled_back"
    assert done.state_note == "It was well, and is no longer. The app is Degraded, not Healthy."
    assert [name for name, _ in world.cluster.patched] == ["db", "db"]


async def test_an_abort_stops_and_undoes_and_names_who_and_their_words(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    order_when_patched(world, proposal, "db", Order.ABORT)
    world.audit.entries.clear()
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, done.state_note) == ("rolled_back", 'Ana aborted it: "Look at the logs.".')
    assert [step.state for step in done.steps] == ["undone", "pending"]
    assert world.replicas() == {"db": 1, "api": 1, "web": 1}
    assert ("proposal:failed", "ok") in world.audit.told()


async def test_an_abort_is_heard_while_people_are_waited_for(world: World) -> None:
    """A writer that waits for a merge asks what it is given, but for an undo: that goes to its end."""
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    patch, heard = world.cluster.apply, []

    async def wait_and_patch(target: Target, *rest: Any) -> JsonObject:
        if target.name == "api":
            await world.order(proposal, Order.ABORT)
        await rest[-1]()
        heard.append(target.name)
        return await patch(target, *rest)

    swap(world.cluster, "apply", wait_and_patch)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, done.state_note) == ("rolled_back", 'Ana aborted it: "Look at the logs.".')
    assert heard == ["db", "db"]
    assert [step.state for step in done.steps] == ["undone", "failed"]


async def test_an_abort_while_it_waits_for_health_ends_the_waiting(world: World) -> None:
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"))
    order_when_patched(world, proposal, "db", Order.ABORT)
    began = world.clock()
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    assert world.clock() - began < 2


async def test_a_paused_proposal_can_be_aborted(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    await world.order(proposal, Order.PAUSE)
    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        await world.clock.sleep(seconds)
        if looks == 5:
            await world.order(proposal, Order.ABORT)

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    assert world.cluster.patched == []


@pytest.mark.parametrize("order", list(Order))
async def test_an_order_during_the_undo_changes_nothing(world: World, order: Order) -> None:
    world.cluster.breaks.add("api")
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    patch = world.cluster.apply
    given = False

    async def order_and_patch(*args: Any) -> JsonObject:
        nonlocal given
        if len(world.cluster.patched) == 2 and not given:
            given = True
            await world.order(proposal, order)
        return await patch(*args)

    swap(world.cluster, "apply", order_and_patch)
    await world.worker.advance(proposal.id)
    assert given
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    assert world.replicas() == {"db": 1, "api": 1, "web": 1}


async def test_a_pause_stands_after_a_crash_until_it_is_taken_back(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    order_when_patched(world, proposal, "db", Order.PAUSE)

    async def crash(_: float) -> None:
        raise Crash

    world.worker._pace = replace(world.worker._pace, sleep=crash)
    with pytest.raises(Crash):
        await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).steps[1].message.startswith(PAUSED)
    world.worker = world.make_worker()
    slept = await take_back_after(world, proposal, 20)

    async def advanced() -> bool:
        try:
            await world.worker.advance(proposal.id)
        except Exception:
            return False
        return True

    await until(advanced, "the lease of the crashed one runs out")
    done = await world.book.get(proposal.id)
    assert (done.state, len(slept)) == ("applied", 20)
    assert {step.message for step in done.steps} == {""}
    assert [name for name, _ in world.cluster.patched] == ["db", "api"]


async def test_an_order_taken_back_while_nobody_was_at_work_leaves_no_message(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    order_when_patched(world, proposal, "db", Order.PAUSE)

    async def crash(_: float) -> None:
        raise Crash

    worker = world.make_worker()
    worker._pace = replace(worker._pace, sleep=crash)
    with pytest.raises(Crash):
        await worker.advance(proposal.id)
    await world.order(proposal, None)
    done = await resume(world, proposal)
    assert (done.state, {step.message for step in done.steps}) == ("applied", {""})


async def test_a_pause_longer_than_the_approval_starts_no_further_change(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    order_when_patched(world, proposal, "db", Order.PAUSE)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert done.state == "rolled_back"
    assert done.state_note == "The approval had expired before this change was started."
    assert [name for name, _ in world.cluster.patched] == ["db", "db"]
    assert world.clock() >= done.content.expires_at


async def test_a_redis_that_does_not_answer_is_not_an_order_to_go_on(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    read = world.holds.read

    async def fail(_: str) -> None:
        raise Unavailable("Arborgate's own state can't be reached right now.")

    swap(world.holds, "read", fail)
    with pytest.raises(Unavailable):
        await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    swap(world.holds, "read", read)
    assert (await resume(world, proposal)).state == "applied"


async def test_an_order_that_cannot_be_read_is_one_to_wait_until_a_person_gives_another(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    await world.state.redis.set(world.state.key("hold", proposal.id), '{"order": "leave", "by": "a later version"}')
    told: list[str] = []

    async def sleep(seconds: float) -> None:
        await world.clock.sleep(seconds)
        told.append((await world.book.get(proposal.id)).steps[0].message)
        assert world.cluster.patched == []
        if len(told) == 3:
            steering = Steering(world.state, world.book, world.audit, clock=world.clock)
            await steering.steer(proposal.id, Command.RESUME, world.approver())

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    await world.worker.advance(proposal.id)
    assert told[0].startswith(f"{PAUSED} by an order that can't be read")
    assert (await world.book.get(proposal.id)).state == "applied"
