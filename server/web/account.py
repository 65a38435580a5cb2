"""The pages about oneself: login, logout, and the sessions that one has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...policies.model import Channel
from ...tools.record import Entry, Event
from .attempts import ATTEMPT_SECONDS
from .browsers import read_browser
from .entrance import Entrance, redirect
from .guard import Cookie
from .login import Login, LoginFailed, Wanted, own_page
from .logout import BACK_CHANNEL_PATH, DONE_PATH, BackChannel, find_provider_logout
from .provider import Provider
from .sessions import Session

_FROM_ELSEWHERE = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, slots=True)
class Account:
    """Lets people in and out."""

    entrance: Entrance
    provider: Provider
    login: Login
    back_channel: BackChannel
    on_login: Callable[[Session], Awaitable[None]] | None = None

    def routes(self) -> list[BaseRoute]:
        entrance = self.entrance
        return [
            Route("/login", entrance.open(self._log_in)),
            Route("/login/callback", entrance.open(self._finish_login)),
            Route("/logout", entrance.form(self._log_out), methods=["POST"]),
            Route(DONE_PATH, entrance.open(self._logged_out)),
            Route(BACK_CHANNEL_PATH, self.back_channel.answer, methods=["POST"]),
            Route("/sessions", entrance.closed(self._list_sessions)),
            Route("/sessions/end", entrance.form(self._end_sessions), methods=["POST"]),
        ]

    async def step_up(self, request: Request, session: Session, wanted: Wanted) -> Response:
        """Sends a person who is logged in to the provider once more, from a form.

        By a page in between: browsers hold the redirects of a form to `form-action`, wherever the provider may lead."""
        url, held = await self.login.begin(self._login_cookie.read(request), wanted)
        response = self.entrance.render.page("continue.html", session, url=url, next=wanted.next)
        self._login_cookie.write(response, held)
        return response

    @property
    def _login_cookie(self) -> Cookie:
        return self.entrance.origin.cookie("arborgate-login", ATTEMPT_SECONDS)

    async def _log_in(self, request: Request) -> Response:
        """A page with a link, and behind the link (`start`) the way to the provider."""
        query, origin = request.query_params, self.entrance.origin
        if request.url.netloc != origin.netloc:
            # The provider leads back to the public URL, and the cookie has to be there too.
            return redirect(f"{origin}/login?{query}")
        wanted = own_page(query.get("next", ""))
        # Another site may show this page, but not begin a login for somebody who did not ask for it.
        if "start" in query and request.headers.get("sec-fetch-site") not in _FROM_ELSEWHERE:
            url, held = await self.login.begin(self._login_cookie.read(request), Wanted(wanted, again="again" in query))
            response = redirect(url)
            self._login_cookie.write(response, held)
            return response
        return await self._show_login(request, wanted, "here" if "ended" in query else "")

    async def _logged_out(self, request: Request) -> Response:
        """Where the provider leads back to after its own logout."""
        return await self._show_login(request, own_page(""), "everywhere")

    async def _show_login(self, request: Request, wanted: str, ended: str) -> Response:
        session = await self.entrance.find_session(request)
        there = ""
        if ended == "here" and session is None:
            there = await find_provider_logout(self.provider, str(self.entrance.origin))
        return self.entrance.render.page(
            "login.html", session, next=wanted, ended=ended, issuer=self.provider.issuer, provider_logout=there
        )

    async def _finish_login(self, request: Request) -> Response:
        entrance = self.entrance
        try:
            entered = await self.login.finish(self._login_cookie.read(request), request.query_params)
        except LoginFailed as error:
            await entrance.recorder.write(
                Entry(
                    event=Event.CALLER_REJECTED, channel=Channel.PAGES, outcome=str(error.reason), detail=error.detail
                )
            )
            raise
        session_id, session = await entrance.sessions.start(
            entered.person,
            read_browser(request.headers),
            issued_at=entered.issued_at,
            replaces=entrance.session_cookie.read(request),
            shortfall=entered.shortfall,
        )
        if self.on_login is not None:
            await self.on_login(session)
        response = redirect(entered.next)
        entrance.session_cookie.write(response, session_id)
        if entered.held:
            self._login_cookie.write(response, entered.held)
        else:
            self._login_cookie.clear(response)
        return response

    async def _log_out(self, _request: Request, session: Session, _form: dict[str, str]) -> Response:
        await self.entrance.sessions.end(session)
        response = redirect("/login?ended=1")
        self.entrance.session_cookie.clear(response)
        return response

    async def _list_sessions(self, _request: Request, session: Session) -> Response:
        found = await self.entrance.sessions.find_all(session)
        return self.entrance.render.page("sessions.html", session, sessions=found)

    async def _end_sessions(self, _request: Request, session: Session, form: dict[str, str]) -> Response:
        """One other session, or all of them."""
        names = None if "all" in form else [form.get("name", "")]
        await self.entrance.sessions.end_others(session, names)
        return redirect("/sessions")
