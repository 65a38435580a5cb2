"""TCP and TLS for the HTTP connections of the bridge: the event loop's own transports, and little around them.

A request's head and body leave in one packet where the event loop joins the writes of a turn (uvloop does), which spares
the server, too, from waking up twice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final, cast

import httpcore2

_AHEAD: Final = 262_144
"""Bytes that are read before they are wanted."""


class Network(httpcore2.AsyncNetworkBackend):
    """Opens the connections of an httpcore pool."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002  # none are ever asked for
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        own = None if local_address is None else (local_address, 0)
        try:
            async with asyncio.timeout(timeout):
                transport, flow = await loop.create_connection(_Flow, host, port, local_addr=own)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        return _Stream(transport, flow)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    """One connection."""

    def __init__(self, transport: asyncio.Transport, flow: _Flow) -> None:
        self._transport = transport
        self._flow = flow

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  # all that is there
        flow = self._flow
        if not flow.received and not flow.ended:
            try:
                async with asyncio.timeout(timeout):
                    await flow.wait()
            except TimeoutError as error:
                raise httpcore2.ReadTimeout(str(error)) from error
        if not flow.received and flow.error is not None:
            raise httpcore2.ReadError(str(flow.error)) from flow.error
        return flow.take(self._transport)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._flow.lost:
            raise httpcore2.WriteError("the connection is closed")
        self._transport.write(buffer)
        if not self._flow.writable.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._flow.writable.wait()
            except TimeoutError as error:
                raise httpcore2.WriteTimeout(str(error)) from error

    async def aclose(self) -> None:
        self._transport.abort() if self._flow.received else self._transport.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(
                    self._transport, self._flow, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            self._transport.abort()
            raise httpcore2.ConnectTimeout(str(error)) from error
        except (OSError, ssl.SSLError) as error:
            self._transport.abort()
            raise httpcore2.ConnectError(str(error)) from error
        return _Stream(cast("asyncio.Transport", transport), self._flow)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # what is idle has nothing to say but that it ends
            return self._flow.ended or bool(self._flow.received)
        return self._transport.get_extra_info(info)


class _Flow(asyncio.Protocol):
    """What has come in, and whether more can go out."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.lost = False
        self.error: Exception | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._paused = False

    async def wait(self) -> None:
        """Waits for something to come, or for the end."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def take(self, transport: asyncio.Transport) -> bytes:
        """All that has come."""
        data = bytes(self.received)
        self.received.clear()
        if self._paused:
            self._paused = False
            transport.resume_reading()
        return data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > _AHEAD and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.lost = True
        self.error = exc
        self.writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
