"""Which way a request to `/mcp` is answered: most by one JSON text, those that wait and tell meanwhile by a stream."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STREAM = b"text/event-stream"


class Streaming:
    """An ASGI application before two others: `streams` for calls of the `waiting` tools, `answers` for all else.

    Clients of the 2026 protocol say in a header which tool they call; of the older ones the body is looked at. That looks
    only for the names: a request that merely mentions one is answered just as well by the other way."""

    def __init__(self, answers: ASGIApp, streams: ASGIApp, waiting: Collection[str]) -> None:
        self._answers = answers
        self._streams = streams
        self._waiting = frozenset(name.encode() for name in waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not self._waiting or _STREAM not in headers.get(b"accept", b""):
            await self._answers(scope, receive, send)
            return
        if b"mcp-method" in headers:
            streams = headers.get(b"mcp-name") in self._waiting
            await (self._streams if streams else self._answers)(scope, receive, send)
            return
        message = await receive()
        streams = any(name in message.get("body", b"") for name in self._waiting)
        await (self._streams if streams else self._answers)(scope, replay(message, receive), send)


def replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives the message that was taken once more."""
    taken = [message]

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again
