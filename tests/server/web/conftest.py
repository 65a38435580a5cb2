"""A fresh world for each test, and a provider that is not to be trusted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.web.hostile import Hostile
from tests.server.web.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    async with open_world(tmp_path / "record", redis_url) as opened:
        yield opened


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    provider = Hostile()
    yield provider
    await provider.client.aclose()
