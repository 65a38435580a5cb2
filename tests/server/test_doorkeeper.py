"""The outermost layer: how many requests there can be at once, and where."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

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


async def test_who_goes_away_in_the_middle_of_a_form_is_no_failure() -> None:
    came: list[Message] = [{"type": "http.request", "body": b"grant_type=", "more_body": True}]

    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    async def receive() -> Message:
        return came.pop() if came else {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    app = Starlette(routes=[Route("/token/exchange", read, methods=["POST"])])
    headers = [(b"host", b"127.0.0.1:8484")]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/token/exchange",
        "headers": headers,
        "query_string": b"",
    }
    metrics = Metrics()
    await Doorkeeper(app, HttpSettings(), metrics)(scope, receive, send)
    assert b"arborgate_requests_in_flight 0.0" in metrics.render()
