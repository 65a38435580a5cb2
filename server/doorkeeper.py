"""Who may knock: Host, Origin, size, and how many at once, before anybody is asked who they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .challenges import problem
from .metrics import Metrics
from .protected import MCP_PATH
from .scope import LEAVE
from .settings import HttpSettings

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_SHARE = 4
"""All that is not `/mcp` holds at most a quarter of the places: forms are read before anybody knows who sends them, and
strangers who send them slowly must not keep out the agents."""


class Doorkeeper:
    """The outermost layer: refuses a foreign Host or Origin (DNS rebinding), a body over the limit, and more requests
    at once than the process may hold. Probes are exempt from the Host check: a kubelet knocks by address."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, metrics: Metrics) -> None:
        self._app = app
        self._limit = settings.body_limit
        self._most = settings.max_in_flight
        self._patience = settings.call_timeout
        self._metrics = metrics
        self._most_elsewhere = max(1, settings.max_in_flight // _SHARE)
        self._in_flight = self._elsewhere = 0
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
        scope[LEAVE] = leave = self._enter(elsewhere=scope["path"] != MCP_PATH and scope["path"] not in _PROBES)
        try:
            await self._app(scope, _limited(receive, self._limit, self._patience), send)
        except _TooSlow:
            await problem(408, "body", "The request did not arrive in time.", {"Connection": "close"})(
                scope, receive, send
            )
        except ClientDisconnect:
            pass  # nobody is there to be answered, and strangers do not write our log
        except _TooLarge:
            await problem(413, "body", f"The request is larger than {self._limit} bytes.")(scope, receive, send)
        finally:
            leave()

    def _enter(self, *, elsewhere: bool) -> Callable[[], None]:
        """Takes a place; what is returned gives it back, once."""
        taken = True

        def count(change: int) -> None:
            self._in_flight += change
            self._elsewhere += change if elsewhere else 0
            self._metrics.in_flight.set(self._in_flight)

        def leave() -> None:
            nonlocal taken
            if taken:
                taken = False
                count(-1)

        count(1)
        return leave

    def _refuse(self, path: str, headers: Mapping[bytes, bytes]) -> Response | None:
        host = _without(headers.get(b"host", b"").decode("latin-1"), self._port)
        if path not in _PROBES and host not in self._hosts:
            return problem(421, "Host", "This server does not answer to that name; see http.public_url.")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in self._origins:
            return problem(403, "Origin", "Requests from that origin are not accepted; see http.allowed_origins.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._limit:
            return problem(413, "body", f"The request is larger than {self._limit} bytes.")
        full = self._in_flight >= self._most or (path != MCP_PATH and self._elsewhere >= self._most_elsewhere)
        if full and path not in _PROBES:
            return problem(503, "server", "Too many requests at once; try again shortly.", {"Retry-After": "1"})
        return None


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


def _without(name: str, port: str) -> str:
    """A host or an origin as all its spellings are compared: in lower case, without the port that goes without saying."""
    lower = name.lower()
    return lower.removesuffix(f":{port}") if port else lower


def _on_loopback(host: str) -> bool:
    return host in ("127.0.0.1", "localhost", "::1")
