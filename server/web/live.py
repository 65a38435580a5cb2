"""The live part of a proposal's page: what changes while it is open, as server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from ...policies.errors import ArborgateError, Busy, Unavailable
from ..following import Follower
from ..scope import leave_place
from .checks import COMMENT_LIMIT
from .entrance import Entrance
from .guard import HEADERS
from .progress import ProgressView, view_progress
from .review import Review
from .rulings import Seen
from .sessions import Session

_AGAIN = "retry: 1000\n\n"
"""After how many milliseconds a browser opens a stream again that was broken off."""
_SILENCE = ":\n\n"
_HEARTBEAT = 5.0
"""Seconds of silence at most, and after which a session that has ended ends its streams."""
_AT_ONCE = 16
"""How many streams look at once: hundreds hear the same news, and requests want to be answered meanwhile."""
_ROUNDS = 360
"""Heartbeats and news after which a browser has to ask again: half an hour at the least eventful."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a stream says next, and where the proposal then stands; `again`: look again soon, whatever happens."""

    text: str
    mark: str
    last: bool = False
    again: bool = False


class _Stream(StreamingResponse):
    """Ends its events together with itself, however it ends: nobody is counted as waiting who has gone."""

    def __init__(self, events: AsyncGenerator[str], headers: Mapping[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class LivePage:
    """Tells open pages what has become of their proposal. Who may see it is asked again each time there is something to
    tell, and whether the session still stands at every heartbeat too."""

    entrance: Entrance
    review: Review
    follower: Follower
    _looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def routes(self) -> list[BaseRoute]:
        return [Route("/proposals/{id}/events", self.entrance.closed(self._open))]

    async def _open(self, request: Request, session: Session) -> Response:
        proposal_id, key = request.path_params["id"], session.caller.key
        await self.review.get(session.caller, proposal_id)  # it is on record that they follow it
        self.follower.require_room(key)
        headers = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(self._follow(request, key, proposal_id), headers)

    async def _follow(self, request: Request, key: str, proposal_id: str) -> AsyncGenerator[str]:
        leave_place(request.scope)  # a stream holds no place among the requests
        yield _AGAIN
        mark = request.headers.get("last-event-id") or request.query_params.get("since", "")
        with suppress(Busy):  # others were first: the browser asks again
            async with self.follower.watch(proposal_id, key) as watch:
                news = True
                for _ in range(_ROUNDS):
                    async with self._looking:
                        said = await self._look(request, proposal_id, mark, news=news)
                    yield said.text
                    if said.last:
                        return
                    mark = said.mark
                    news = await watch.wait(_HEARTBEAT) or said.again
                    if watch.ended:
                        return

    async def _look(self, request: Request, proposal_id: str, mark: str, *, news: bool) -> _Said:
        """What there is to say to who sent the request, if their session still stands and they still may hear it."""
        try:
            session = await self.entrance.find_session(request)
            if session is None:
                return _Said(_write("ended"), mark, last=True)
            if not news:
                return _Said(_SILENCE, mark)
            seen = await self.review.look_again(session.caller, proposal_id)
        except Unavailable:
            return _Said(_SILENCE, mark, again=True)
        except ArborgateError:
            return _Said(_write("ended"), mark, last=True)
        progress, over = view_progress(seen.proposal, seen.hold), seen.proposal.state.final
        told = _write("progress", self._render(session, seen, progress), progress.mark) if progress.mark != mark else ""
        return _Said(told + (_write("over") if over else "") or _SILENCE, progress.mark, last=over)

    def _render(self, session: Session, seen: Seen, progress: ProgressView) -> str:
        render, draft = self.entrance.render, session.draft
        typed = draft.comment if draft and draft.proposal == seen.proposal.id else ""
        page = render.page(
            "proposal/fragment.html",
            session,
            masks=render.begin(session, seen.personal),
            progress=progress,
            steer=seen.steer,
            comment_limit=COMMENT_LIMIT,
            draft=typed,
        )
        return bytes(page.body).decode()


def _write(event: str, data: str = "", mark: str = "") -> str:
    """One event; a line of its data is a line of its own."""
    lines = [f"event: {event}", *([f"id: {mark}"] if mark else []), *(f"data: {line}" for line in data.split("\n"))]
    return "\n".join(lines) + "\n\n"
