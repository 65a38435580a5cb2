"""Proofs at the doors: each resource asks for its own URL, whatever proxies say, and replicas share what was used."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from arborgate.server.audit import AuditLog
from arborgate.server.http import Authenticator
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings, PagesSettings
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_approvals, protect_mcp
from arborgate.server.state import State
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisServer
from tests.server.issuing import ISSUER, Issuer

from .proving import Clock, Prover

pytestmark = pytest.mark.anyio

PUBLIC = "https://arborgate.test"
INSIDE = "http://10.1.2.3:8484"
"""What the request itself says: a proxy ends TLS before it gets here."""


@asynccontextmanager
async def serve(log: AuditLog, issuer: Issuer, redis_url: str, *, nonce: bool) -> AsyncIterator[httpx2.AsyncClient]:
    """A replica: `/mcp`, and the terminal's endpoints below `/approvals`, which say who came in."""
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, dpop_nonce=nonce),))
    async with AsyncExitStack() as stack:
        state = State(await stack.enter_async_context(connect(redis_url, timeout=0.2)), "arborgate:")
        clock = Clock()
        replays, nonces = Replays(state, settings.dpop), Nonces(state, settings.dpop)
        proofs = Proofs(settings.dpop, replays, nonces, clock=clock)
        identity = Identity(settings, {}, client=issuer.client, safeguards=Safeguards(proofs=proofs))
        pages = PagesSettings(issuer=ISSUER)
        resources = protect_mcp(PUBLIC, settings), protect_approvals(PUBLIC, settings, pages)
        mcp, terminal = (Authenticator(identity, log, Metrics(), resource) for resource in resources)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            found = await (mcp if scope["path"] == "/mcp" else terminal).authenticate(scope)
            answer = found if isinstance(found, Response) else PlainTextResponse(found.subject)
            await answer(scope, receive, send)

        transport = httpx2.ASGITransport(app)
        yield await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url=INSIDE))


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[AuditLog]:
    async with AuditLog.open(tmp_path / "record", "serve-1") as opened:
        yield opened


@pytest.fixture
async def door(log: AuditLog, issuer: Issuer, redis_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(log, issuer, redis_url, nonce=False) as client:
        yield client


HOLDER = Prover()


def bound(issuer: Issuer, path: str = "/mcp") -> str:
    return issuer.token(aud=f"{PUBLIC}{path}", cnf={"jkt": HOLDER.thumbprint})


def headers(token: str, proof: str) -> dict[str, str]:
    return {"Authorization": f"DPoP {token}", "DPoP": proof}


async def test_the_target_is_the_public_url(door: httpx2.AsyncClient, issuer: Issuer) -> None:
    token = bound(issuer)
    public = await door.post("/mcp?x=1", headers=headers(token, HOLDER.prove(token, htu=f"{PUBLIC}/mcp")))
    assert (public.status_code, public.text) == (200, "ada")
    inside = await door.post("/mcp", headers=headers(token, HOLDER.prove(token, htu=f"{INSIDE}/mcp")))
    assert inside.status_code == 401


@pytest.mark.parametrize(
    "forwarded",
    [
        {"Forwarded": "host=evil.test;proto=https"},
        {"X-Forwarded-Host": "evil.test"},
        {"X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"},
        {"Host": "evil.test"},
    ],
)
async def test_forwarded_headers_have_no_say(
    door: httpx2.AsyncClient, issuer: Issuer, forwarded: dict[str, str]
) -> None:
    token = bound(issuer)
    for url, status in ((f"{PUBLIC}/mcp", 200), ("https://evil.test/mcp", 401)):
        proof = headers(token, HOLDER.prove(token, htu=url))
        assert (await door.post("/mcp", headers={**proof, **forwarded})).status_code == status


async def test_each_endpoint_of_a_terminal_is_a_target_of_its_own(door: httpx2.AsyncClient, issuer: Issuer) -> None:
    token = bound(issuer, "/approvals")
    for path, status in (
        ("/approvals/api/proposals/p-1", 200),
        ("/approvals/api/proposals/p%2D1", 200),
        ("/approvals/api/proposals", 401),
        ("/approvals/api/proposals/p-1/approve", 401),
        ("/approvals/api/proposals%2Fp-1", 401),
        ("/mcp", 401),
    ):
        proof = HOLDER.prove(token, htm="GET", htu=f"{PUBLIC}{path}")
        answer = await door.get("/approvals/api/proposals/p-1", headers=headers(token, proof))
        assert answer.status_code == status, path
    post = HOLDER.prove(token, htm="POST", htu=f"{PUBLIC}/approvals/api/proposals/p-1")
    assert (await door.get("/approvals/api/proposals/p-1", headers=headers(token, post))).status_code == 401


async def test_a_proof_used_on_one_replica_is_refused_by_the_other(
    log: AuditLog, issuer: Issuer, redis_url: str, door: httpx2.AsyncClient
) -> None:
    async with serve(log, issuer, redis_url, nonce=False) as other:
        token = bound(issuer)
        proof = headers(token, HOLDER.prove(token, htu=f"{PUBLIC}/mcp"))
        assert (await door.post("/mcp", headers=proof)).status_code == 200
        again = await other.post("/mcp", headers=proof)
        assert again.status_code == 401
        assert again.headers["www-authenticate"].startswith("DPoP ")
        assert 'error="invalid_dpop_proof"' in again.headers["www-authenticate"]


async def test_a_nonce_of_one_replica_is_good_on_the_other(log: AuditLog, issuer: Issuer, redis_url: str) -> None:
    async with (
        serve(log, issuer, redis_url, nonce=True) as here,
        serve(log, issuer, redis_url, nonce=True) as there,
    ):
        token = bound(issuer)
        asked = await here.post("/mcp", headers=headers(token, HOLDER.prove(token, htu=f"{PUBLIC}/mcp")))
        assert asked.status_code == 401
        assert 'error="use_dpop_nonce"' in asked.headers["www-authenticate"]
        proof = HOLDER.prove(token, htu=f"{PUBLIC}/mcp", nonce=asked.headers["dpop-nonce"])
        assert (await there.post("/mcp", headers=headers(token, proof))).status_code == 200


async def test_without_redis_a_bound_token_has_to_wait(
    door: httpx2.AsyncClient, issuer: Issuer, redis_server: RedisServer
) -> None:
    token = bound(issuer)
    redis_server.pause()
    answer = await door.post("/mcp", headers=headers(token, HOLDER.prove(token, htu=f"{PUBLIC}/mcp")))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    redis_server.resume()
    answer = await door.post("/mcp", headers=headers(token, HOLDER.prove(token, htu=f"{PUBLIC}/mcp")))
    assert answer.status_code == 200
