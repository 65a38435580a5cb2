"""Consumers of a group: each process is one of its own, and those that ended are forgotten."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import Unavailable
from arborgate.server.groups import join_group
from arborgate.server.state import State
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisServer

pytestmark = pytest.mark.anyio

STREAM, GROUP = "{arborgate}:work", "appliers"


@pytest.fixture
async def redis(redis_url: str, anyio_backend: str) -> AsyncIterator[Redis]:
    async with connect(redis_url) as client:
        yield client


async def take(redis: Redis, consumer: str) -> list[str]:
    """The ids of what one consumer takes."""
    found: Any = await redis.xreadgroup(GROUP, consumer, {STREAM: ">"})
    return [entry for _, entries in found for entry, _ in entries]


async def find_consumers(redis: Redis) -> dict[str, int]:
    return {one["name"]: one["pending"] for one in await redis.xinfo_consumers(STREAM, GROUP)}


@pytest.mark.parametrize(("start", "found"), [("0", 1), ("$", 0)])
async def test_a_new_group_begins_where_it_is_told_to(redis: Redis, start: str, found: int) -> None:
    await redis.xadd(STREAM, {"proposal": "p"})
    await join_group(State(redis, "{arborgate}:"), STREAM, GROUP, start=start)
    assert len(await take(redis, "me")) == found


async def test_consumers_that_ended_are_forgotten_but_not_what_they_hold(redis: Redis) -> None:
    state = State(redis, "{arborgate}:")
    await join_group(state, STREAM, GROUP, start="0")
    for consumer in ("holds", "ended", "lives"):
        await redis.xadd(STREAM, {"proposal": consumer})
        taken = await take(redis, consumer)
        if consumer != "holds":
            await redis.xack(STREAM, GROUP, *taken)
    await join_group(state, STREAM, GROUP, start="0")
    assert await find_consumers(redis) == {"holds": 1, "ended": 0, "lives": 0}, "for all that is known they live"
    await join_group(state, STREAM, GROUP, start="0", alive=0)
    assert await find_consumers(redis) == {"holds": 1}
    await redis.xadd(STREAM, {"proposal": "next"})
    assert len(await take(redis, "lives")) == 1
    (_, (claimed, *_), *_) = await redis.xautoclaim(STREAM, GROUP, "lives", 0, "0-0")
    assert claimed[1] == {"proposal": "holds"}


async def test_a_redis_that_is_away_is_said_to_be(redis: Redis, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(Unavailable):
        await join_group(State(redis, "{arborgate}:"), STREAM, GROUP, start="0")
