"""An Arborgate to log in at, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.connect.office import Office, open_office
from tests.parts.oidc import OidcProvider


@pytest.fixture
async def office(tmp_path: Path, redis_url: str, oidc_provider: OidcProvider) -> AsyncIterator[Office]:
    async with open_office(tmp_path, redis_url, oidc_provider) as opened:
        yield opened
