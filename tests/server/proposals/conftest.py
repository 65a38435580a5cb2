"""A book of proposals on the real Redis; the world of the applier's tests makes what is in it."""

from collections.abc import AsyncIterator

import pytest

from tests.server.applier.world import World, connected


@pytest.fixture
async def world(redis_url: str, anyio_backend: str) -> AsyncIterator[World]:
    async with connected(redis_url) as client:
        yield World(client)
