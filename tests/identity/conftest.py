"""A hostile issuer's tokens, and the identity that judges them."""

from collections.abc import AsyncIterator

import pytest

from arborgate.server.identity.authentication import Identity
from tests.identity.forging import make_identity
from tests.server.issuing import Issuer


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    async with made.client:
        yield made


@pytest.fixture
def identity(issuer: Issuer) -> Identity:
    return make_identity(issuer)
