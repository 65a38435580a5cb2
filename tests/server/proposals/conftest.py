"""A book of proposals on the real Redis; the world of the applier's tests makes what is in it."""

from collections.abc import AsyncIterator

import pytest

from arborgate.server.background import finishing
from arborgate.tools.redis.connection import connect
from tests.server.applier.world import World


@pytest.fixture
async def world(redis_url: str, anyio_backend: str) -> AsyncIterator[World]:
    async with connect(redis_url) as client, finishing(0.0):
        yield World(client)
