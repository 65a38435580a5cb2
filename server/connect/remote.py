"""The remote Arborgate, as the bridge talks to it: a POST for each message, under the person's login, until it is through.

A request is sent again when the server can't have acted on it (no connection, 429, a refused login), or when asking twice
is the same as asking once. A tool's call that may have been acted on is never sent again, unless the server itself called
the tool read-only: a proposal made twice would be two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ...policies.errors import ArborgateError, Unavailable
from .conversation import Conversation
from .credentials import Credentials, LoginRequired
from .endpoint import FAILURES, Answer, Endpoint
from .failures import Lost, Notes, broken_off, explain_status, grow, left_open, lost_for_now, lost_on_the_way
from .messages import Kind, Message, flatten, is_response, parse, read_message, write

_SENDS: Final = 3
"""How often one attempt is sent: as it is, with a nonce of the server's, and with a new token."""

_LONGEST_PAUSE: Final = 3.0

_INITIALIZED: Final = read_message(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

Deliver = Callable[[bytes, Mapping[str, Any]], Awaitable[None]]
"""Takes a message of the server, as one line and parsed."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. IDEs give up after 60, so a request ends before that, with words that say why.

    `login`: for a login that a person is in the middle of; `server`: for a server that is away; `longest`: for both;
    `ping`: for what only asks whether anybody is there; `grace`: for what is unfinished when the client leaves."""

    login: float = 50.0
    server: float = 20.0
    longest: float = 55.0
    ping: float = 5.0
    grace: float = 1.5


class Remote:
    """One MCP endpoint over Streamable HTTP. Enter it before use."""

    def __init__(
        self, url: str, credentials: Credentials, conversation: Conversation, notes: Notes, patience: Patience
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._conversation = conversation
        self._notes = notes
        self._patience = patience
        self._renewing = asyncio.Lock()
        self._endpoint = Endpoint(url)

    async def __aenter__(self) -> Self:
        await self._endpoint.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.__aexit__(None, None, None)

    async def forward(self, message: Message, deliver: Deliver) -> None:
        """Sends one message. For a request, all that the server says to it goes to `deliver`, the response last.

        Raises an `ArborgateError` when it can't be sent, or when no response came."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        pauses = grow(_LONGEST_PAUSE)
        give_up = None
        while True:
            try:
                await self._attempt(message, deliver, arrived + self._patience.login)
            except Lost as lost:
                if not lost.untouched and not self._conversation.is_repeatable(message):
                    raise left_open(lost) from lost
                now = loop.time()
                if give_up is None:
                    give_up = min(now + self._patience.server, arrived + self._patience.longest)
                pause = max(next(pauses), lost.after)
                if now + pause > give_up:
                    raise lost.error from lost
                self._notes.tell(lost.error)
                await asyncio.sleep(pause)
            else:
                self._notes.mend()
                return

    async def follow(self, deliver: Deliver) -> None:
        """The standing stream of the older eras (GET): delivers what comes on it, and opens it again when it breaks.
        Returns when the server has none, which is its right."""
        pauses = grow(self._patience.server)
        last_id = ""
        while True:
            headers = {"accept": "text/event-stream", **self._conversation.standing_headers()}
            if last_id:
                headers["last-event-id"] = last_id
            loop = asyncio.get_running_loop()
            headers |= await self._authorize("GET", loop.time() + self._patience.login)
            try:
                async with self._endpoint.open("GET", headers) as response:
                    if response.status < 500 and not response.is_stream:
                        return
                    if response.is_stream:
                        pauses = grow(self._patience.server)
                        async for event_id, data, found in _read_messages(response):
                            last_id = event_id
                            await deliver(flatten(data), found)
            except FAILURES:
                pass  # opened again below
            await asyncio.sleep(next(pauses))

    async def leave(self) -> None:
        """Ends the session of the older eras, where the server gave one."""
        if not self._conversation.session:
            return
        try:
            headers = dict(await self._credentials.headers("DELETE", self._url))
            async with self._endpoint.open("DELETE", {**headers, **self._conversation.standing_headers()}):
                pass
        except (ArborgateError, *FAILURES):
            return  # the server ends it by itself

    async def _attempt(self, message: Message, deliver: Deliver, until: float) -> None:
        """Sends a message once, and again where the login's answer is worth it; raises `Lost` or an `ArborgateError`."""
        session = self._conversation.session
        try:
            for left in reversed(range(_SENDS)):
                headers = self._conversation.headers(message) | await self._authorize("POST", until)
                async with self._endpoint.open("POST", headers, message.raw) as response:
                    status = response.status
                    if status in (401, 403):
                        body = await response.read()
                        if await self._learn(response, until) and left:
                            continue
                        await self._take_body(response, body, message, deliver)
                    else:
                        if "dpop-nonce" in response.headers:
                            await self._learn(response, until)
                        await self._take(response, message, deliver)
                    return
        except FAILURES as error:
            raise lost_on_the_way(error) from error
        except _SessionLost:
            raise await self._renew(session, until) from None

    async def _renew(self, lost: str, until: float) -> Lost:
        """Opens a session in place of one that the server has lost, as the client opened that one. The request that
        found out can be sent again, or this tried again."""
        try:
            async with self._renewing:
                opening = self._conversation.opening
                if opening is not None and self._conversation.session == lost:
                    await self._attempt(opening, _drop, until)
                    await self._attempt(_INITIALIZED, _drop, until)
        except Lost as again:
            return Lost(again.error, untouched=True, after=again.after)
        gone = Unavailable("The server has lost the session of this client.", hint="Start the client again.")
        return Lost(gone, untouched=True)

    async def _authorize(self, method: str, until: float) -> dict[str, str]:
        try:
            async with asyncio.timeout_at(until):
                return dict(await self._credentials.headers(method, self._url))
        except TimeoutError:
            raise _unfinished() from None

    async def _learn(self, response: Answer, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                return await self._credentials.learn(response.status, response.headers)
        except TimeoutError:
            raise _unfinished() from None

    async def _take(self, response: Answer, message: Message, deliver: Deliver) -> None:
        if message.kind is Kind.REQUEST and response.is_stream:
            await self._take_stream(response, message, deliver)
            return
        body = await response.read()
        if (lost := lost_for_now(response.status, response.headers)) is not None:
            raise lost
        if response.status == 404 and self._conversation.session and message.method != "initialize":
            raise _SessionLost
        await self._take_body(response, body, message, deliver)

    async def _take_body(self, response: Answer, body: bytes, message: Message, deliver: Deliver) -> None:
        if message.kind is not Kind.REQUEST:
            if response.status >= 300:
                raise explain_status(response.status, response.headers, body)
            return
        if response.kind == "application/json":
            try:
                answer = parse(body)
            except ValueError:
                answer = None
            if is_response(answer):
                await self._finish(body, answer, message, deliver, response)
                return
        raise explain_status(response.status, response.headers, body)

    async def _take_stream(self, response: Answer, message: Message, deliver: Deliver) -> None:
        async for _, data, found in _read_messages(response):
            if is_response(found):
                await self._finish(data, found, message, deliver, response)
                return
            await deliver(flatten(data), found)
        raise broken_off("the stream ended without a response")

    async def _finish(
        self, data: bytes, answer: dict[str, Any], message: Message, deliver: Deliver, response: Answer
    ) -> None:
        """Delivers the response under the id of its request: a server that could not read the id answers with null."""
        self._conversation.learn(message, answer, response.headers.get("mcp-session-id", ""))
        self._notes.mend()  # said before the client has its answer: it may leave with that
        if answer.get("id") != message.id:
            answer = {**answer, "id": message.id}
            data = write(answer)
        await deliver(flatten(data), answer)


class _SessionLost(Exception):
    """The server does not know the session that a request named."""


async def _read_messages(answer: Answer) -> AsyncIterator[tuple[str, bytes, dict[str, Any]]]:
    """The messages of an event stream, each with the id of its event, as it came and parsed."""
    async for event_id, data in answer.read_events():
        try:
            found = parse(data)
        except ValueError:
            continue
        if isinstance(found, dict) and found.get("jsonrpc") == "2.0":
            yield event_id, data, found


async def _drop(_line: bytes, _message: Mapping[str, Any]) -> None:
    """Takes what the client did not ask for."""


def _unfinished() -> LoginRequired:
    return LoginRequired(
        "The login is not finished.",
        hint="Finish it in the browser (see the message of `arborgate connect`), then ask again.",
    )
