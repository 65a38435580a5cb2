"""HTTP: who is there (token and proof), what may be asked how often, and the small endpoints beside `/mcp`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INTERNAL_ERROR
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..policies.errors import ArborgateError, Busy, Unavailable, Unrecorded
from ..policies.model import Binding, Caller
from ..tools.record import Entry, Event
from .challenges import problem
from .doorkeeper import Doorkeeper
from .errors import as_json, tell
from .gate import Recorder
from .identity.authentication import Identity
from .identity.flaws import Flaw, Unauthenticated
from .identity.presenting import ClientCertificates, Scheme, read_token
from .limits import Limits, Unlimited
from .mcp import Calls, RequestContext
from .metrics import Metrics
from .protected import MCP_PATH, METADATA_PATH, ProtectedResource
from .sampling import Sampling
from .scope import CALLER, LEAVE, NONCE, REFUSAL
from .settings import HttpSettings
from .shortcut import Shortcut
from .streaming import Streaming

_REFUSALS_RECORDED = 20
"""Refused tokens on record each second: anybody can send them, so all of them are counted and only these written."""

Readiness = Callable[[], Awaitable[tuple[bool, Mapping[str, Any]]]]


class Authenticator:
    """Finds out who sends a request to one protected resource, and puts who is refused on record."""

    def __init__(
        self,
        identity: Identity,
        recorder: Recorder,
        metrics: Metrics,
        resource: ProtectedResource,
        certificates: ClientCertificates | None = None,
    ) -> None:
        self.challenges = resource.challenges
        self._certificates = certificates
        self._identity = identity
        self._recorder = recorder
        self._metrics = metrics
        self._resource = resource
        self._recorded = Sampling(_REFUSALS_RECORDED)

    async def authenticate(self, scope: Scope) -> Caller | Response:
        """The caller, or what to answer instead."""
        resource, scheme = self._resource, Scheme.BEARER
        try:
            token, presented = read_token(scope, resource.url, self._certificates)
            scheme = presented.scheme
            caller = await self._identity.authenticate(
                token, audience=resource.audience, channel=resource.channel, presented=presented
            )
            if caller.issuer not in resource.issuers:  # any issuer can name any audience
                raise Unauthenticated(Flaw.ISSUER, detail="it logs nobody in here")
        except Unauthenticated as error:
            return await self._refuse(error, scheme)
        except Unavailable as error:
            return problem(503, "server", error.message, {"Retry-After": "1"})
        return caller

    async def _refuse(self, error: Unauthenticated, scheme: Scheme) -> Response:
        self._metrics.observe_refusal(error.flaw)
        if error.flaw not in (Flaw.MISSING, Flaw.NONCE):
            # A request without a token or a nonce is a client finding its way; one with a bad token is worth a record.
            try:
                await self._record(error)
            except Unrecorded as unrecorded:
                return problem(503, "server", unrecorded.message)
        return self.challenges.refuse(error, scheme)

    async def _record(self, error: Unauthenticated) -> None:
        if not self._recorded.take():
            return
        more = self._recorded.tell_missed()
        detail = (error.detail or error.message) + more
        await self._recorder.write(
            Entry(event=Event.CALLER_REJECTED, channel=self._resource.channel, outcome=error.flaw, detail=detail)
        )


class Authenticated:
    """Lets only authenticated requests through to `/mcp`, each caller's as often as the limits allow."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, limits: Limits) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = await self._authenticator.authenticate(scope)
        if isinstance(caller, Response):
            await caller(scope, receive, send)
            return
        if scope["method"] != "POST":
            # There are no sessions: a GET would hold a stream open on which nothing could ever come.
            await problem(405, "method", "Only POST is answered here.", {"Allow": "POST"})(scope, receive, send)
            return
        try:
            await self._limits.enter(caller)
        except Busy as busy:
            await _refuse_for_now(busy)(scope, receive, send)
            return
        leave = scope[LEAVE] = self._leaving(caller, scope.get(LEAVE))
        try:
            scope[CALLER] = caller
            await self._app(scope, receive, self._demanding(scope, send))
        finally:
            leave()

    def _leaving(self, caller: Caller, outer: Callable[[], None] | None) -> Callable[[], None]:
        """Gives back the caller's place, once, and the one outside of it."""
        waiting = [lambda: self._limits.leave(caller), *([outer] if outer else [])]

        def leave() -> None:
            while waiting:
                waiting.pop()()

        return leave

    def _demanding(self, scope: Scope, send: Send) -> Send:
        """A `send` that turns an answer into a challenge where the call found that the token lacks something, and that
        hands on the nonce of the proofs to come."""

        async def send_on(message: Message) -> None:
            if (REFUSAL in scope or NONCE in scope) and message["type"] == "http.response.start":
                message = self._tell(message, scope)
            await send(message)

        return send_on

    def _tell(self, start: Message, scope: Scope) -> Message:
        told = [("DPoP-Nonce", scope[NONCE])] if NONCE in scope else []
        status = start["status"]
        if (refusal := scope.get(REFUSAL)) is not None:
            scheme = Scheme.DPOP if scope[CALLER].binding is Binding.DPOP else Scheme.BEARER
            if (demand := self._authenticator.challenges.demand(refusal, scheme)) is not None:
                status, told = demand[0], [*told, *demand[1]]
        encoded = [(name.lower().encode(), value.encode()) for name, value in told]
        return {**start, "status": status, "headers": [*start["headers"], *encoded]}


