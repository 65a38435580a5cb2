"""Tokens bound to a client's certificate: believed of a trusted proxy, and of nobody else (RFC 8705, RFC 9440)."""

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from arborgate.policies.errors import BadConfiguration
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.presenting import BEARER, ClientCertificates, read_token
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from arborgate.server.scope import PEER
from arborgate.server.settings import HttpSettings
from tests.parts.process import find_free_ports
from tests.server.issuing import AUDIENCE, ISSUER, Issuer
from tests.server.serving import serving

pytestmark = pytest.mark.anyio

CERTIFICATE = b"0\x82 what a proxy passes on in DER"
PROXY, STRANGER = "10.1.2.3", "203.0.113.9"
HEADER = "Client-Cert"
TRUSTED = ClientCertificates(HEADER, (PROXY, "fd00::/8"))

Header = tuple[str, str]


def item(certificate: bytes = CERTIFICATE) -> str:
    """A byte sequence of RFC 8941 section 3.3.5."""
    return f":{base64.b64encode(certificate).decode()}:"


def make_scope(*headers: Header, peer: str = PROXY) -> Scope:
    return {
        "method": "POST",
        "path": "/mcp",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": (PROXY, 1),  # as a forged X-Forwarded-For would have it
        PEER: peer,
    }


def bound(issuer: Issuer, certificate: bytes = CERTIFICATE) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
    return issuer.token(cnf={"x5t#S256": digest})


@pytest.fixture
def identity(issuer: Issuer) -> Identity:
    return Identity(IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),)), {}, client=issuer.client)


async def enter(identity: Identity, token: str, *headers: Header, peer: str = PROXY, scheme: str = "Bearer") -> str:
    """Who comes in with these headers from this peer, or why nobody does."""
    scope = make_scope(("authorization", f"{scheme} {token}"), *headers, peer=peer)
    found, presented = read_token(scope, "https://arborgate.test", TRUSTED)
    try:
        caller = await identity.authenticate(found, audience=AUDIENCE, presented=presented)
    except Unauthenticated as error:
        return error.flaw
    return caller.subject


@pytest.mark.parametrize("peer", [PROXY, "fd00::1", f"::ffff:{PROXY}"])
async def test_a_token_with_its_certificate_from_a_trusted_proxy_gets_in(
    identity: Identity, issuer: Issuer, peer: str
) -> None:
    token = bound(issuer)
    for _ in range(2):  # the second time the token is known
        assert await enter(identity, token, (HEADER, item()), peer=peer) == "ada"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((HEADER, item(b"another")),),
        ((HEADER, item() + ";x=1"),),
        ((HEADER, item()), (HEADER, item())),
        ((HEADER, item()), (HEADER, item(b"another"))),
        ((HEADER, f"{item()}, {item()}"),),
        ((HEADER, ""),),
        ((HEADER, ":"),),
        ((HEADER, "::"),),
        ((HEADER, base64.b64encode(CERTIFICATE).decode()),),
        ((HEADER, f'"{base64.b64encode(CERTIFICATE).decode()}"'),),
        ((HEADER, item().replace("=", "")),),
        ((HEADER, ":" + "!" * 40 + ":"),),
        ((HEADER, ":" + "A" * 20_000 + ":"),),
        ((HEADER, ":é:"),),
        (("Client-Cert-Chain", item()),),
        (("X-Client-Cert", item()),),
        (("X-Forwarded-Client-Cert", item()),),
    ],
)
@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
async def test_a_bound_token_without_its_one_certificate_is_refused(
    identity: Identity, issuer: Issuer, headers: Sequence[Header], scheme: str
) -> None:
    assert await enter(identity, bound(issuer), *headers, scheme=scheme) == Flaw.CERTIFICATE


@pytest.mark.parametrize("peer", [STRANGER, "", "10.1.2.4", "10.1.2.30", "localhost", "::1", f"::ffff:{STRANGER}"])
async def test_a_certificate_from_anybody_else_is_not_believed(identity: Identity, issuer: Issuer, peer: str) -> None:
    assert await enter(identity, bound(issuer), (HEADER, item()), peer=peer) == Flaw.CERTIFICATE


@pytest.mark.parametrize("thumbprint", ["", "é", " ", "A" * 43])
async def test_a_thumbprint_of_no_certificate_lets_nobody_in(
    identity: Identity, issuer: Issuer, thumbprint: str
) -> None:
    token = issuer.token(cnf={"x5t#S256": thumbprint})
    for headers in ((), ((HEADER, item()),), ((HEADER, item(b"")),)):
        assert await enter(identity, token, *headers) == (Flaw.CERTIFICATE if thumbprint else Flaw.CLAIMS)


async def test_a_certificate_larger_than_any_is_not_read(identity: Identity, issuer: Issuer) -> None:
    large = b"0" * 20_000
    assert await enter(identity, bound(issuer, large), (HEADER, item(large))) == Flaw.CERTIFICATE


async def test_other_tokens_are_none_the_wiser(identity: Identity, issuer: Issuer) -> None:
    token = issuer.token()
    for headers in ((), ((HEADER, item()),), ((HEADER, "nonsense"),), ((HEADER, item()), (HEADER, item()))):
        assert await enter(identity, token, *headers) == "ada"
    plain = make_scope(("authorization", f"Bearer {token}"))
    assert read_token(plain, "https://arborgate.test", TRUSTED)[1] is BEARER


@pytest.mark.parametrize("proxies", [(), ("*",), ("proxy.internal",), ("10.0.0.1/8",), ("10.0.0.0/8", "")])
def test_a_header_that_nobody_or_everybody_is_believed_with_refuses_to_start(proxies: Sequence[str]) -> None:
    with pytest.raises(BadConfiguration):
        ClientCertificates(HEADER, proxies)


@asynccontextmanager
async def listening(**changes: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A door on a real socket that says who is at its other end, who uvicorn thinks it is, and what was shown."""
    settings = HttpSettings(port=find_free_ports(1)[0], client_cert_header=HEADER, **changes)
    certificates = ClientCertificates(settings.client_cert_header, ("127.0.0.1",))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        told = f"{scope[PEER]} {scope['client'][0]} {certificates.read(scope) == CERTIFICATE}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": told.encode()})

    async with serving(app, settings), httpx2.AsyncClient(base_url=settings.url, trust_env=False) as client:
        yield client


async def test_the_peer_is_the_proxy_whoever_it_says_to_forward_for() -> None:
    async with listening(trusted_proxies=("127.0.0.1",)) as client:
        forwarded = {"X-Forwarded-For": STRANGER, HEADER: item()}
        for _ in range(2):  # on one connection
            assert (await client.get("/", headers=forwarded)).text == f"127.0.0.1 {STRANGER} True"
        assert (await client.get("/")).text == "127.0.0.1 127.0.0.1 False"


async def test_nobody_is_a_proxy_by_saying_so() -> None:
    async with listening(trusted_proxies=(PROXY,)) as client:
        answer = await client.get("/", headers={"X-Forwarded-For": PROXY})
        assert answer.text.startswith("127.0.0.1 127.0.0.1 ")
