"""Servers to forward to: one made with the SDK, which has what Arborgate lacks, and one that follows a script."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus
from starlette.types import ASGIApp

from arborgate.server.settings import HttpSettings
from tests.parts.process import find_free_ports
from tests.server.serving import serving


@dataclass
class Sdk:
    """A server made with the MCP SDK, that can be stopped and started on one port. Its tools say here what they do."""

    port: int = field(default_factory=lambda: find_free_ports(1)[0])
    calls: list[str] = field(default_factory=list)
    running: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Runs it, each time anew: it remembers nothing of the time before."""
        settings = HttpSettings(port=self.port, drain_timeout=1.0)
        async with serving(self._build(), settings):
            yield

    def _build(self) -> ASGIApp:
        mcp = MCPServer("remote", subscriptions=self.bus)

        @mcp.tool(annotations=types.ToolAnnotations(read_only_hint=True))
        async def read(text: str) -> str:
            self.calls.append(text)
            return text

        @mcp.tool()
        async def count(ctx: Context[Any, Any], to: int) -> str:
            for number in range(to):
                await ctx.report_progress(number + 1, to, f"{number + 1} of {to}")
            return "counted"

        @mcp.tool()
        async def wait() -> str:
            self.running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return "never"

        @mcp.resource("notes://{name}")
        async def note(name: str) -> str:
            return f"note {name}"

        return mcp.streamable_http_app()


@dataclass(frozen=True)
class Asked:
    """A request as it came over the socket."""

    method: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class Scripted:
    """A server on a bare socket that answers each request by the next step of its script, and then always by the last.
    A step gives the whole HTTP answer; an empty one closes the connection without a word."""

    steps: list[Callable[[Asked], bytes]]
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/mcp"

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await _read(reader)
                self.asked.append(asked)
                step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                answer = step(asked)
                writer.write(answer)
                if not answer.startswith(b"HTTP/1.1 2"):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def hang_up(_asked: Asked) -> bytes:
    """Takes the request and closes."""
    return b""


def answer(asked: Asked) -> bytes:
    """A result for a request, 202 for anything else."""
    if "id" not in asked.body or "method" not in asked.body:
        return write(202)
    return write(200, {"jsonrpc": "2.0", "id": asked.body["id"], "result": {"echo": asked.body.get("method")}})


def write(status: int, body: Any = None, **headers: str) -> bytes:
    """One HTTP answer; `headers` are written with underscores."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content-length": str(len(data)), "content-type": "application/json"}
    told |= {} if 200 <= status < 300 else {"connection": "close"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(head[0].split()[0], headers, json.loads(body) if body else {})
