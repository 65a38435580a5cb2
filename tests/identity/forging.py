"""Tokens of a test's own making, rightly signed or not, and the identity that judges them."""

import base64
import json
import time
from collections.abc import Callable

import pytest
from joserfc.jws import JWSRegistry

from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

ROLES = {"developer": ("arborgate-developers",), "approver": ("arborgate-approvers", "leads")}


def make_identity(issuer: Issuer, *, min_interval: float = 30.0, clock: Callable[[], float] = time.time) -> Identity:
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),), jwks_min_interval=min_interval)
    return Identity(settings, ROLES, client=issuer.client, clock=clock)


def encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def forge(issuer: Issuer, *, header: bytes | None = None, claims: bytes | None = None) -> str:
    """A token over these very bytes, rightly signed."""
    parts = [header or b'{"alg":"ES256","kid":"k1","typ":"at+jwt"}', claims or json.dumps(issuer.claims()).encode()]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = JWSRegistry.algorithms["ES256"].sign(signed, issuer.keys["k1"])
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def refuse(identity: Identity, token: str) -> Flaw:
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    return refused.value.flaw
