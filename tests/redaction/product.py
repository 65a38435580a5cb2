"""The whole product running over a world: `serve` over HTTP, the applier, real Redis, the demo's stand-in of a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx2
from joserfc.jwk import KeySet
from redis import Redis
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from arborgate.server.app import Services, open_services
from arborgate.server.applier import run_applier
from arborgate.server.approvals import new_signing_key
from arborgate.server.demo.cluster import APPLIER, SERVE, SandboxCluster, write_kubeconfig
from arborgate.server.demo.listening import open_port, serving, url_of
from arborgate.server.demo.store import Store
from arborgate.server.http import build_app, requester
from arborgate.server.mcp import build_server
from arborgate.server.protected import protect_mcp
from arborgate.server.routes import build_pages
from arborgate.server.settings import Settings, parse_settings
from arborgate.server.web.browsers import read_browser
from arborgate.server.web.sessions import Person, Sessions
from arborgate.tools.all import TOOLS
from arborgate.tools.text import disarm
from tests.parts.process import find_free_ports
from tests.parts.redis import RedisServer
from tests.redaction.planting import Planted
from tests.redaction.worlds import AWAY, COMMANDS, MANIFESTS, WARNINGS, fill
from tests.server.issuing import Issuer
from tests.server.serving import serving as serving_http

LONGEST_WARNING = 4_096
"""What an API server sends of warnings."""

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"


@dataclass
class Product:
    """Everything of one running Arborgate over one world, and all that has been seen to leave it."""

    folder: Path
    settings: Settings
    services: Services
    http: httpx2.AsyncClient
    issuer: Issuer
    store: Store
    admin: Redis
    seen: list[tuple[str, str]] = field(default_factory=list)

    def observe(self, channel: str, text: str) -> str:
        """Keeps what left by this channel."""
        self.seen.append((channel, text))
        return text

    def token(self, role: str, audience: str = "mcp", **claims: Any) -> str:
        told = {"sub": role, "name": role.title(), "groups": [f"arborgate-{role}s"], "auth_time": int(time.time())}
        url = self.settings.http.url
        return self.issuer.token(
            **{"iss": self.issuer.metadata["issuer"], "aud": f"{url}/{audience}", **told, **claims}
        )

    async def log_in(self, role: str) -> None:
        """Gives the HTTP client the session of somebody who has just logged in to the pages."""
        login = self.settings.identity.pages
        assert login is not None
        sessions = Sessions(login, self.services.state, self.settings.roles, self.services.audit, clock=time.time)
        person = Person(
            issuer=login.issuer,
            subject=role,
            sub=role,
            name=role.title(),
            groups=(f"arborgate-{role}s",),
            authenticated_at=int(time.time()),
        )
        browser = read_browser(Headers(headers={"user-agent": AGENT}))
        session_id, _ = await sessions.start(person, browser, issued_at=time.time())
        self.http.cookies.set("arborgate", session_id, domain="127.0.0.1")


@asynccontextmanager
async def open_product(folder: Path, redis: RedisServer, planted: Mapping[str, Planted]) -> AsyncIterator[Product]:
    """`serve` over HTTP and the applier, with real Redis and the demo's stand-in of a cluster."""
    redis.flush()
    admin: Any = redis.admin  # its commands are untyped
    for command in COMMANDS:
        admin.execute_command(*(part.encode("utf-8", "surrogateescape") for part in fill(command, planted)))
    store = Store()
    for kind, namespace, name, rest in MANIFESTS:
        filled = fill(rest, planted)
        store.put(kind, {**filled, "metadata": {**filled.get("metadata", {}), "namespace": namespace, "name": name}})
    cluster = SandboxCluster(store, {"serve": SERVE, "applier": APPLIER})
    admission = Admission(cluster.app, fill(WARNINGS, planted))
    issuer = Issuer()
    with open_port() as cluster_socket, open_port() as issuer_socket:
        settings = _configure(folder, redis, planted, url_of(cluster_socket), url_of(issuer_socket))
        issuer.metadata = {"issuer": url_of(issuer_socket), "jwks_uri": f"{url_of(issuer_socket)}/jwks"}
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            await enter(serving(cast("Starlette", admission), cluster_socket))
            stack.callback(cluster.close)
            await enter(serving(_publish(issuer), issuer_socket))
            services = await enter(open_services(settings, replica="serve"))
            await enter(serving_http(_build_http(settings, services), settings.http))
            await enter(_applying(_of_applier(settings, folder)))
            client = httpx2.AsyncClient(
                base_url=settings.http.url, headers={"User-Agent": AGENT}, trust_env=False, timeout=20
            )
            yield Product(folder, settings, services, await enter(client), issuer, store, redis.admin)
    await issuer.client.aclose()


