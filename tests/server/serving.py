"""An HTTP application on a real socket, in the test's own loop, and MCP clients of both eras for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.types import ASGIApp

from arborgate.server.listen import listen, serve_until
from arborgate.server.settings import HttpSettings

Note = Callable[[httpx2.Response], Awaitable[None]]

ERAS = ("2026-07-28", "legacy")
"""The protocol modes of the SDK's client: single exchanges, and the initialize handshake."""


@asynccontextmanager
async def serving(
    app: ASGIApp, settings: HttpSettings, on_stop: Callable[[], None] = lambda: None
) -> AsyncIterator[asyncio.Event]:
    """Serves on the settings' port; yields the event that stops it. Leaves once it has stopped."""
    stop = asyncio.Event()
    with listen(settings.host, settings.port) as socket:
        task = asyncio.create_task(serve_until(stop, app, settings, socket, on_stop))
        try:
            yield stop
        finally:
            stop.set()
            await task


@asynccontextmanager
async def connected(url: str, token: str, era: str, note: Note | None = None) -> AsyncIterator[Client]:
    """The MCP SDK's own client, over HTTP; `note` gets each of its responses."""
    async with AsyncExitStack() as stack:
        http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            event_hooks={"response": [note] if note else []},
            timeout=30.0,  # who waits gets no byte until there is news
        )
        await stack.enter_async_context(http)
        transport = streamable_http_client(url, http_client=http)
        yield await stack.enter_async_context(Client(transport, mode=era))
