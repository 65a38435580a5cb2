"""The applier may end at any moment, and another resumes: nothing is done twice, nothing is left half done."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import Busy, Unavailable, Unrecorded
from arborgate.server.leases import Leases, LostLease
from arborgate.tools.change import Target
from arborgate.tools.plan import follow
from arborgate.tools.proposal import Order, Proposal, StepState
from tests.server.applier.world import APPS, CLUSTER, World, until

pytestmark = pytest.mark.anyio


class Crash(BaseException):
    """The process is gone: nothing catches it."""


class Faults:
    """Counts everything that reaches outside the process, and crashes it before or after the n-th."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def on(self, owner: object, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._wrap(getattr(owner, name)))

    def _wrap(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._pass()
            result = await call(*args, **kwargs)
            self._pass()
            return result

        return wrapped

    def _pass(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise Crash


async def crash(world: World, proposal: Proposal, at: int) -> bool:
    """Runs an applier of its own that crashes at the n-th operation, if it comes that far; whether it did."""
    faults = Faults(at)
    book = world.make_book()
    worker = world.make_worker(book)
    plain = (
        (world.cluster, "read", world.cluster.read),
        (world.cluster, "apply", world.cluster.apply),
        (world.audit, "write", world.audit.write),
    )
    faults.on(world.cluster, "read", "apply")
    faults.on(world.audit, "write")
    faults.on(book.store, "read", "swap")
    faults.on(worker._leases, "acquire", "release")
    swap(worker._leases, "let_go", _nothing)
    try:
        await worker.advance(proposal.id)
    except Crash:
        return True
    finally:
        for owner, name, call in plain:
            swap(owner, name, call)
    return False


def swap(owner: object, name: str, call: Callable[..., Awaitable[Any]]) -> None:
    """Puts another function in the place of one object's method."""
    setattr(owner, name, call)


async def _nothing(_: object) -> None:
    return None


async def resume(world: World, proposal: Proposal) -> Proposal:
    """What other appliers do: once the lease of the dead one has run out, they go on to the end."""
    worker = world.make_worker()

    async def advanced() -> bool:
        try:
            await worker.advance(proposal.id)
        except Busy:
            return False
        return True

    await until(advanced, "the lease of the crashed applier runs out")
    return await world.book.get(proposal.id)


async def plan_rollout(world: World) -> Proposal:
    """Two objects and, on one of them, two changes: one of a field, one of an operation that Argo CD takes off."""
    live = world.cluster.get("Application", "api")
    revision = world.set_revision("api")
    return await world.approved(world.scale("db"), revision, follow(world.sync("api"), live, [revision]))


async def test_wherever_it_crashes_every_change_is_made_exactly_once(redis: Redis) -> None:
    at, crashed = 0, True
    while crashed:
        at += 1
        await redis.delete(*await keys_of(redis))
        world = World(redis)
        proposal = await plan_rollout(world)
        crashed = await crash(world, proposal, at)
        done = await resume(world, proposal)
        assert done.state == "applied", (at, done.state_note)
        names = [(name, *patch) for name, patch in world.cluster.patched]
        assert names == [("db", "spec"), ("api", "spec"), ("api", "operation")], at
        assert {step.state for step in done.steps} == {StepState.HEALTHY}
        intended = {event for event, outcome in world.audit.told() if outcome == "intended"}
        assert intended >= {"proposal:applying", "change:started", "proposal:applied"}, at
    assert at > 60


async def test_wherever_it_crashes_a_failing_rollout_is_undone_exactly_once(redis: Redis) -> None:
    at, crashed = 0, True
    while crashed:
        at += 1
        await redis.delete(*await keys_of(redis))
        world = World(redis, health_timeout=2.0)
        world.cluster.breaks.add("api")
        proposal = await plan_rollout(world)
        crashed = await crash(world, proposal, at)
        done = await resume(world, proposal)
        assert done.state == "rolled_back", (at, done.state_note)
        assert [name for name, _ in world.cluster.patched] == ["db", "api", "api", "api", "api", "db"], at
        assert world.replicas()["db"] == 1
        assert world.cluster.get("Application", "api")["spec"]["source"]["targetRevision"] == "v1"
    assert at > 80


async def test_a_change_whose_mark_somebody_removed_is_known_by_its_operation(world: World) -> None:
    proposal = await world.approved(world.sync("api"))
    patch = world.cluster.apply

    async def apply_and_crash(*args: Any) -> Any:
        await patch(*args)
        raise Crash

    swap(world.cluster, "apply", apply_and_crash)
    with pytest.raises(Crash):
        await world.worker.advance(proposal.id)
    swap(world.cluster, "apply", patch)
    world.cluster.edit("Application", "api", {"metadata": {"annotations": None}})
    assert (await resume(world, proposal)).state == "applied"
    assert len(world.cluster.patched) == 1


async def advance_without_answer(world: World, proposal: Proposal) -> None:
    """The patch takes, and its answer never comes."""
    patch = world.cluster.apply

    async def apply_and_lose_the_answer(*args: Any) -> Any:
        await patch(*args)
        raise Unavailable("The cluster main does not answer.")

    swap(world.cluster, "apply", apply_and_lose_the_answer)
    with pytest.raises(Unavailable):
        await world.worker.advance(proposal.id)
    swap(world.cluster, "apply", patch)


async def test_an_answer_that_is_lost_on_the_way_back_does_not_make_it_patch_again(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    await advance_without_answer(world, proposal)
    assert (await resume(world, proposal)).state == "applied"
    assert len(world.cluster.patched) == 1


async def test_what_took_although_its_answer_was_lost_is_undone_like_the_rest(world: World) -> None:
    """Aborted before anybody has looked whether it took: Redis only knows that it was started."""
    proposal = await world.approved(world.scale("api"))
    await advance_without_answer(world, proposal)
    assert [step.state for step in (await world.book.get(proposal.id)).steps] == ["started"]
    await world.order(proposal, Order.ABORT)
    ended = await resume(world, proposal)
    assert (ended.state, [step.state for step in ended.steps]) == ("rolled_back", ["undone"])
    assert world.replicas()["api"] == 1


async def test_a_full_record_stops_the_applier_before_the_next_change(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))

    def fill(target: Target) -> None:
        world.audit.full = target.name == "db"

    world.cluster.before_patch = fill
    with pytest.raises(Unrecorded):
        await world.worker.advance(proposal.id)
    assert world.replicas() == {"db": 3, "api": 1, "web": 1}
    world.audit.full = False
    world.cluster.before_patch = lambda _: None
    assert (await resume(world, proposal)).state == "applied"
    assert [name for name, _ in world.cluster.patched] == ["db", "api"]


async def test_nothing_is_changed_while_the_intent_cannot_be_recorded(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    world.audit.full = True
    with pytest.raises(Unrecorded):
        await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    assert (await world.book.get(proposal.id)).state == "approved"


async def test_an_applier_that_lost_its_lease_changes_nothing_more(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    targets = [change.target for change in proposal.content.changes]
    worker, thief = world.make_worker(seconds=0.05), Leases(world.state, "thief", 0.05)
    patch = world.cluster.apply

    async def apply_and_sleep_over_the_lease(*args: Any) -> Any:
        swap(world.cluster, "apply", patch)
        answer = await patch(*args)
        swap(worker._leases, "renew", _nothing)

        async def stolen() -> bool:
            with suppress(Busy):
                await thief.let_go(await thief.acquire(proposal.id, targets))
                return True
            return False

        await until(stolen, "the lease runs out and another takes it")
        return answer

    swap(world.cluster, "apply", apply_and_sleep_over_the_lease)
    with pytest.raises(LostLease):
        await worker.advance(proposal.id)
    assert [name for name, _ in world.cluster.patched] == ["db"]
    assert (await resume(world, proposal)).state == "applied"
    assert [name for name, _ in world.cluster.patched] == ["db", "api"]


async def test_an_applier_stops_waiting_for_health_when_its_lease_is_taken(world: World) -> None:
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"))
    worker = world.make_worker(seconds=0.1)

    async def wait_for_ever(_: float) -> None:
        await world.redis.hset(worker._leases._keys([proposal.content.changes[0].target])[0], "fence", "999")
        await asyncio.Event().wait()

    worker._pace = replace(worker._pace, sleep=wait_for_ever)
    with pytest.raises(LostLease):
        await worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applying"


async def test_another_proposal_waits_until_an_interrupted_one_is_done_with_its_target(world: World) -> None:
    first = await world.approved(world.scale("db", 3))
    second = await world.approved(world.scale("db", 5))
    await crash(world, first, 18)
    assert (await world.book.get(first.id)).state == "applying"
    await world.redis.hset(world.worker._leases._keys([world.scale("db").target])[0], "until", "0")
    with pytest.raises(Busy):
        await world.make_worker().advance(second.id)
    assert (await resume(world, first)).state == "applied"
    await world.worker.advance(second.id)
    assert (await world.book.get(second.id)).state == "stale", "it was planned on what the first has changed"


async def keys_of(redis: Redis) -> list[str]:
    """Every key of ours, without a SCAN (which the user may not run)."""
    known = ["events", "work", "proposals", "expiring", "fence", "glass", "known"]
    known += [f"ledger:{CLUSTER}/argocd/{name}" for name in APPS]
    ids = cast("list[str]", await redis.zrange("{arborgate}:proposals", 0, -1))
    return [f"{{arborgate}}:{name}" for name in known] + [f"{{arborgate}}:proposal:{one}" for one in ids]
