"""Showing: the person behind an agent is led to the page of what it proposed, in clients that can (MCP, URL elicitation).

A client of the 2026 protocol gets a question instead of the answer, and the answer when it asks again; one of the older
protocols is asked beside the call, over a pipe. Whatever the person does there decides nothing, and no call waits long.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal, Protocol

import mcp_types as types
import orjson
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, ConfigDict, ValidationError

from ..policies.errors import ArborgateError, Invalid
from ..policies.model import Caller
from ..tools.proposal import Proposal, ProposalState
from ..tools.record import Entry, Event, name_caller
from .background import end
from .gate import Answer, Recorder
from .proposal_store import ProposalEvent
from .state import State, reaching_state

_MODERN: Final = "2026-07-28"
_KEPT: Final = 900
"""Seconds that an answer waits for the client to ask again."""
_PATIENCE: Final = 3.0
"""Seconds that a call waits for a person of the older protocols; the question stays when it is over."""
_ASKED: Final = 600.0
_MOST: Final = 32
"""Questions that are open at once, and proposals that are followed, in one process."""
_UNDECIDED: Final = frozenset({ProposalState.DRAFTED, ProposalState.PROPOSED})
_QUESTION: Final = "page"

log = logging.getLogger(__name__)

Did = Literal["accept", "decline", "cancel"]
"""What a person does with a question."""

RequestContext = ServerRequestContext[Any, Any]


class Book(Protocol):
    """The proposals, as far as they are followed here."""

    async def get(self, proposal_id: str) -> Proposal: ...

    def events(self, after: str = "") -> AsyncIterator[ProposalEvent]: ...


class _Kept(BaseModel):
    """An answer that waits, and whose and what it is the answer to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asker: str
    asked: str
    proposal: str
    text: str
    structured: dict[str, Any]


