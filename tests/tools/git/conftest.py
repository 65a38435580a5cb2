"""A repository on a real Git server, and those who read and write it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from arborgate.tools.git.source import GitSource
from tests.parts.git import GitServer
from tests.tools.git.repository import FILES, NAME, make_settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    folder = tmp_path / "repositories"
    folder.mkdir()
    with GitServer(folder) as running:
        running.add(NAME, FILES)
        yield running


@pytest.fixture
async def source(server: GitServer, tmp_path: Path, anyio_backend: str) -> AsyncIterator[GitSource]:
    made = GitSource(make_settings(server, tmp_path))
    yield made
    await made.close()
