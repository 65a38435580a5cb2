"""The bridge: an MCP server over standard input and output that forwards everything to a remote Arborgate and back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...policies.errors import ArborgateError
from ..stdio import Lines
from .conversation import Conversation
from .credentials import Credentials
from .endpoint import check_url
from .failures import Notes
from .messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Kind,
    Malformed,
    Message,
    RequestId,
    is_id,
    read_message,
    write,
    write_error,
    write_failure,
)
from .output import Output, open_output
from .remote import Patience, Remote
from .subscriptions import METHOD as LISTEN
from .subscriptions import Subscription

LINE_LIMIT: Final = 4_194_304
"""Bytes of one message of the client. Arborgate takes far less; what is larger is a mistake."""

_AT_ONCE: Final = 24
"""Requests under way at the server, below what it lets one caller have (`identity.limits.in_flight`)."""

_TAKEN: Final = 256
"""Messages read and not yet done with; until one is, standard input waits."""

Key = tuple[bool, RequestId]
"""A request's id; 1 and "1" are two."""


async def run_bridge(
    url: str, credentials: Credentials, *, stop: asyncio.Event, patience: Patience | None = None
) -> None:
    """Forwards until the client closes standard input, or leaves, or `stop` is set. What is under way then has a moment
    to finish. Raises `BadConfiguration` for a URL that no login may be sent to."""
    check_url(url)
    waits = patience or Patience()
    notes, conversation = Notes(), Conversation()
    async with open_output() as output, Remote(url, credentials, conversation, notes, waits) as remote:
        await _Bridge(remote, conversation, output, notes, waits).run(stop)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request under way; `modern`: of the 2026 era, where hanging up is how it is cancelled."""

    task: asyncio.Task[None]
    modern: bool


class _Bridge:
    def __init__(
        self, remote: Remote, conversation: Conversation, output: Output, notes: Notes, patience: Patience
    ) -> None:
        self._remote = remote
        self._conversation = conversation
        self._output = output
        self._notes = notes
        self._patience = patience
        self._room = asyncio.Semaphore(_TAKEN)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._flights: dict[Key, _Flight] = {}
        self._last_sent: asyncio.Task[None] | None = None
        self._standing: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Reads until there is a reason to end, then winds down."""
        lines = Lines(limit=LINE_LIMIT)
        reasons = [
            asyncio.create_task(self._read(lines)),
            asyncio.create_task(_wait(stop)),
            asyncio.create_task(_wait(self._output.closed)),
        ]
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(*reasons)
            await self._wind_down()
        if not reasons[0].cancelled():
            reasons[0].result()

    async def _read(self, lines: Lines) -> None:
        while (line := await lines.read()) is not None:
            if len(line) > LINE_LIMIT:
                words = f"The message is larger than {LINE_LIMIT} bytes."
                await self._output.write(write_error(None, INVALID_REQUEST, words))
            elif not line.isspace() and line:
                await self._room.acquire()
                await self._take(line)

    async def _take(self, line: bytes) -> None:
        try:
            message = read_message(line)
        except Malformed as malformed:
            self._room.release()
            await self._output.write(malformed.answer)
            return
        modern = self._conversation.begin(message)
        if message.kind is Kind.REQUEST and message.id is not None:
            self._start(message, message.id, modern)
        elif message.method == "notifications/cancelled" and self._cancel(message):
            self._room.release()
        else:
            self._last_sent = self._keep(self._send(message, self._last_sent))

    def _start(self, request: Message, request_id: RequestId, modern: bool) -> None:
        key = _key(request_id)
        if (old := self._flights.get(key)) is not None:
            old.task.cancel()  # the id is the new request's now
        task = self._keep(self._fly(request, None if modern else self._last_sent))
        flight = self._flights[key] = _Flight(task, modern)

        def forget(_task: asyncio.Task[None]) -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        task.add_done_callback(forget)

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._let_go)
        return task

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    def _cancel(self, notification: Message) -> bool:
        """Cancels the request that a client no longer wants; whether that was all there is to do. In the older eras the
        server must be told, and a session's server answers or not as it likes."""
        wanted = notification.params.get("requestId")
        flight = self._flights.get(_key(wanted)) if is_id(wanted) else None
        if flight is not None and (flight.modern or not self._conversation.session):
            flight.task.cancel()
        return self._conversation.is_modern if flight is None else flight.modern

    async def _fly(self, request: Message, before: asyncio.Task[None] | None) -> None:
        """Answers one request, whatever happens."""
        try:
            if before is not None:
                await asyncio.wait([before])  # the end of the handshake, say, comes before what builds on it
            await self._forward(request)
        except ArborgateError as error:
            self._notes.tell(error)
            await self._output.write(write_failure(request.id, error))
        except Exception as error:
            self._notes.tell(ArborgateError("Something failed in the bridge.", detail=repr(error)))
            await self._output.write(write_error(request.id, INTERNAL_ERROR, "Something failed in the bridge."))

    async def _forward(self, request: Message) -> None:
        if request.method == LISTEN:
            await Subscription(self._remote, request, self._deliver).follow()
        elif request.method == "ping":
            await self._ping(request)
        else:
            async with self._at_once:
                await self._remote.forward(request, self._deliver)

    async def _ping(self, request: Message) -> None:
        """Asks the server, and answers in its place when that takes long: a client that hears nothing ends the bridge,
        and with it the login that a person is in the middle of."""
        try:
            async with asyncio.timeout(self._patience.ping):
                await self._remote.forward(request, self._deliver)
        except (TimeoutError, ArborgateError):
            await self._output.write(write({"jsonrpc": "2.0", "id": request.id, "result": {}}))

    async def _send(self, message: Message, before: asyncio.Task[None] | None) -> None:
        """Sends what is owed no answer, in the order in which it came."""
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._remote.forward(message, self._deliver)
        except ArborgateError as error:
            self._notes.tell(error)
            return
        if message.method == "notifications/initialized" and self._standing is None:
            self._standing = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            await self._remote.follow(self._deliver)
        except ArborgateError as error:
            self._notes.tell(error)

    async def _deliver(self, line: bytes, _message: Mapping[str, Any]) -> None:
        await self._output.write(line)

    async def _wind_down(self) -> None:
        if self._tasks and not self._output.closed.is_set():
            await asyncio.wait(self._tasks, timeout=self._patience.grace)
        await _end(*self._tasks, *([self._standing] if self._standing else []))
        try:
            async with asyncio.timeout(self._patience.grace):
                await self._remote.leave()
        except TimeoutError:
            pass  # the server ends the session by itself


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _key(request_id: RequestId) -> Key:
    return isinstance(request_id, str), request_id
