"""A world for each test, on the real Redis."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.server.applier.heist import Heist, plan_heist
from tests.server.applier.world import World, connected


@pytest.fixture
async def redis(redis_url: str, anyio_backend: str) -> AsyncIterator[Redis]:
    async with connected(redis_url) as client:
        yield client


@pytest.fixture
async def world(redis: Redis) -> World:
    return World(redis)


@pytest.fixture
async def redis_world(redis: Redis) -> Callable[..., World]:
    """Makes a world that differs from the usual one."""
    return partial(World, redis)


@pytest.fixture
async def heist(world: World, tmp_path: Path) -> Heist:
    """The applier pins Ana, Bob and the responder Rita."""
    return plan_heist(world, tmp_path)
