"""An estate for each test, on the real Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.applier.world import World, connected
from tests.server.parents.estate import Estate
from tests.server.parents.office import Office


@pytest.fixture
async def estate(redis_url: str, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Estate]:
    async with connected(redis_url) as client:
        yield Estate(World(client, environment="staging"), tmp_path)


@pytest.fixture
async def office(estate: Estate, tmp_path: Path) -> Office:
    return Office(estate, tmp_path)
