"""Keys behind tokens: rotated, withdrawn, slow to come or none at all, as a caller notices it."""

import asyncio

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from tests.identity.forging import ROLES, make_identity
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio


async def test_a_rotated_key_is_found_without_a_restart(issuer: Issuer) -> None:
    identity = make_identity(issuer, min_interval=0.000_001)
    await identity.authenticate(issuer.token(), audience=AUDIENCE)
    issuer.keys = {"k2": RSAKey.generate_key(2048, {"kid": "k2", "use": "sig"})}
    token = issuer.sign(issuer.claims(), header={"alg": "RS256", "kid": "k2"}, key=issuer.keys["k2"])
    assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"


async def test_who_comes_while_the_keys_are_fetched_waits_for_them(identity: Identity, issuer: Issuer) -> None:
    issuer.answering.clear()
    first = asyncio.create_task(identity.authenticate(issuer.token(), audience=AUDIENCE))
    async with asyncio.timeout(5):
        while not issuer.fetches:
            await asyncio.sleep(0)
        second = asyncio.create_task(identity.authenticate(issuer.token(sub="ben"), audience=AUDIENCE))
        await asyncio.sleep(0)
        issuer.answering.set()
        assert [(await task).subject for task in (first, second)] == ["ada", "ben"]
    assert issuer.fetches == 1


async def test_known_keys_work_while_the_issuer_is_away(issuer: Issuer) -> None:
    settings = IdentitySettings(
        issuers=(IssuerSettings(issuer=ISSUER),), jwks_max_age=0.000_001, jwks_min_interval=0.000_001
    )
    identity = Identity(settings, ROLES, client=issuer.client)
    await identity.authenticate(issuer.token(), audience=AUDIENCE)
    issuer.away = True
    assert (await identity.authenticate(issuer.token(jti="another"), audience=AUDIENCE)).subject == "ada"


async def test_a_slow_issuer_keeps_nobody_waiting_whose_key_is_known(issuer: Issuer) -> None:
    short = 0.000_001
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),), jwks_max_age=short, jwks_min_interval=short)
    identity = Identity(settings, ROLES, client=issuer.client)
    await identity.authenticate(issuer.token(), audience=AUDIENCE)
    issuer.answering.clear()
    async with asyncio.timeout(10):
        assert (await identity.authenticate(issuer.token(jti="another"), audience=AUDIENCE)).subject == "ada"
    issuer.answering.set()
    assert (await identity.authenticate(issuer.token(jti="a third"), audience=AUDIENCE)).subject == "ada"


async def test_a_symmetric_key_in_the_key_set_is_never_used(issuer: Issuer) -> None:
    issuer.keys["k0"] = OctKey.generate_key(256, {"kid": "k0"})
    identity = make_identity(issuer)
    with pytest.raises(Unauthenticated):
        await identity.authenticate(issuer.sign(issuer.claims(), header={"kid": "k0"}), audience=AUDIENCE)


@pytest.mark.parametrize(
    "stranger",
    [
        "text",
        None,
        7,
        {},
        {"kid": "z"},
        {"kty": "AKP", "kid": "z"},
        {"kty": "RSA", "kid": "z", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "kid": "z", "crv": "P-0", "x": "a", "y": "b"},
    ],
    ids=str,
)
async def test_a_key_that_is_none_does_not_take_the_others_along(issuer: Issuer, stranger: object) -> None:
    issuer.strangers = [stranger]
    assert (await make_identity(issuer).authenticate(issuer.token(), audience=AUDIENCE)).subject == "ada"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        "text",
        {"issuer": ISSUER},
        {"issuer": "https://another.test", "jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER, "jwks_uri": "http://[bad"},
        {"issuer": ISSUER, "jwks_uri": "http://issuer.test/jwks"},
    ],
    ids=["list", "text", "no-keys", "another-issuer", "no-url", "no-tls"],
)
async def test_metadata_that_is_none_or_leads_astray_brings_no_keys(issuer: Issuer, metadata: object) -> None:
    issuer.metadata = metadata
    with pytest.raises(Unavailable):
        await make_identity(issuer).authenticate(issuer.token(), audience=AUDIENCE)


async def test_a_token_seen_before_is_refused_once_its_key_is_withdrawn(issuer: Issuer) -> None:
    settings = IdentitySettings(
        issuers=(IssuerSettings(issuer=ISSUER),), jwks_max_age=0.000_001, jwks_min_interval=0.000_001
    )
    identity = Identity(settings, ROLES, client=issuer.client)
    token = issuer.token()
    await identity.authenticate(token, audience=AUDIENCE)
    issuer.keys = {"k2": ECKey.generate_key("P-256", {"kid": "k2"})}
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.KEY
