"""A repository on a real Git server, and those who read and write it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from arborgate.tools.git.source import GitSource
from tests.parts.git import GitServer
from tests.server.applier.world import connected
from tests.tools.git.desk import Desk
from tests.tools.git.repository import make_settings


@pytest.fixture
def server(git_server: GitServer) -> GitServer:
    return git_server


@pytest.fixture
async def redis(redis_url: str, anyio_backend: str) -> AsyncIterator[Redis]:
    async with connected(redis_url) as client:
        yield client


@pytest.fixture
async def source(server: GitServer, tmp_path: Path, anyio_backend: str) -> AsyncIterator[GitSource]:
    made = GitSource(make_settings(server, tmp_path))
    yield made
    await made.close()


@pytest.fixture
async def desks(server: GitServer, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Callable[..., Desk]]:
    async with AsyncExitStack() as stack:

        def make(**more: Any) -> Desk:
            desk = Desk(server, tmp_path, **more)
            stack.push_async_callback(desk.source.close)
            return desk

        yield make


@pytest.fixture
def desk(desks: Callable[..., Desk]) -> Desk:
    return desks()
