"""A failover under Sentinel loses no approval that was answered for, if replicas have to acknowledge (docs/proposals.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import BadConfiguration, Busy, Unavailable
from arborgate.server.leases import Leases, LostLease
from arborgate.server.settings import StateSettings
from arborgate.server.state import State, open_state
from arborgate.tools.proposal import Proposal
from tests.parts.redis import RedisSentinel
from tests.server.applier.world import APPS, PREFIX, World, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

FAILOVERS = 3
TIMEOUT = 2.0


@pytest.fixture
async def redis(redis_sentinel: RedisSentinel, anyio_backend: str) -> AsyncIterator[Redis]:
    hosts = ",".join(f"{host}:{port}" for host, port in redis_sentinel.sentinels)
    user = f"arborgate:{quote(redis_sentinel.passwords['arborgate'])}"
    url = f"redis+sentinel://{user}@{hosts}/{redis_sentinel.master_name}/0"
    redis_sentinel.find_primary().flush()
    state = open_state(StateSettings(url=url, timeout=TIMEOUT, replicas_acknowledge=1))
    try:
        yield state.redis
    finally:
        await state.redis.aclose()
        await asyncio.to_thread(redis_sentinel.recover)


def make_world(redis: Redis, *, replicas: int = 1) -> World:
    world = World(redis, environment="staging")
    world.state = State(redis, PREFIX, replicas, TIMEOUT / 2)
    world.book = world.make_book()
    world.worker = world.make_worker()
    return world


async def approve(world: World, proposal: Proposal) -> bool:
    """Whether the approval was answered for."""
    try:
        await world.book.decide(world.vote(proposal))
    except Unavailable:
        return False
    return True


async def apply(world: World, proposal: Proposal) -> None:
    """What appliers do: they try again until it is applied."""

    async def applied() -> bool:
        with suppress(Unavailable, Busy, LostLease):
            await world.make_worker().advance(proposal.id)
            return (await world.book.get(proposal.id)).state == "applied"
        return False

    await until(applied, f"{proposal.id} is applied")


async def test_no_approval_that_was_answered_for_is_lost_over_several_failovers(
    redis_sentinel: RedisSentinel, redis: Redis
) -> None:
    world = make_world(redis)
    answered: list[Proposal] = []
    for number in range(FAILOVERS):
        first, *others = [await world.propose(world.scale(name, number + 2)) for name in APPS]
        assert await approve(world, first)
        failing = asyncio.create_task(asyncio.to_thread(redis_sentinel.fail_over))
        approved = [first, *[one for one in others if await approve(world, one)]]
        with suppress(Unavailable, Busy, LostLease):
            await world.worker.advance(first.id)
        await failing
        await asyncio.to_thread(redis_sentinel.recover)  # until there is a replica again, nothing counts
        for proposal in approved:
            await apply(world, proposal)
        answered += approved
        for proposal in answered:
            kept = await world.book.get(proposal.id)
            assert (kept.state, len(kept.approvals)) == ("applied", 1)
        for name in APPS:  # what was approved and not answered for may have been lost, or not
            world.cluster.edit("Deployment", name, {"spec": {"replicas": number + 2}})
    assert len(answered) >= FAILOVERS
    patched = [one.proposal for one in world.cluster.attributed]
    assert {one.id for one in answered} == set(patched)
    assert len(patched) == len(world.cluster.patched) == len(answered), "nothing was done twice"


async def test_a_vote_that_no_replica_has_is_not_answered_for(redis_sentinel: RedisSentinel, redis: Redis) -> None:
    world = make_world(redis)
    proposal = await world.propose(world.scale("api"))
    primary = redis_sentinel.find_primary()
    (replica,) = (server for server in redis_sentinel.servers if server is not primary)
    replica.pause()
    try:
        with pytest.raises(Unavailable, match="may not be kept"):
            await world.book.decide(world.vote(proposal))
        assert world.audit.told()[-1] == ("proposal:approved", "unavailable")
        with pytest.raises(Unavailable, match="may not be kept"):
            await world.worker.advance(proposal.id)
        assert world.cluster.patched == []
    finally:
        replica.resume()
    await apply(world, proposal)


async def test_two_appliers_never_hold_the_same_fence_although_the_last_ones_were_forgotten(
    redis_sentinel: RedisSentinel, redis: Redis
) -> None:
    world = make_world(redis)
    proposal = await world.approved(world.scale("api"))
    targets = [change.target for change in proposal.content.changes]
    one, other = (Leases(world.state, owner, 60.0) for owner in ("one", "other"))
    before = await one.acquire(proposal.id, targets)
    admin = redis_sentinel.find_primary().admin
    admin.delete(world.state.key("fence"), *before.keys)
    await other.acquire(proposal.id, targets)
    with pytest.raises(LostLease):
        await one.renew(before)


def test_a_cluster_is_not_asked_what_it_can_not_answer() -> None:
    settings = StateSettings(url="redis+cluster://127.0.0.1:1", replicas_acknowledge=1)
    with pytest.raises(BadConfiguration, match="replicas_acknowledge"):
        open_state(settings)
