"""One HTTP endpoint, asked over connections that are kept: the proxy of the environment, the certificates of the machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2

from ...policies.errors import BadConfiguration, Refused
from .network import Network

LIMIT: Final = 67_108_864
"""Bytes of one answer, or of one event of a stream."""

FAILURES: Final = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
)
"""What `Endpoint.open` and reading an answer raise when HTTP fails."""

_KEPT: Final = 32
_KEPT_SECONDS: Final = 4.0  # uvicorn closes what is idle for 5 s: ours must be the first to let go
_EXTENSIONS: Final = {"timeout": {"connect": 10.0, "read": 300.0, "write": 60.0, "pool": None}}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer whose body is yet to come. The names of `headers` are in lower case; a name that was there more
    than once has all its values, with commas."""

    status: int
    headers: Mapping[str, str]
    parts: AsyncIterator[bytes]

    @property
    def kind(self) -> str:
        """The media type."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.status == 200 and self.kind == "text/event-stream"

    async def read(self) -> bytes:
        """The whole body; raises `Refused` when it is over the limit."""
        body = bytearray()
        async for part in self.parts:
            body += part
            if len(body) > LIMIT:
                raise _too_large()
        return bytes(body)

    async def read_events(self) -> AsyncIterator[tuple[str, bytes]]:
        """The events of the kind `message`, each its id and its data; raises `Refused` for one over the limit."""
        event_id, kind, data, size = "", b"", list[bytes](), 0
        async for line in _split(self.parts):
            size += len(line)
            if size > LIMIT:
                raise _too_large()
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                kind = value
            elif name == b"id":
                event_id = value.decode("latin-1")
            elif not line:
                if data and kind in (b"", b"message"):
                    yield event_id, b"\n".join(data)
                kind, size = b"", 0
                data.clear()


class Endpoint:
    """Sends requests to one URL. Enter it before use."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = httpcore2.URL(url)
        self._host = parts.netloc.rpartition("@")[2].encode()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpcore2.default_ssl_context() if parts.scheme == "https" else None,
            proxy=_find_proxy(parts),
            max_connections=None,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=Network(),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()

    @asynccontextmanager
    async def open(
        self, method: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[Answer]:
        """Sends a request; the answer can be read until this is left. Follows no redirect. Raises one of `FAILURES`."""
        told = [(b"host", self._host), (b"user-agent", b"arborgate-connect")]
        told += [(name.encode(), value.encode()) for name, value in headers.items()]
        if content is not None:
            told.append((b"content-length", str(len(content)).encode()))
        request = httpcore2.Request(method, self._url, headers=told, content=content, extensions=_EXTENSIONS)
        response = await self._pool.handle_async_request(request)
        try:
            yield Answer(response.status, _fold(response.headers), aiter(response.aiter_stream()))
        finally:
            await response.aclose()


def check_url(url: str) -> None:
    """Raises `BadConfiguration` for a URL that no login may be sent to."""
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        return
    raise BadConfiguration(
        "The URL of Arborgate must begin with https:// (or with http:// on this very machine).",
        hint="A login that crosses a network in the clear is anybody's.",
    )


def _find_proxy(parts: SplitResult) -> httpcore2.Proxy | None:
    """The proxy of the environment, or of the system's settings, for this URL; none for this very machine."""
    if parts.hostname in _LOOPBACK or proxy_bypass(parts.netloc):
        return None
    known = getproxies()
    named = known.get(parts.scheme) or known.get("all")
    if not named:
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    login = (unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else None
    place = f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"
    return httpcore2.Proxy(place, auth=login, ssl_context=None)


def _fold(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    folded: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        folded[key] = f"{folded[key]}, {text}" if key in folded else text
    return folded


async def _split(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a body, without their ends; what comes behind the last end is not whole, and left out."""
    pending: list[bytes] = []
    size = 0
    async for part in parts:
        first, *more = part.split(b"\n")
        pending.append(first)
        size += len(first)
        if size > LIMIT:
            raise _too_large()
        for line in more:
            yield b"".join(pending).removesuffix(b"\r")
            pending, size = [line], len(line)


def _too_large() -> Refused:
    return Refused("The answer of the server is larger than the bridge takes.", hint="Ask for less at once.")
