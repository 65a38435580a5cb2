"""What issuers publish: fetched within bounds, and taken for keys only where nobody else could sign with them."""

import asyncio
import base64
import gzip
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.keys import Keys
from arborgate.server.identity.settings import Algorithm, IdentitySettings, IssuerSettings
from tests.identity.test_keys import INTERVAL, Clock
from tests.parts.certificates import CertificateAuthority
from tests.server.issuing import AUDIENCE, ISSUER, Issuer, Key

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


def serve(routes: dict[str, Callable[[Request], Any]]) -> httpx2.AsyncClient:
    app = Starlette(routes=[Route(path, answer) for path, answer in routes.items()])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), follow_redirects=True)


def published(*keys: Key) -> dict[str, Any]:
    return dict(KeySet(list(keys)).as_dict(private=False))


EC = ECKey.generate_key("P-256", {"kid": "k1"})


async def test_no_redirect_is_followed() -> None:
    reached: list[str] = []

    async def elsewhere(_request: Request) -> Response:
        reached.append("elsewhere")
        return JSONResponse(published(EC))

    async def jwks(_request: Request) -> Response:
        return RedirectResponse(f"{ISSUER}/elsewhere")

    async with serve({"/jwks": jwks, "/elsewhere": elsewhere}) as client:
        keys = Keys(IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks"), client, max_age=60, min_interval=INTERVAL)
        with pytest.raises(Unavailable):
            await keys.find("k1")
    assert reached == []


@pytest.mark.parametrize("longer", [False, True], ids=["within", "beyond"])
async def test_an_answer_that_is_too_long_is_not_read_to_its_end(longer: bool) -> None:
    body = orjson.dumps({**published(EC), "padding": "x" * (600_000 if longer else 400_000)})

    async def jwks(_request: Request) -> Response:
        return Response(body)

    async with serve({"/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL)
        if not longer:
            assert await keys.find("k1") is not None
            return
        with pytest.raises(Unavailable):
            await keys.find("k1")


async def test_a_compressed_answer_is_not_unpacked() -> None:
    body = gzip.compress(orjson.dumps(published(EC)))

    async def jwks(_request: Request) -> Response:
        return Response(body, headers={"Content-Encoding": "gzip"})

    async with serve({"/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        with pytest.raises(Unavailable):
            await Keys(settings, client, max_age=60, min_interval=INTERVAL).find("k1")


async def test_no_more_than_so_many_keys_count(clock: Clock) -> None:
    def name(number: int) -> dict[str, Any]:
        return {**EC.as_dict(private=False), "kid": f"k{number}"}

    async def jwks(_request: Request) -> Response:
        return JSONResponse({"keys": [name(number) for number in range(200)]})

    async with serve({"/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL, clock=clock)
        found = await keys.find("k1")
        assert found is not None
        assert len(found.keys) == 64


def weak() -> dict[str, Any]:
    """A whole RSA key of 1,024 bits, which joserfc would only warn about."""
    numbers = rsa.generate_private_key(65_537, 1_024).public_key().public_numbers()
    modulus = base64.urlsafe_b64encode(numbers.n.to_bytes(128)).rstrip(b"=").decode()
    return {"kty": "RSA", "n": modulus, "e": "AQAB"}


@pytest.mark.parametrize(
    "key",
    [
        weak(),
        EC.as_dict(private=True),
        {**EC.as_dict(private=False), "use": "enc"},
        {**EC.as_dict(private=False), "key_ops": ["sign"]},
        {**EC.as_dict(private=False), "key_ops": 7},
        OKPKey.generate_key("X25519").as_dict(private=False),
        OKPKey.generate_key("Ed448").as_dict(private=False),
        ECKey.generate_key("P-521").as_dict(private=False),
        {"kty": "oct", "k": "c2VjcmV0LXRoYXQtaXMtcHVibGljLXNlY3JldC10aGF0"},
    ],
    ids=["weak", "private", "encryption", "signs-only", "no-operations", "x25519", "ed448", "p521", "symmetric"],
)
async def test_a_key_that_others_could_sign_with_is_never_used(key: dict[str, Any], clock: Clock) -> None:
    async def jwks(_request: Request) -> Response:
        return JSONResponse({"keys": [{**key, "kid": "bad"}, {**EC.as_dict(private=False), "kid": "good"}]})

    async with serve({"/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL, clock=clock)
        assert await keys.find("good") is not None
        assert await keys.find("bad") is None


@pytest.mark.parametrize(
    ("path", "metadata_path"),
    [
        ("", "/.well-known/openid-configuration"),
        ("", "/.well-known/oauth-authorization-server"),
        ("/tenant", "/tenant/.well-known/openid-configuration"),
        ("/tenant", "/.well-known/oauth-authorization-server/tenant"),
        ("/tenant", "/.well-known/openid-configuration/tenant"),
    ],
)
async def test_metadata_is_found_where_either_specification_puts_it(path: str, metadata_path: str) -> None:
    async def metadata(_request: Request) -> Response:
        return JSONResponse({"issuer": f"{ISSUER}{path}", "jwks_uri": f"{ISSUER}/jwks"})

    async def jwks(_request: Request) -> Response:
        return JSONResponse(published(EC))

    async with serve({metadata_path: metadata, "/jwks": jwks}) as client:
        keys = Keys(IssuerSettings(issuer=f"{ISSUER}{path}"), client, max_age=60, min_interval=INTERVAL)
        assert await keys.find("k1") is not None


async def test_the_token_for_the_keys_goes_to_the_issuer_alone_and_is_read_anew(tmp_path: Path, clock: Clock) -> None:
    seen: list[tuple[str, str | None]] = []
    elsewhere = "https://keys.test"

    async def metadata(request: Request) -> Response:
        seen.append((request.url.hostname or "", request.headers.get("Authorization")))
        return JSONResponse({"issuer": ISSUER, "jwks_uri": f"{elsewhere}/jwks"})

    async def jwks(request: Request) -> Response:
        seen.append((request.url.hostname or "", request.headers.get("Authorization")))
        return JSONResponse(published(EC))

    file = tmp_path / "token"
    file.write_text("first\n")
    async with serve({"/.well-known/openid-configuration": metadata, "/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_token_file=file)
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL, clock=clock)
        await keys.find("k1")
        assert seen == [("issuer.test", "Bearer first"), ("keys.test", None)]
        seen.clear()
        file.write_text("second\n")
        clock.now += 61
        named = settings.model_copy(update={"jwks_url": f"{elsewhere}/jwks"})
        await Keys(named, client, max_age=60, min_interval=INTERVAL, clock=clock).find("k1")
        await keys.find("k1")
        assert seen == [("keys.test", "Bearer second"), ("issuer.test", "Bearer second"), ("keys.test", None)]


async def test_an_issuer_with_a_ca_of_its_own_is_trusted_by_that_ca_alone(tmp_path: Path) -> None:
    answer = orjson.dumps(published(EC))

    async def serve_keys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()

    (tmp_path / "other").mkdir()
    authority, stranger = CertificateAuthority(tmp_path), CertificateAuthority(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("issuer"))
    async with (
        await asyncio.start_server(serve_keys, "127.0.0.1", 0, ssl=context) as server,
        httpx2.AsyncClient() as web,
    ):
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for ca_file, trusted in ((authority.file, True), (stranger.file, False), (None, False)):
            settings = IssuerSettings(issuer=url, jwks_url=f"{url}/jwks", ca_file=ca_file)
            keys = Keys(settings, web, max_age=60, min_interval=INTERVAL)
            if trusted:
                assert await keys.find("k1") is not None
            else:
                with pytest.raises(Unavailable):
                    await keys.find("k1")


@pytest.mark.parametrize(
    ("algorithm", "key", "accepted"),
    [
        ("ES256", ECKey.generate_key("P-256", {"kid": "k1"}), True),
        ("ES384", ECKey.generate_key("P-384", {"kid": "k1"}), True),
        ("RS256", RSAKey.generate_key(2048, {"kid": "k1"}), True),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k1"}), True),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "k1"}), True),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "k1", "alg": "EdDSA"}), True),
        ("RS256", RSAKey.generate_key(2048, {"kid": "k1", "alg": "PS256"}), False),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256"}), False),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k1", "alg": "RSA-OAEP"}), False),
    ],
)
async def test_a_key_verifies_only_what_it_is_made_for(
    issuer: Issuer, algorithm: Algorithm, key: Key, accepted: bool
) -> None:
    issuer.keys = {"k1": key}
    settings = IssuerSettings(issuer=ISSUER, algorithms=("ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"))
    identity = Identity(IdentitySettings(issuers=(settings,)), {}, client=issuer.client)
    signer = type(key).import_key({k: v for k, v in key.as_dict(private=True).items() if k != "alg"})
    token = issuer.sign(issuer.claims(), header={"alg": algorithm}, key=signer)
    if accepted:
        assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"
        return
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.SIGNATURE
