"""The loopback address to which a browser comes back from the provider (RFC 8252 section 7.3)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from ...policies.errors import Denied
from .registration import REDIRECT_PATH

_LINE_LIMIT = 16_384
_SECONDS = 10.0
_PAGE = (
    b"<!doctype html><html lang=en><title>Arborgate</title>"
    b"<p>Close this page and go back to your terminal or editor: it says how the login went."
)
_HEADERS = (
    "Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: default-src 'none'\r\n"
    "Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\nConnection: close\r\n"
)


class Callback:
    """Listens on loopback while a person logs in, for the one request that belongs to `state`."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._found: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self.redirect_uri = ""

    async def wait(self, seconds: float) -> Mapping[str, str]:
        """The parameters that the browser brought; raises `Denied` when it brings none in time."""
        try:
            return await asyncio.wait_for(self._found, seconds)
        except TimeoutError:
            raise Denied("Nobody logged in in time.") from None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LINE_LIMIT)
        port = self._server.sockets[0].getsockname()[1]
        self.redirect_uri = f"http://127.0.0.1:{port}{REDIRECT_PATH}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                line = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                found = self._take(line)
                status, body = ("200 OK", _PAGE) if found is not None else ("404 Not Found", b"")
                head = f"HTTP/1.1 {status}\r\n{_HEADERS}Content-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            found = None  # whatever that was, it was not the browser
        finally:
            writer.close()
        if found is not None and not self._found.done():
            self._found.set_result(found)

    def _take(self, line: bytes) -> Mapping[str, str] | None:
        method, _, rest = line.decode("latin-1").partition(" ")
        parts = urlsplit(rest.partition(" ")[0])
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        ours = secrets.compare_digest(query.get("state", "").encode(), self._state.encode())
        return query if method == "GET" and parts.path == REDIRECT_PATH and ours else None
