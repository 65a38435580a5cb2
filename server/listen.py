"""Listening: the socket, taken before anything else is built, and uvicorn on it until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..policies.errors import BadConfiguration
from .scope import PEER
from .settings import HttpSettings


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; raises `BadConfiguration` when the address can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        raise BadConfiguration(
            f"http.port: can't listen on {host}:{port}: {error.strerror}",
            hint="Stop what uses the port, or choose another in the settings.",
        ) from error


async def serve_until(
    stop: asyncio.Event,
    app: ASGIApp,
    settings: HttpSettings,
    sock: socket.socket,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serves until `stop` is set; then takes no new connections and finishes the calls in flight (`drain_timeout`).
    `on_stop` is called first: it tells what would last that it ends."""
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
        )
    )

    async def ask_to_stop() -> None:
        await stop.wait()
        on_stop()
        server.should_exit = True

    asking = asyncio.create_task(ask_to_stop())
    try:
        await server.serve([sock])
    finally:
        asking.cancel()


class _Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP, with head and body of a small answer in one write: one system call, one wake-up of the client.

    Each request also says who is at the other end of its connection: from `X-Forwarded-For` uvicorn writes another
    `client` over it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast("asyncio.Transport", _Joined(transport)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[PEER] = self.client[0] if self.client else ""


class _Joined:
    """A transport that writes at the end of the loop's turn what was given to it in that turn."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the command line has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
