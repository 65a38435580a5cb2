"""HTTP: who may knock (Host, Origin, size, how many at once), who is there (bearer token), and the small endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..policies.errors import ArborgateError, Unrecorded
from ..policies.model import Caller, Channel
from ..tools.record import Entry, Event
from .gate import Recorder
from .identity import Flaw, Identity, Unauthenticated
from .mcp import Calls, RequestContext
from .metrics import Metrics
from .sampling import Sampling
from .settings import HttpSettings
from .shortcut import Shortcut

CALLER = "arborgate.caller"
"""Where the scope of an authenticated request keeps its caller."""

MCP_PATH = "/mcp"
METADATA_PATH = "/.well-known/oauth-protected-resource"
_REFUSALS_RECORDED = 20
"""Refused tokens on record each second: anybody can send them, so all of them are counted and only these written."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})

Readiness = Callable[[], Awaitable[tuple[bool, Mapping[str, Any]]]]


class Doorkeeper:
    """The outermost layer: refuses a foreign Host or Origin (DNS rebinding), a body over the limit, and more requests
    at once than the process may hold. Probes are exempt from the Host check: a kubelet knocks by address."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, metrics: Metrics) -> None:
        self._app = app
        self._limit = settings.body_limit
        self._most = settings.max_in_flight
        self._patience = settings.call_timeout
        self._metrics = metrics
        self._in_flight = 0
        own = urlsplit(settings.url)
        local = {f"{name}:{settings.port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        names = {own.netloc, *settings.allowed_hosts, *(local if _on_loopback(settings.host) else ())}
        origins = {f"{own.scheme}://{own.netloc}", *settings.allowed_origins}
        if _on_loopback(settings.host):
            origins |= {f"http://{host}" for host in local}
        self._port = _DEFAULT_PORTS[own.scheme]
        self._hosts = {_without(name, self._port) for name in names}
        self._origins = {_without(origin, _DEFAULT_PORTS.get(urlsplit(origin).scheme, "")) for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            headers[b"host"] = b""  # which of them was meant is nobody's to guess
        if (refusal := self._refuse(scope["path"], headers)) is not None:
            await refusal(scope, receive, send)
            return
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            await self._app(scope, _limited(receive, self._limit, self._patience), send)
        except _TooSlow:
            await _problem(408, "body", "The request did not arrive in time.", {"Connection": "close"})(
                scope, receive, send
            )
        except _TooLarge:
            await _problem(413, "body", f"The request is larger than {self._limit} bytes.")(scope, receive, send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    def _refuse(self, path: str, headers: Mapping[bytes, bytes]) -> Response | None:
        host = _without(headers.get(b"host", b"").decode("latin-1"), self._port)
        if path not in _PROBES and host not in self._hosts:
            return _problem(421, "Host", "This server does not answer to that name; see http.public_url.")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in self._origins:
            return _problem(403, "Origin", "Requests from that origin are not accepted; see http.allowed_origins.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit:
            return _problem(413, "body", f"The request is larger than {self._limit} bytes.")
        if self._in_flight >= self._most and path not in _PROBES:
            return _problem(503, "server", "Too many requests at once; try again shortly.", {"Retry-After": "1"})
        return None


class Authenticated:
    """Lets only authenticated requests through to `/mcp`; others get 401 and a challenge (RFC 6750, RFC 9728)."""

    def __init__(
        self, app: ASGIApp, identity: Identity, recorder: Recorder, metrics: Metrics, settings: HttpSettings
    ) -> None:
        self._app = app
        self._identity = identity
        self._recorder = recorder
        self._metrics = metrics
        self._audience = f"{settings.url}/mcp"
        self._metadata = f"{settings.url}{METADATA_PATH}/mcp"
        self._recorded = Sampling(_REFUSALS_RECORDED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope[CALLER] = await self._identity.authenticate(bearer_token(scope), audience=self._audience)
        except Unauthenticated as error:
            await (await self._challenge(error))(scope, receive, send)
            return
        if scope["method"] != "POST":
            # There are no sessions: a GET would hold a stream open on which nothing could ever come.
            await _problem(405, "method", "Only POST is answered here.", {"Allow": "POST"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _challenge(self, error: Unauthenticated) -> Response:
        self._metrics.observe_refusal(error.flaw)
        parts = [f'resource_metadata="{self._metadata}"']
        if error.flaw is not Flaw.MISSING:
            # A request without a token is a client finding its way; one with a bad token is worth a record.
            parts = ['error="invalid_token"', f'error_description="{error.message}"', *parts]
            try:
                await self._record(error)
            except Unrecorded as unrecorded:
                return _problem(503, "server", unrecorded.message)
        challenge = {"WWW-Authenticate": "Bearer " + ", ".join(parts)}
        return _problem(401, "Authorization", error.message, challenge)

    async def _record(self, error: Unauthenticated) -> None:
        if not self._recorded.take():
            return
        missed = self._recorded.drain()
        more = f"; {missed} more since the last one of these" if missed else ""
        detail = (error.detail or error.message) + more
        await self._recorder.write(
            Entry(event=Event.CALLER_REJECTED, channel=Channel.MCP, outcome=error.flaw, detail=detail)
        )


def bearer_token(scope: Scope) -> str:
    """The token of the one Authorization header (RFC 6750 section 2.1); never from a query or a body."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if not values:
        return ""
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer":
        raise Unauthenticated(Flaw.FORMAT, detail="the Authorization header")
    return str(token).strip()