@asynccontextmanager
async def _applying(settings: Settings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    applier = asyncio.create_task(run_applier(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await applier


class Admission:
    """An API server whose admission webhooks have something to say to every dry run: warnings, as given, but for those
    that are too long to be sent."""

    def __init__(self, app: Starlette, warnings: list[str]) -> None:
        self._app = app
        self._warnings = [warning for warning in warnings if len(warning) < LONGEST_WARNING]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "PATCH":
            await self._app(scope, receive, send)
            return

        async def warn(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = [(b"warning", f"299 - {_quote(warning)}".encode()) for warning in self._warnings]
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        await self._app(scope, receive, warn)


def _quote(text: str) -> str:
    """A quoted-string of a header (RFC 9110 section 5.6.4)."""
    plain = "".join(char for char in disarm(text) if char.isascii() and char.isprintable())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _configure(folder: Path, redis: RedisServer, planted: Mapping[str, Planted], cluster: str, issuer: str) -> Settings:
    private, public = new_signing_key()
    (folder / "signing.jwk").write_text(private)
    (folder / "verify.jwk").write_text(public)
    for name, token in (("serve", "serve"), ("applier", "applier")):
        write_kubeconfig(folder / f"{name}.kubeconfig", cluster, token)
    (port,) = find_free_ports(1)
    return parse_settings(
        {
            "http": {"port": port, "drain_timeout": 1},
            "identity": {
                "issuers": [{"issuer": issuer, "algorithms": ["ES256"]}],
                "limits": {"rate": 10_000, "burst": 10_000, "in_flight": 1_000},
                "pages": {"issuer": issuer},
            },
            "agents": {"trusted": ["ide-copilot"]},
            "environments": [
                {"name": "dev", "labels": {"env": "dev"}},
                {"name": "production", "strict": True, "labels": {"env": "prod"}},
            ],
            "clusters": [{"name": "main", "kubeconfig": str(folder / "serve.kubeconfig")}],
            "state": {"url": redis.url(), "prefix": "arborgate:"},
            "redis": [
                {"name": "main", "url": redis.url("reader")},
                {"name": "away", "url": fill(AWAY, planted, lambda text: quote(text, safe="")), "timeout": 0.5},
            ],
            "record": {"dir": str(folder / "record")},
            "proposals": {
                "signing_key_file": str(folder / "signing.jwk"),
                "verify_key_file": str(folder / "verify.jwk"),
            },
        }
    )


def _of_applier(settings: Settings, folder: Path) -> Settings:
    own = settings.clusters[0].model_copy(update={"kubeconfig": folder / "applier.kubeconfig"})
    return settings.model_copy(
        update={"replica": "serve", "applier": settings.applier.model_copy(update={"clusters": (own,)})}
    )


def _build_http(settings: Settings, services: Services) -> Any:
    """As `serve_http` builds it."""
    return build_app(
        settings=settings.http,
        server=build_server(services.gate, TOOLS, requester),
        gate=services.gate,
        identity=services.identity,
        resource=protect_mcp(settings.http.url, settings.identity),
        recorder=services.audit,
        metrics=services.metrics,
        readiness=services.readiness.check,
        limits=services.limits,
        pages=build_pages(services),
    )


def _publish(issuer: Issuer) -> Starlette:
    """What the issuer publishes, over HTTP."""

    async def describe(_request: Request) -> Response:
        return JSONResponse(issuer.metadata)

    async def show_keys(_request: Request) -> Response:
        return JSONResponse(KeySet(list(issuer.keys.values())).as_dict(private=False))

    return Starlette(routes=[Route("/.well-known/openid-configuration", describe), Route("/jwks", show_keys)])
