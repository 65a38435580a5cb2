"""Who gets to a page: from the session cookie to the handler, and from an error to a page that explains it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...policies.errors import ArborgateError, Reason
from ...policies.model import Caller
from ...tools.record import Entry, Event, name_caller
from ..gate import Recorder
from .browsers import read_browser
from .guard import HEADERS, Cookie, Foreign, Origin, check_token, read_form
from .login import own_page
from .render import Renderer
from .sessions import Session, Sessions

STATUS = {
    Reason.BUSY: 503,
    Reason.CONFLICT: 409,
    Reason.DEADLINE: 503,
    Reason.DENIED: 403,
    Reason.INVALID: 400,
    Reason.NOT_THERE: 404,
    Reason.REFUSED: 409,
    Reason.STALE: 409,
    Reason.UNAVAILABLE: 503,
    Reason.UNRECORDED: 503,
}
"""The HTTP status that says each reason; any other is ours to mend, hence 500."""

_TITLES = {
    403: "This is not for you",
    404: "Nothing is here",
    409: "This did not happen",
    503: "Not now",
}

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Session], Awaitable[Response]]
FormHandler = Callable[[Request, Session, dict[str, str]], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Entrance:
    """Only the session cookie opens a page: a token in a header is not even looked at."""

    origin: Origin
    sessions: Sessions
    recorder: Recorder
    render: Renderer
    count_unreviewed: Callable[[Caller], Awaitable[int]]
    reads_personal: Callable[[Caller], bool]
    """Whether a caller may see personal data in what is about the whole installation."""

    def open(self, handler: Endpoint) -> Endpoint:
        """For everybody."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except ArborgateError as error:
                return self.explain(error, None)

        return answer

    def closed(self, handler: Handler) -> Endpoint:
        """For those with a session; others are asked to log in and then led back."""

        async def answer(request: Request) -> Response:
            session: Session | None = None
            try:
                session = await self.find_session(request)
                if session is None:
                    return self._ask_to_log_in(request)
                session = replace(session, unreviewed=await self.count_unreviewed(session.caller))
                return await handler(request, session)
            except ArborgateError as error:
                return self.explain(error, session)

        return answer

    def form(self, handler: FormHandler) -> Endpoint:
        """For those with a session, from a form that their own page sent."""

        async def check(request: Request, session: Session) -> Response:
            try:
                self.origin.check_sender(request)
                form = await read_form(request)
                check_token(form, session.csrf)
            except Foreign as error:
                await self._record_foreign(request, session, error)
                raise
            return await handler(request, session, form)

        return self.closed(check)

    async def find_session(self, request: Request) -> Session | None:
        session_id = self.session_cookie.read(request)
        if not session_id:
            return None
        # A page that looks again by itself is not a person at work: it does not keep the session alive.
        touch = request.headers.get("sec-fetch-dest") != "empty"
        return await self.sessions.find(session_id, read_browser(request.headers), touch=touch)

    @property
    def session_cookie(self) -> Cookie:
        return self.origin.cookie("arborgate")

    def page(self, template: str, session: Session | None, *, status: int = 200, **values: object) -> Response:
        """A page about the whole installation: its personal data shows to who may see all there is."""
        shows = session is not None and self.reads_personal(session.caller)
        masks = self.render.begin(session, shows)
        return self.render.page(template, session, status=status, masks=masks, **values)

    def explain(self, error: ArborgateError, session: Session | None) -> Response:
        status = STATUS.get(error.reason, 500)
        title = _TITLES.get(status, "Something went wrong")
        return self.page("message.html", session, status=status, title=title, error=error)

    def _ask_to_log_in(self, request: Request) -> Response:
        if request.method == "GET":
            wanted = own_page(request.url.path)
            return redirect(f"/login?{urlencode({'next': wanted})}")
        # The page that a form at this path is on.
        wanted = own_page(request.url.path.rpartition("/")[0])
        return self.render.page(
            "login.html", None, status=401, next=wanted, ended="here", issuer="", provider_logout=""
        )

    async def _record_foreign(self, request: Request, session: Session, error: Foreign) -> None:
        caller = session.caller
        await self.recorder.write(
            Entry(
                event=Event.CALL_DENIED,
                **name_caller(caller),
                resource=request.url.path,
                outcome=str(error.reason),
                detail=error.detail or error.message,
            )
        )


def redirect(url: str) -> Response:
    return RedirectResponse(url, 303, headers={**HEADERS, "Cache-Control": "no-store"})