class Showing:
    """Shows pages. What was proposed is on record before; that its page was shown, and what became of that, is too."""

    def __init__(self, state: State, book: Book, recorder: Recorder, *, patience: float = _PATIENCE) -> None:
        self._state = state
        self._book = book
        self._recorder = recorder
        self._patience = patience
        self._tasks: set[asyncio.Task[Any]] = set()

    async def show(
        self, ctx: RequestContext, caller: Caller, params: types.CallToolRequestParams, answer: Answer
    ) -> types.InputRequiredResult | None:
        """Leads the person to the page of what was proposed; None when the answer can go out as it is.

        Never raises for what goes wrong in showing: the link is in the answer."""
        if not answer.page or answer.structured is None or not can_open(ctx.session.client_capabilities):
            return None
        try:
            if (await self._book.get(answer.proposal)).state not in _UNDECIDED:
                return None
            if is_version_at_least(ctx.protocol_version, _MODERN):
                return await self._ask_first(caller, params, answer)
            if ctx.session.can_send_request and len(self._tasks) < _MOST:
                await self._ask_beside(ctx, caller, params.name, answer)
        except ArborgateError as error:
            log.warning("a page is not shown: %s %s", error.message, error.detail)
        return None

    async def finish(self, caller: Caller, params: types.CallToolRequestParams) -> Answer:
        """The answer that waited while the page was shown. Nothing is proposed, however often this is asked.

        Raises `Invalid` for a state that is not this caller's, or of another call, or too old."""
        kept = await self._find(caller, params)
        given = (params.input_responses or {}).get(_QUESTION)
        action = given.action if isinstance(given, types.ElicitResult) else "cancel"
        await self._record(caller, params.name, kept.proposal, "ok", _say(action))
        return Answer(kept.structured, kept.text)

    async def close(self) -> None:
        for task in list(self._tasks):
            await end(task)

    async def _ask_first(
        self, caller: Caller, params: types.CallToolRequestParams, answer: Answer
    ) -> types.InputRequiredResult:
        token = secrets.token_urlsafe(32)
        kept = _Kept(
            asker=_name_asker(caller),
            asked=_digest(params),
            proposal=answer.proposal,
            text=answer.text,
            structured=dict(answer.structured or {}),
        )
        with reaching_state():
            await self._state.redis.set(self._key(token), kept.model_dump_json(), ex=_KEPT)
        await self._record(caller, params.name, answer.proposal, "intended")
        question = types.ElicitRequest(params=types.ElicitRequestURLParams(message=_write(answer), url=answer.page))
        return types.InputRequiredResult(input_requests={_QUESTION: question}, request_state=token)

    async def _ask_beside(self, ctx: RequestContext, caller: Caller, tool: str, answer: Answer) -> None:
        await self._record(caller, tool, answer.proposal, "intended")
        asking = self._start(self._ask(ctx, caller, tool, answer))
        await asyncio.wait({asking}, timeout=self._patience)

    async def _ask(self, ctx: RequestContext, caller: Caller, tool: str, answer: Answer) -> None:
        """Asks, beside the call, and tells the client when the proposal has been decided on."""
        elicitation = f"{answer.proposal}-{secrets.token_hex(4)}"
        action: Did = "cancel"
        try:
            async with asyncio.timeout(_ASKED):
                result = await ctx.session.elicit_url(_write(answer), answer.page, elicitation)
            action = result.action
        except (MCPError, TimeoutError, ValidationError) as error:
            log.info("a client did not show the page: %s", type(error).__name__)
        try:
            await self._record(caller, tool, answer.proposal, "ok", _say(action))
            if action == "accept" and len(self._tasks) < _MOST:
                self._start(self._tell_decided(ctx, answer.proposal, elicitation))
        except ArborgateError as error:
            log.warning("what became of a page that was shown is not on record: %s", error.message)

    async def _tell_decided(self, ctx: RequestContext, proposal_id: str, elicitation: str) -> None:
        with suppress(ArborgateError):
            if (await self._book.get(proposal_id)).state in _UNDECIDED:
                async for event in self._book.events():
                    if event.proposal == proposal_id and event.state not in _UNDECIDED:
                        break
            await ctx.session.send_elicit_complete(elicitation)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _find(self, caller: Caller, params: types.CallToolRequestParams) -> _Kept:
        with reaching_state():
            text = await self._state.redis.get(self._key(params.request_state or ""))
        with suppress(ValidationError):
            kept = _Kept.model_validate_json(text or "")
            if (kept.asker, kept.asked) == (_name_asker(caller), _digest(params)):
                return kept
        raise no_such_state()

    async def _record(self, caller: Caller, tool: str, proposal: str, outcome: str, detail: str = "") -> None:
        entry = Entry(
            event=Event.PAGE_SHOWN,
            **name_caller(caller),
            tool=tool,
            resource=f"Proposal::{proposal}",
            outcome=outcome,
            detail=detail,
            proposal=proposal,
        )
        await self._recorder.write(entry)

    def _key(self, token: str) -> str:
        """What opens the answer is not in Redis itself."""
        return self._state.key("shown", hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest())


@asynccontextmanager
async def open_showing(enabled: bool, state: State, book: Book, recorder: Recorder) -> AsyncIterator[Showing | None]:
    """For the length of a block; None where the settings want no pages shown."""
    showing = Showing(state, book, recorder) if enabled else None
    try:
        yield showing
    finally:
        if showing is not None:
            await showing.close()


def can_open(capabilities: types.ClientCapabilities | None) -> bool:
    """Whether the client can show its person a URL (`elicitation.url`, protocol 2025-11-25 and later)."""
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and elicitation.url is not None


def no_such_state() -> Invalid:
    """The client comes back to something that is not there."""
    return Invalid(
        "Nothing waits under this requestState, or not for you and this call; nothing was proposed by this request.",
        field="requestState",
        hint="proposal_list shows what you have proposed.",
    )


def _write(answer: Answer) -> str:
    return (
        f"Proposal {answer.proposal} waits for somebody to approve it. Its page shows what it would do; to open it "
        "decides nothing."
    )


def _say(action: Did) -> str:
    return {"accept": "opened", "decline": "declined", "cancel": "dismissed, or never seen"}[action]


def _name_asker(caller: Caller) -> str:
    return orjson.dumps([caller.key, caller.agent, list(caller.actors)]).decode()


def _digest(params: types.CallToolRequestParams) -> str:
    asked = orjson.dumps([params.name, params.arguments or {}], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(asked).hexdigest()
