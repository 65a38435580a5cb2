"""Nonces of ours: one for all replicas, good for its turn and the next, replaced without a refusal for who keeps up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import DpopSettings
from arborgate.server.scope import NONCE
from arborgate.server.state import State
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisCluster, RedisServer

from .proving import Clock, Prover, present

pytestmark = pytest.mark.anyio

SETTINGS = DpopSettings(nonce_life=100)
START = 1_900_000_000.0
"""The first second of a turn."""


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    async with connect(redis_url, timeout=0.2) as redis:
        yield State(redis, "arborgate:")


@pytest.fixture
def nonces(state: State, clock: Clock) -> Nonces:
    return Nonces(state, SETTINGS, clock=clock)


async def told(nonces: Nonces, nonce: object = None) -> str:
    """The nonce that a refusal names."""
    with pytest.raises(Unauthenticated) as caught:
        await nonces.check(nonce)
    assert caught.value.flaw is Flaw.NONCE
    return caught.value.nonce


async def test_a_nonce_is_good_for_its_turn_and_the_next(nonces: Nonces, clock: Clock) -> None:
    first = await told(nonces)
    assert len(first) >= 20
    clock.now = START + 99.9
    assert await nonces.check(first) == ""
    clock.now = START + 100
    second = await nonces.check(first)  # good still, and its successor is told
    assert second not in ("", first)
    assert await nonces.check(second) == ""
    clock.now = START + 200
    assert await told(nonces, first) not in (first, second)


@pytest.mark.parametrize("nonce", [None, "", "mine", 7, True, ["nonce"], "é", "None"])
async def test_what_is_no_nonce_of_ours_is_answered_with_one(nonces: Nonces, nonce: object) -> None:
    assert await nonces.check(await told(nonces, nonce)) == ""


async def test_replicas_share_their_nonces(state: State, redis_url: str, clock: Clock) -> None:
    async with connect(redis_url) as redis:
        here, there = Nonces(state, SETTINGS, clock=clock), Nonces(State(redis, "arborgate:"), SETTINGS, clock=clock)
        given = await asyncio.gather(*(told(each) for each in (here, there) * 5))
        assert len(set(given)) == 1
        clock.now += 100
        assert len({await there.check(given[0]), await here.check(given[0])}) == 1


async def test_a_replica_whose_clock_is_behind_takes_the_nonce_of_one_ahead(state: State, clock: Clock) -> None:
    behind, ahead = Nonces(state, SETTINGS, clock=clock), Nonces(state, SETTINGS, clock=Clock(START + 100.5))
    await told(behind)
    early = await told(ahead)
    clock.now = START + 99.0
    assert await behind.check(early) == ""
    clock.now = START + 100
    assert await behind.check(early) == ""


async def test_a_nonce_lost_by_redis_is_made_up_for(
    state: State, nonces: Nonces, redis_server: RedisServer, clock: Clock
) -> None:
    lost = await told(nonces)
    redis_server.flush()
    elsewhere = Nonces(state, SETTINGS, clock=clock)
    found = await told(elsewhere, lost)
    clock.now += 2
    assert await nonces.check(found) == ""


async def test_strangers_nonces_are_not_asked_about_one_by_one(
    nonces: Nonces, redis_server: RedisServer, clock: Clock
) -> None:
    nonce = await told(nonces)
    redis_server.pause()
    for each in range(50):
        assert await told(nonces, f"stranger-{each}") == nonce
    assert await nonces.check(nonce) == ""


async def test_without_redis_a_new_turn_has_no_nonce(nonces: Nonces, redis_server: RedisServer, clock: Clock) -> None:
    nonce = await told(nonces)
    redis_server.pause()
    assert await nonces.check(nonce) == ""
    clock.now += 100
    with pytest.raises(Unavailable):
        await nonces.check(nonce)
    redis_server.resume()
    assert await nonces.check(nonce)


async def test_a_cluster_has_them_too(redis_cluster: RedisCluster, clock: Clock) -> None:
    redis_cluster.flush()
    url = redis_cluster.url().replace("redis://", "redis+cluster://").removesuffix("/0")
    async with connect(url) as redis:
        nonces = Nonces(State(redis, "{arborgate}:"), SETTINGS, clock=clock)
        assert await nonces.check(await told(nonces)) == ""


async def test_a_proof_with_the_nonce_before_leaves_its_successor_for_the_answer(state: State, clock: Clock) -> None:
    nonces = Nonces(state, SETTINGS, clock=clock)
    proofs = Proofs(SETTINGS, Replays(state, SETTINGS, clock=clock), nonces, clock=clock)
    holder = Prover()

    async def use(nonce: object) -> object:
        presented = present(holder.prove("token", nonce=nonce, iat=clock.now))
        await proofs.check(presented, "token", bound_to=holder.thumbprint, nonce=True)
        return presented.scope.get(NONCE)

    with pytest.raises(Unauthenticated) as caught:
        await use(None)
    nonce = caught.value.nonce
    assert await use(nonce) is None
    clock.now += 100
    successor = await use(nonce)
    assert successor
    assert await use(successor) is None


async def test_a_nonce_is_told_only_to_who_holds_the_key(state: State, clock: Clock) -> None:
    nonces = Nonces(state, SETTINGS, clock=clock)
    proofs = Proofs(SETTINGS, Replays(state, SETTINGS, clock=clock), nonces, clock=clock)
    holder, thief = Prover(), Prover()
    proof = thief.prove("token", header={"jwk": holder.jwk}, iat=clock.now)
    with pytest.raises(Unauthenticated) as caught:
        await proofs.check(present(proof), "token", bound_to=holder.thumbprint, nonce=True)
    assert (caught.value.flaw, caught.value.nonce) == (Flaw.PROOF_SIGNATURE, "")
