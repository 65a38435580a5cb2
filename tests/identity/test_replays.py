"""Each proof once: over replicas, on every kind of Redis, however many come at once, and not at all without Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import cast

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import AHEAD_SECONDS, Proofs
from arborgate.server.identity.replays import Memory, Replays
from arborgate.server.identity.settings import DpopSettings
from arborgate.server.state import State
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer, run_command

from .proving import NOW, Clock, Prover, present

pytestmark = pytest.mark.anyio

SETTINGS = DpopSettings()
LIFETIME = SETTINGS.window + 2 * AHEAD_SECONDS


@pytest.fixture(params=["server", "sentinel", "cluster"])
async def replicas(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[tuple[Replays, Replays]]:
    """Two replicas, each with a connection of its own to one Redis, of each kind."""
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        cluster.flush()
        url = cluster.url().replace("redis://", "redis+cluster://").removesuffix("/0")
    elif request.param == "sentinel":
        sentinel: RedisSentinel = request.getfixturevalue("redis_sentinel")
        sentinel.recover()
        hosts = ",".join(f"{host}:{port}" for host, port in sentinel.sentinels)
        url = f"redis+sentinel://arborgate:{sentinel.passwords['arborgate']}@{hosts}/{sentinel.master_name}/0"
    else:
        url = request.getfixturevalue("redis_url")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(url)) for _ in range(2)]
        first, second = (Replays(State(client, "{arborgate}:"), SETTINGS) for client in clients)
        yield first, second


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    async with connect(redis_url, timeout=0.2) as redis:
        yield State(redis, "arborgate:")


async def spend(replays: Replays, proof_id: str, thumbprint: str = "key") -> bool:
    """Whether a proof was not used before."""
    try:
        await replays.spend(thumbprint, proof_id)
    except Unauthenticated as error:
        return error.flaw is not Flaw.PROOF_REPLAY
    return True


async def test_a_proof_used_on_one_replica_is_refused_by_the_other(replicas: tuple[Replays, Replays]) -> None:
    first, second = replicas
    assert await spend(first, "one")
    assert [await spend(each, "one") for each in (second, first)] == [False, False]
    assert await spend(second, "two")


async def test_of_many_at_once_on_both_replicas_one_gets_through(replicas: tuple[Replays, Replays]) -> None:
    each = [f"proof-{number}" for number in range(40)]
    found = await asyncio.gather(*(spend(replica, one) for one in each for replica in (*replicas, *replicas)))
    assert [sum(found[start : start + 4]) for start in range(0, len(found), 4)] == [1] * len(each)


async def test_two_keys_may_use_one_id(state: State) -> None:
    replays = Replays(state, SETTINGS)
    assert await spend(replays, "one", "key-a")
    assert await spend(replays, "one", "key-b")
    assert await spend(replays, "\ud800", "key-a")


async def test_a_replay_on_the_same_replica_costs_no_redis(state: State, redis_server: RedisServer) -> None:
    replays = Replays(state, SETTINGS)
    assert await spend(replays, "one")
    redis_server.pause()
    assert not await spend(replays, "one")


async def test_a_redis_that_does_not_answer_lets_nobody_in(state: State, redis_server: RedisServer) -> None:
    replays = Replays(state, SETTINGS)
    redis_server.pause()
    told = await asyncio.gather(*(replays.spend("key", str(one)) for one in range(3)), return_exceptions=True)
    assert [type(each) for each in told] == [Unavailable] * 3


async def test_a_redis_that_takes_no_writes_lets_nobody_in(state: State, redis_server: RedisServer) -> None:
    replays = Replays(state, SETTINGS)
    redis_server.refuse_writes()
    told = await asyncio.gather(*(replays.spend("key", str(one)) for one in range(3)), return_exceptions=True)
    assert [type(each) for each in told] == [Unavailable] * 3
    redis_server.accept_writes()
    assert await spend(replays, "1")


async def test_who_goes_away_takes_nobody_along(state: State) -> None:
    replays = Replays(state, SETTINGS)
    tasks = [asyncio.create_task(spend(replays, str(one))) for one in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in told if not isinstance(each, asyncio.CancelledError)] == [True] * 3


async def test_a_proof_is_remembered_for_longer_than_it_counts(state: State, redis_server: RedisServer) -> None:
    # The earliest that a proof counts is AHEAD_SECONDS before its iat, the latest its window after it.
    clock = Clock(NOW - AHEAD_SECONDS)
    replays = Replays(state, SETTINGS, clock=clock)
    proofs = Proofs(SETTINGS, replays, Nonces(state, SETTINGS, clock=clock), clock=clock)
    holder = Prover()
    proof = holder.prove("token")
    assert await proofs.check(present(proof), "token", bound_to=holder.thumbprint, nonce=False)
    (key,) = cast("list[bytes]", run_command(redis_server.admin, "KEYS", "arborgate:proof:*"))
    kept = cast("int", run_command(redis_server.admin, "PTTL", key.decode())) / 1_000
    assert SETTINGS.window + AHEAD_SECONDS < kept <= LIFETIME
    redis_server.flush()  # what this replica remembers is enough, until the last moment
    for moment, flaw in ((NOW + SETTINGS.window, Flaw.PROOF_REPLAY), (NOW + SETTINGS.window + 0.001, Flaw.PROOF_TIME)):
        clock.now = moment
        with pytest.raises(Unauthenticated) as caught:
            await proofs.check(present(proof), "token", bound_to=holder.thumbprint, nonce=False)
        assert caught.value.flaw is flaw


def test_the_memory_of_a_process_ends_in_time_and_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.0)
    memory = Memory(10.0, clock)
    assert memory.add("a")
    clock.now = 9.9
    assert not memory.add("a")
    clock.now = 10.0
    assert memory.add("a")
    monkeypatch.setattr("arborgate.server.identity.replays._KEPT", 3)
    assert all(memory.add(mark) for mark in "bcd")
    assert memory.add("a")
    assert not memory.add("d")
