"""A book of proposals on the real Redis; the world of the applier's tests makes what is in it."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.server.applier.world import World


@pytest.fixture
async def world(redis_url: str, anyio_backend: str) -> AsyncIterator[World]:
    async with Redis.from_url(redis_url, decode_responses=True, socket_timeout=5) as client:
        yield World(client)
