"""A stand-in for the API server's list and watch, for the faults that a real one does not produce on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

Json = dict[str, Any]
Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StandIn:
    """Answers each list and each watch by the next script for it; without one, an empty list and a silent watch."""

    def __init__(self) -> None:
        self.lists: list[Script] = []
        self.watches: list[Script] = []
        self.asked: list[Mapping[str, str]] = []
        self.times: list[float] = []
        self.released = asyncio.Event()
        self._asked = asyncio.Event()
        self.url = ""

    @property
    def watched_from(self) -> list[str]:
        """The resource versions that watches began at, in order."""
        return [query["resourceVersion"] for query in self.asked if "watch" in query]

    @property
    def listed(self) -> int:
        return sum("watch" not in query for query in self.asked)

    def client(self, token: str = "") -> ApiClient:
        return ApiClient(Configuration(host=self.url, api_key={"BearerToken": f"Bearer {token}"} if token else None))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        self.times.append(asyncio.get_running_loop().time())
        self._asked.set()
        scripts = self.watches if "watch" in request.query else self.lists
        script = scripts.pop(0) if scripts else (self.hang if "watch" in request.query else items())
        return await script(request)

    async def hang(self, request: web.Request) -> web.StreamResponse:
        """Sends the head of an answer and then nothing, as a connection does whose other end is gone."""
        response = web.StreamResponse()
        await response.prepare(request)
        await self.hold()
        return response

    async def hold(self) -> None:
        await self.released.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a request made the condition hold."""
        async with asyncio.timeout(10):
            while not condition():
                self._asked.clear()
                await self._asked.wait()

    async def never_answer(self, request: web.Request) -> web.StreamResponse:
        """Answers nothing at all until it is released, and then an empty list."""
        await self.hold()
        return await items()(request)


@asynccontextmanager
async def run_stand_in() -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    app = web.Application()
    app.router.add_get("/{path:.*}", stand_in.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.url = site.name
    try:
        yield stand_in
    finally:
        stand_in.released.set()
        await runner.cleanup()


def thing(name: str, version: str = "1") -> Json:
    return {"metadata": {"name": name, "namespace": "things", "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> Json:
    return {"type": kind, "object": thing(name, version)}


def bookmark(version: str) -> Json:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


GONE: Json = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}


def items(*names: str, version: str = "1", proceed: str = "") -> Script:
    """A page of a list; `proceed` is the token of the next one."""

    async def script(_: web.Request) -> web.StreamResponse:
        found: Sequence[Json] = [thing(name) for name in names]
        return web.json_response({"metadata": {"resourceVersion": version, "continue": proceed}, "items": found})

    return script


def status(code: int, headers: Mapping[str, str] | None = None) -> Script:
    async def script(_: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "code": code}, status=code, headers=headers)

    return script


def stream(
    *events: Json, then: Callable[[], Awaitable[None]] | None = None, cut: bool = False, pieces: int = 1
) -> Script:
    """A watch that sends these events, in so many pieces, and then ends, or breaks off."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        body = b"".join(json.dumps(each).encode() + b"\n" for each in events)
        size = max(-(-len(body) // pieces), 1)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
        if cut and request.transport is not None:
            request.transport.abort()
        elif then is not None:
            await then()
        return response

    return script
