"""The outermost layer: how many requests there can be at once, and where."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from arborgate.server.doorkeeper import Doorkeeper
from arborgate.server.metrics import Metrics
from arborgate.server.settings import HttpSettings

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8484"


async def test_strangers_who_send_forms_slowly_leave_room_for_the_agents() -> None:
    reading = asyncio.Semaphore(0)
    sent = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/token/exchange":
            reading.release()
            await Request(scope, receive).body()
        await PlainTextResponse("fine")(scope, receive, send)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"grant_type="
        await sent.wait()

    door = httpx2.ASGITransport(Doorkeeper(app, HttpSettings(max_in_flight=8), Metrics()))
    async with httpx2.AsyncClient(transport=door, base_url=URL) as client:
        slow = [asyncio.create_task(client.post("/token/exchange", content=slowly())) for _ in range(2)]
        for _ in slow:
            await reading.acquire()
        refused = await client.post("/token/exchange")
        call, probe = await client.post("/mcp"), await client.get("/healthz")
        sent.set()
        assert [(await each).status_code for each in slow] == [200, 200]
        again = await client.post("/token/exchange")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (call.status_code, probe.status_code, again.status_code) == (200, 200, 200)
