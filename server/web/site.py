"""What a browser gets: every page and form, from the session cookie to the answer."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ...policies.errors import ArborgateError, Reason
from ...policies.model import Caller, Channel
from ...tools.proposal import ProposalQuery, ProposalState, Verdict
from ...tools.record import Entry, Event
from .guard import HEADERS, Cookie, Foreign, Origin, check_token, read_form
from .login import ATTEMPT_SECONDS, Login, LoginFailed, own_page
from .proposal_page import view_proposal
from .render import STATIC, Renderer
from .review import COMMENT_LIMIT, Review, Seen, touched
from .sessions import Session, Sessions
from .tree_page import TreeFilter, environments_of, view_tree

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

_WAITING_SHOWN = 50
_PAGE = 30
_TITLES = {
    403: "This is not for you",
    404: "Nothing is here",
    409: "This did not happen",
    503: "Not now",
}
_OPEN = (
    ProposalState.DRAFTED,
    ProposalState.PROPOSED,
    ProposalState.APPROVED,
    ProposalState.APPLYING,
    ProposalState.FAILED,
)

Handler = Callable[[Request, Session], Awaitable[Response]]
FormHandler = Callable[[Request, Session, dict[str, str]], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Site:
    """The pages. Only the session cookie opens one: a token in a header is not even looked at."""

    origin: Origin
    sessions: Sessions
    login: Login
    review: Review
    render: Renderer
    clean: Callable[[str], str]

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self._open(self._to_inbox)),
            Route("/login", self._open(self._begin_login)),
            Route("/login/callback", self._open(self._finish_login)),
            Route("/logout", self._form(self._end_session), methods=["POST"]),
            Route("/proposals", self._closed(self._inbox)),
            Route("/proposals/{id}", self._closed(self._proposal)),
            Route("/proposals/{id}/approve", self._form(self._decide(Verdict.APPROVE)), methods=["POST"]),
            Route("/proposals/{id}/reject", self._form(self._decide(Verdict.REJECT)), methods=["POST"]),
            Route("/apps", self._closed(self._apps)),
            Mount("/static", _Static(directory=STATIC)),
        ]

    # Who gets in.

    def _open(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """For everybody."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except ArborgateError as error:
                return self._explain(error, None)

        return answer

    def _closed(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """For those with a session; others are asked to log in and then led back."""

        async def answer(request: Request) -> Response:
            session: Session | None = None
            try:
                # A page that looks again by itself is not a person at work: it does not keep the session alive.
                touch = request.headers.get("sec-fetch-dest") != "empty"
                session = await self._session(request, touch=touch)
                if session is None:
                    return self._ask_to_log_in(request)
                return await handler(request, session)
            except ArborgateError as error:
                return self._explain(error, session)

        return answer

    def _form(self, handler: FormHandler) -> Callable[[Request], Awaitable[Response]]:
        """For those with a session, from a form that their own page sent."""

        async def check(request: Request, session: Session) -> Response:
            try:
                self.origin.check_sender(request)
                form = await read_form(request)
                check_token(form, session.csrf)
            except Foreign as error:
                await self._record(Event.CALL_DENIED, session.caller, request.url.path, error)
                raise
            return await handler(request, session, form)

        return self._closed(check)

    async def _session(self, request: Request, *, touch: bool = True) -> Session | None:
        session_id = self.session_cookie.read(request)
        return await self.sessions.find(session_id, touch=touch) if session_id else None

    @property
    def session_cookie(self) -> Cookie:
        return self.origin.cookie("arborgate")

    @property
    def login_cookie(self) -> Cookie:
        return self.origin.cookie("arborgate-login", ATTEMPT_SECONDS)

    def _ask_to_log_in(self, request: Request) -> Response:
        if request.method == "GET":
            wanted = own_page(request.url.path)
            return _redirect(f"/login?{urlencode({'next': wanted})}")
        return self.render.page("login.html", None, status=401, next=_page_of_form(request), ended=True, issuer="")

    def _explain(self, error: ArborgateError, session: Session | None) -> Response:
        status = STATUS.get(error.reason, 500)
        title = _TITLES.get(status, "Something went wrong")
        return self.render.page("message.html", session, status=status, title=title, error=error)

    # Login and logout.

    async def _to_inbox(self, _request: Request) -> Response:
        return _redirect("/proposals")

    async def _begin_login(self, request: Request) -> Response:
        """A page with a link, and behind the link (`start`) the way to the provider."""
        query = request.query_params
        wanted = own_page(query.get("next", ""))
        if "start" not in query:
            ended = "ended" in query
            return self.render.page("login.html", None, next=wanted, ended=ended, issuer=self.login.issuer)
        if request.url.netloc != self.origin.netloc:
            # The provider leads back to the public URL, and the cookie has to be there too.
            return _redirect(f"{self.origin}/login?{query}")
        browser = self.login_cookie.read(request) or secrets.token_urlsafe(32)
        response = _redirect(await self.login.begin(browser, next_page=wanted, again="again" in query))
        self.login_cookie.write(response, browser)
        return response

    async def _finish_login(self, request: Request) -> Response:
        browser = self.login_cookie.read(request)
        try:
            entered = await self.login.finish(browser, request.query_params)
        except LoginFailed as error:
            await self.review.audit.write(
                Entry(
                    event=Event.CALLER_REJECTED, channel=Channel.PAGES, outcome=str(error.reason), detail=error.detail
                )
            )
            raise
        old = self.session_cookie.read(request)
        if old:
            await self.sessions.end(old)
        session_id, session = await self.sessions.start(entered.person)
        await self._record(Event.SESSION_STARTED, session.caller)
        response = _redirect(entered.next)
        self.session_cookie.write(response, session_id)
        self.login_cookie.clear(response)
        return response

    async def _end_session(self, request: Request, session: Session, _form: dict[str, str]) -> Response:
        await self.sessions.end(self.session_cookie.read(request))
        await self._record(Event.SESSION_ENDED, session.caller)
        response = _redirect("/login?ended=1")
        self.session_cookie.clear(response)
        return response

    # Pages.

    async def _inbox(self, request: Request, session: Session) -> Response:
        query, caller = request.query_params, session.caller
        wanted = self._query(query, caller)
        waiting: list[Seen] = []
        if not query:
            proposed = ProposalQuery(states=(ProposalState.PROPOSED,), limit=_WAITING_SHOWN)
            found, _ = await self.review.find(caller, proposed)
            waiting = [seen for seen in found if seen.approve.allowed or seen.approve.login_helps]
        shown = {seen.proposal.id for seen in waiting}
        rest, position = await self.review.find(caller, wanted)
        more = f"/proposals?{urlencode({**query, 'before': position})}" if position else ""
        return self.render.page(
            "inbox.html",
            session,
            waiting=waiting,
            rest=[seen for seen in rest if seen.proposal.id not in shown],
            more=more,
            filters=dict(query),
            states=list(ProposalState),
            touched=touched,
        )

    def _query(self, query: QueryParams, caller: Caller) -> ProposalQuery:
        state, app = query.get("state", ""), query.get("app", "").strip()
        states = _OPEN if state == "open" else (ProposalState(state),) if state in set(ProposalState) else ()
        named = self.review.named(caller, app) if app else []
        return ProposalQuery(
            states=states,
            requester=caller.key if "mine" in query else "",
            app=str(named[0].app.id) if len(named) == 1 else app,
            before=query.get("before", ""),
            limit=_PAGE,
        )

    async def _proposal(self, request: Request, session: Session) -> Response:
        seen = await self.review.get(session.caller, request.path_params["id"])
        view = await view_proposal(self.review, session.caller, seen, self.clean)
        return self.render.page("proposal.html", session, view=view, comment_limit=COMMENT_LIMIT)

    def _decide(self, verdict: Verdict) -> FormHandler:
        async def answer(request: Request, session: Session, form: dict[str, str]) -> Response:
            proposal_id, digest, comment = request.path_params["id"], form.get("digest", ""), form.get("comment", "")
            await self.review.decide(session.caller, proposal_id, verdict, digest=digest, comment=comment)
            return _redirect(f"/proposals/{quote(proposal_id, safe='')}")

        return answer

    async def _apps(self, request: Request, session: Session) -> Response:
        query = request.query_params
        wanted = TreeFilter(query.get("text", "").strip(), query.get("environment", ""), "unhealthy" in query)
        visible = await self.review.apps(session.caller)
        view = view_tree(self.review.tree, visible, wanted)
        return self.render.page(
            "apps.html", session, view=view, wanted=wanted, environments=environments_of(visible), count=len(visible)
        )

    async def _record(
        self, event: Event, caller: Caller, resource: str = "", error: ArborgateError | None = None
    ) -> None:
        await self.review.audit.write(
            Entry(
                event=event,
                caller=caller.key,
                caller_name=caller.name,
                channel=caller.channel,
                resource=resource,
                outcome=str(error.reason) if error else "ok",
                detail=(error.detail or error.message) if error else f"session {caller.session}",
            )
        )


class _Static(StaticFiles):
    """Our own few files; their URLs change with their content, so a browser may keep them."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update({**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"})
        return response


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, headers={**HEADERS, "Cache-Control": "no-store"})


def _page_of_form(request: Request) -> str:
    """The page that a form at this path is on."""
    return own_page(request.url.path.rpartition("/")[0])