def requester(ctx: RequestContext) -> Caller:
    """The caller of an authenticated request; a request that has none never gets here."""
    caller = ctx.request.scope.get(CALLER) if ctx.request is not None else None
    if not isinstance(caller, Caller):
        raise ArborgateError("This request has no caller.")
    return caller


def build_app(
    *,
    settings: HttpSettings,
    server: Server[Any],
    gate: Calls,
    identity: Identity,
    recorder: Recorder,
    metrics: Metrics,
    readiness: Readiness,
    pages: Sequence[BaseRoute] = (),
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None,
) -> ASGIApp:
    """The whole HTTP application: `/mcp`, its metadata, the probes and the approval pages."""
    manager = StreamableHTTPSessionManager(
        server,
        json_response=True,
        stateless=True,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the Doorkeeper's task
        max_request_body_size=settings.body_limit,
    )
    calls = Shortcut(manager.asgi_app, gate, server.server_info_stamp, CALLER)
    mcp = Authenticated(calls, identity, recorder, metrics, settings)

    async def metadata(_request: Request) -> Response:
        return JSONResponse(
            {
                "resource": f"{settings.url}/mcp",
                "authorization_servers": list(identity.issuers),
                "bearer_methods_supported": ["header"],
                "resource_name": "Arborgate",
            },
            headers={"Cache-Control": "max-age=300"},
        )

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        ready, body = await readiness()
        return Response(orjson.dumps(body), 200 if ready else 503, media_type="application/json")

    async def render_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @asynccontextmanager
    async def run(_app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            if lifespan is None:
                yield
            else:
                async with lifespan():
                    yield

    others = Starlette(
        routes=[
            Route(METADATA_PATH, metadata),
            Route(f"{METADATA_PATH}/mcp", metadata),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", render_metrics),
            *pages,
        ],
        lifespan=run,
    )

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        # Calls come by the thousand and need none of what Starlette does for pages.
        await (mcp if scope.get("path") == MCP_PATH else others)(scope, receive, send)

    return Doorkeeper(route, settings, metrics)


class _TooLarge(Exception):
    """A body that went over the limit while it was being read (it had no Content-Length)."""


class _TooSlow(Exception):
    """A body that did not arrive in time: it would hold its place among the requests for as long as it liked."""


def _limited(receive: Receive, limit: int, patience: float) -> Receive:
    """The body in at most `limit` bytes and `patience` seconds; what comes behind it (a farewell) may take its time."""
    seen, late = 0, asyncio.get_running_loop().time() + patience
    whole = False

    async def receive_counted() -> Message:
        nonlocal seen, whole
        try:
            async with asyncio.timeout_at(None if whole else late):
                message = await receive()
        except TimeoutError:
            raise _TooSlow from None
        whole = not message.get("more_body")
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _TooLarge
        return message

    return receive_counted


def _problem(status: int, field: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"error": {"field": field, "message": message}}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def _without(name: str, port: str) -> str:
    """A host or an origin as all its spellings are compared: in lower case, without the port that goes without saying."""
    lower = name.lower()
    return lower.removesuffix(f":{port}") if port else lower


def _on_loopback(host: str) -> bool:
    return host in ("127.0.0.1", "localhost", "::1")
