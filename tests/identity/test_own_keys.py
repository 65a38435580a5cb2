"""Arborgate's own keys: every replica verifies what any of them signed, and nobody can make them work for nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import httpx2
import orjson
import pytest
from joserfc.jwk import ECKey, OKPKey
from starlette.applications import Starlette

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.flaws import Unauthenticated
from arborgate.server.identity.own_keys import JWKS_PATH, OwnKeys
from arborgate.server.identity.tokens import check_signature, take_apart
from arborgate.server.settings import StateSettings
from arborgate.server.state import State, open_state
from tests.identity.proving import Clock
from tests.parts.redis import RedisServer

pytestmark = pytest.mark.anyio

NAME = "{arborgate}:issuer-keys"


class Replicas:
    """As many as are asked for, on one Redis and by one clock."""

    def __init__(self, state: State) -> None:
        self.clock = Clock()
        self._state = state

    def open(self, rotate: float = 100.0) -> OwnKeys:
        return OwnKeys(self._state, rotate=rotate, clock=self.clock)

    async def sign(self, keys: OwnKeys, life: float = 300.0) -> str:
        return await keys.sign({"sub": "shop"}, ends=self.clock() + life)


@pytest.fixture
async def replicas(redis_url: str, anyio_backend: str) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        state = open_state(StateSettings(url=redis_url, timeout=0.5))
        stack.push_async_callback(state.redis.aclose)
        yield Replicas(state)


async def verifies(keys: OwnKeys, token: str) -> bool:
    jwt = take_apart(token.encode())
    found = await keys.find(jwt.header["kid"])
    if found is None:
        return False
    try:
        check_signature(jwt, found)
    except Unauthenticated:
        return False
    return True


def kid_of(token: str) -> str:
    return str(take_apart(token.encode()).header["kid"])


def published(server: RedisServer) -> dict[str, Any]:
    found = cast("dict[bytes, bytes]", server.admin.hgetall(NAME))
    return {name.decode(): json.loads(text) for name, text in found.items()}


def count_reads(server: RedisServer) -> int:
    stats = dict(server.admin.info("commandstats"))
    return int(stats["cmdstat_hgetall"]["calls"]) if "cmdstat_hgetall" in stats else 0


async def test_what_one_replica_signs_all_verify(replicas: Replicas) -> None:
    one, other = replicas.open(), replicas.open()
    first, second = await replicas.sign(one), await replicas.sign(other)
    for keys in (one, other):
        assert await verifies(keys, first)
        assert await verifies(keys, second)
    assert kid_of(first) != kid_of(second)


async def test_only_public_halves_are_published(replicas: Replicas, redis_server: RedisServer) -> None:
    token = await replicas.sign(replicas.open())
    ((kid, said),) = published(redis_server).items()
    assert kid == kid_of(token)
    assert set(said["jwk"]) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


async def test_a_key_is_replaced_and_what_it_signed_stays_good_to_its_end(replicas: Replicas) -> None:
    one, other = replicas.open(), replicas.open()
    before = await replicas.sign(one)
    replicas.clock.now += 99
    assert kid_of(await replicas.sign(one, life=100)) == kid_of(before)
    replicas.clock.now += 2
    after = await replicas.sign(one)
    assert kid_of(after) != kid_of(before)
    for keys in (one, other):
        assert await verifies(keys, before)
        assert await verifies(keys, after)


async def test_a_restart_makes_a_new_key_and_ends_no_token(replicas: Replicas) -> None:
    before = await replicas.sign(replicas.open())
    restarted = replicas.open()
    assert await verifies(restarted, before)
    assert kid_of(await replicas.sign(restarted)) != kid_of(before)


async def test_a_key_goes_when_the_last_token_that_it_signed_has_ended(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    one, other = replicas.open(), replicas.open()
    token = await replicas.sign(one, life=300)
    for signer in (one, other):
        await replicas.sign(signer, life=20)
        assert redis_server.admin.pttl(NAME) > 3_600_000  # nobody's short token shortens what others need
    replicas.clock.now += 305
    assert await verifies(other, token)
    replicas.clock.now += 61
    for keys in (one, other):
        await keys.find(kid_of(token))  # known still, and read again beside
        await keys.close()
        assert await keys.find(kid_of(token)) is None
    assert published(redis_server) == {}


async def test_an_unknown_key_is_looked_for_a_few_times_however_often_it_is_asked_for(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    keys = replicas.open()
    before = count_reads(redis_server)
    for number in range(500):
        assert await keys.find(f"{number:043}") is None
    await asyncio.gather(*(keys.find(f"x{number:042}") for number in range(500)))
    assert count_reads(redis_server) - before <= 10
    token = await replicas.sign(replicas.open())
    replicas.clock.now += 1
    assert await verifies(keys, token)


@pytest.mark.parametrize("kid", [None, "", "k1", "../" * 14 + "x", "x" * 44, "x" * 42 + "\n", "ü" * 43])
async def test_a_name_that_no_key_of_ours_has_costs_no_redis(
    replicas: Replicas, redis_server: RedisServer, kid: str | None
) -> None:
    before = count_reads(redis_server)
    assert await replicas.open().find(kid) is None
    assert count_reads(redis_server) == before


async def test_those_who_ask_at_once_share_a_read(replicas: Replicas, redis_server: RedisServer) -> None:
    token = await replicas.sign(replicas.open())
    keys = replicas.open()
    before = count_reads(redis_server)
    assert all(await asyncio.gather(*(verifies(keys, token) for _ in range(50))))
    assert count_reads(redis_server) - before == 1


async def test_while_redis_is_away_known_keys_verify_and_nothing_is_signed(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    one, other = replicas.open(), replicas.open()
    token = await replicas.sign(one)
    assert await verifies(other, token)
    unknown = await replicas.sign(replicas.open())
    redis_server.stop()
    replicas.clock.now += 61
    assert await verifies(other, token)
    await other.close()
    assert await verifies(other, token)
    with pytest.raises(Unavailable):
        await other.find(kid_of(unknown))
    with pytest.raises(Unavailable):
        await replicas.sign(one)
    redis_server.start()
    replicas.clock.now += 1
    assert await verifies(other, unknown)


async def test_a_redis_that_lost_the_keys_has_them_again_with_the_next_token(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    one = replicas.open()
    before = await replicas.sign(one)
    redis_server.flush()
    await replicas.sign(one, life=10)
    assert await verifies(replicas.open(), before)
    assert published(redis_server)[kid_of(before)]["until"] >= replicas.clock() + 300


async def test_a_key_that_was_taken_away_verifies_for_a_minute_at_most(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    other = replicas.open()
    token = await replicas.sign(replicas.open())
    assert await verifies(other, token)
    generation = other.generation
    redis_server.flush()
    replicas.clock.now += 61
    assert not other.fresh
    await other.find(kid_of(token))
    await other.close()
    assert (other.fresh, other.generation > generation) == (True, True)
    assert not await verifies(other, token)


def strangers() -> dict[str, str]:
    """What somebody else could put among the keys, by its name there."""
    good = ECKey.generate_key("P-256")
    private, curve, kind = good.as_dict(private=True), ECKey.generate_key("P-384"), OKPKey.generate_key("Ed25519")
    jwks = {
        good.thumbprint(): private,
        "n" * 43: good.as_dict(private=False),
        curve.thumbprint(): curve.as_dict(private=False),
        kind.thumbprint(): kind.as_dict(private=False),
    }
    told = {name: orjson.dumps({"jwk": jwk, "until": 2e9}).decode() for name, jwk in jwks.items()}
    return {**told, "o" * 43: "{", "p" * 43: "[]", "q" * 43: '{"jwk": {}, "until": "x"}'}


async def test_what_no_replica_would_publish_is_no_key_and_is_cleared_away(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    token = await replicas.sign(replicas.open())
    foreign = strangers()
    for name, text in foreign.items():
        redis_server.admin.hset(NAME, name, text)
    keys = replicas.open()
    assert await verifies(keys, token)
    for name in foreign:
        assert await keys.find(name) is None
    assert list(published(redis_server)) == [kid_of(token)]


async def test_the_public_keys_are_shown_to_the_world(replicas: Replicas, redis_server: RedisServer) -> None:
    keys = replicas.open()
    tokens = [await replicas.sign(each) for each in (keys, replicas.open())]
    transport = httpx2.ASGITransport(Starlette(routes=keys.routes()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gate.test") as client:
        answer = await client.get(JWKS_PATH)
        before = count_reads(redis_server)
        for _ in range(20):
            await client.get(JWKS_PATH)
    assert count_reads(redis_server) == before
    shown = answer.json()["keys"]
    assert [key["kid"] for key in shown] == sorted(map(kid_of, tokens))
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in shown)
    assert answer.headers["cache-control"] == "max-age=60"


async def test_without_redis_there_is_no_empty_set_of_keys_to_be_believed(
    replicas: Replicas, redis_server: RedisServer
) -> None:
    redis_server.stop()
    transport = httpx2.ASGITransport(Starlette(routes=replicas.open().routes()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gate.test") as client:
        answer = await client.get(JWKS_PATH)
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