def _refuse_for_now(busy: Busy) -> Response:
    """429 as a JSON-RPC error, whose words clients show to the agent: before the body is read, there is no `id`."""
    body = {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": INTERNAL_ERROR, "message": tell(busy), "data": as_json(busy)},
    }
    return JSONResponse(body, 429, {"Retry-After": str(max(1, math.ceil(busy.retry_after)))})


def requester(ctx: RequestContext) -> Caller:
    """The caller of an authenticated request; a request that has none never gets here."""
    caller = ctx.request.scope.get(CALLER) if ctx.request is not None else None
    if not isinstance(caller, Caller):
        raise ArborgateError("This request has no caller.")
    return caller


def describe_resource(resource: ProtectedResource) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of its metadata."""
    described = resource.describe()

    async def answer(_request: Request) -> Response:
        return JSONResponse(described, headers={"Cache-Control": "max-age=300"})

    return answer


def build_app(
    *,
    settings: HttpSettings,
    server: Server[Any],
    gate: Calls,
    identity: Identity,
    resource: ProtectedResource,
    recorder: Recorder,
    metrics: Metrics,
    readiness: Readiness,
    limits: Limits | None = None,
    certificates: ClientCertificates | None = None,
    showing: Collection[str] = (),
    waiting: Collection[str] = (),
    pages: Sequence[BaseRoute] = (),
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None,
) -> ASGIApp:
    """The whole HTTP application: `/mcp`, its metadata, the probes and the approval pages. `showing` are the tools whose
    answer may be a question first, `waiting` those that tell how far they are while they wait."""

    def manage(*, streams: bool) -> StreamableHTTPSessionManager:
        return StreamableHTTPSessionManager(
            server,
            json_response=not streams,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the Doorkeeper's task
            max_request_body_size=settings.body_limit,
        )

    manager, streaming = manage(streams=False), manage(streams=True)
    answers = Shortcut(manager.asgi_app, gate, server.server_info_stamp, showing)
    calls = Streaming(answers, streaming.asgi_app, waiting)
    authenticator = Authenticator(identity, recorder, metrics, resource, certificates)
    mcp = Authenticated(calls, authenticator, limits or Unlimited())

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        ready, body = await readiness()
        return Response(orjson.dumps(body), 200 if ready else 503, media_type="application/json")

    async def render_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @asynccontextmanager
    async def run(_app: Starlette) -> AsyncIterator[None]:
        async with manager.run(), streaming.run():
            if lifespan is None:
                yield
            else:
                async with lifespan():
                    yield

    others = Starlette(
        routes=[
            Route(METADATA_PATH, describe_resource(resource)),  # for clients that look nowhere else
            Route(resource.metadata_path, describe_resource(resource)),
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
