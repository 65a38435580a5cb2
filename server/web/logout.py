"""Logout with the identity provider: hers ends our sessions (OpenID Connect Back-Channel Logout 1.0), ours offers hers
(OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from authlib.common.urls import add_params_to_uri
from starlette.requests import Request
from starlette.responses import Response

from ...policies.errors import ArborgateError, Unavailable
from ...policies.model import Channel
from ...tools.record import Entry, Event
from ..gate import Recorder
from ..identity.tokens import TOKEN_LIMIT
from ..sampling import Sampling
from ..state import State, reaching_state
from .guard import HEADERS, read_form
from .provider import LEEWAY, Provider, Untrusted
from .sessions import Sessions, hash_id

BACK_CHANNEL_PATH: Final = "/logout/back-channel"
DONE_PATH: Final = "/logout/done"

LogoutHook = Callable[[str, str], Awaitable[None]]
"""What else happens when the provider logs somebody out: gets the issuer and the subject."""

_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_TYPES = ("", "logout+jwt", "application/logout+jwt")
_WINDOW_SECONDS = 300
"""How old a logout token may be; it is remembered for longer."""
_REFUSALS_RECORDED = 10


class BackChannel:
    """Takes logout tokens. Nothing is written for one that the provider did not sign, and each is good for once.

    There is no limit of requests: it would let a flood of forgeries keep out a true logout. A forgery costs a look at
    its claims, or at most one signature."""

    def __init__(
        self,
        provider: Provider,
        sessions: Sessions,
        state: State,
        recorder: Recorder,
        *,
        clock: Callable[[], float],
        on_logout: LogoutHook | None = None,
    ) -> None:
        self._provider = provider
        self._sessions = sessions
        self._state = state
        self._recorder = recorder
        self._clock = clock
        self._on_logout = on_logout
        self._recorded = Sampling(_REFUSALS_RECORDED)

    async def answer(self, request: Request) -> Response:
        """200 once the sessions have ended, on every replica; else 400 with an error (section 2.8)."""
        try:
            form = await read_form(request)
            try:
                await self.log_out(form.get("logout_token", ""))
            except Untrusted as error:
                await self._record_refusal(error)
                raise
        except Unavailable as error:
            return _say(400, {"error": "temporarily_unavailable", "error_description": error.message})
        except ArborgateError as error:
            return _say(400, {"error": "invalid_request", "error_description": error.message})
        return _say(200)

    async def log_out(self, token: str) -> None:
        """Ends what the logout token names. Raises `Untrusted` or `Unavailable`."""
        claims = await self._read(token)
        subject, sid = claims.get("sub", ""), claims.get("sid", "")
        used = self._state.key("logout", "used", hash_id(claims["jti"]))
        with reaching_state():
            if await self._state.redis.exists(used):
                raise _refused("it was used before")
        ended = await self._sessions.end_at_provider(subject, sid, issued_at=claims["iat"])
        if self._on_logout is not None:
            for each in sorted({subject, *(person.subject for person in ended)} - {""}):
                await self._on_logout(self._provider.issuer, each)
        with reaching_state():
            # Marked only now: when something failed before, the provider's next try must find the door open.
            await self._state.redis.set(used, "1", ex=_WINDOW_SECONDS + 2 * LEEWAY)

    async def _read(self, token: str) -> dict[str, Any]:
        """The claims of a valid logout token (section 2.6)."""
        if not token or len(token) > TOKEN_LIMIT:
            raise _refused("it is missing, or too long")
        claims = await self._provider.read(token, _TYPES, jti={"essential": True})
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(_EVENT), dict):
            raise _refused("its events do not say that it is about a logout")
        if "nonce" in claims:
            raise _refused("it has a nonce, so it may be an ID token")
        if claims["iat"] + _WINDOW_SECONDS + LEEWAY < self._clock():
            raise _refused("it is too old")
        named = {name: claims[name] for name in ("sub", "sid", "jti") if name in claims}
        if not all(isinstance(value, str) and value for value in named.values()):
            raise _refused("sub, sid or jti is no text")
        if not named.keys() & {"sub", "sid"}:
            raise _refused("it names neither a person nor a session")
        return claims

    async def _record_refusal(self, error: Untrusted) -> None:
        if not self._recorded.take():
            return
        more = self._recorded.tell_missed()
        await self._recorder.write(
            Entry(
                event=Event.CALLER_REJECTED,
                channel=Channel.PAGES,
                resource=BACK_CHANNEL_PATH,
                outcome=str(error.reason),
                detail=f"logout token: {error.detail}{more}",
            )
        )


async def find_provider_logout(provider: Provider, url: str) -> str:
    """Where one can log out at the provider too, and come back from; "" when it has no such place or is away.

    No token goes along (an `id_token_hint` would be one in a URL): the provider asks the person instead."""
    try:
        place = (await provider.discover()).end_session_endpoint
    except (Unavailable, Untrusted):
        return ""
    asked = [("client_id", provider.client_id), ("post_logout_redirect_uri", f"{url}{DONE_PATH}")]
    return str(add_params_to_uri(place, asked)) if place else ""


def _refused(detail: str) -> Untrusted:
    return Untrusted("This logout token is not accepted.", detail=detail)


def _say(status: int, body: dict[str, str] | None = None) -> Response:
    content = orjson.dumps(body) if body else b""
    return Response(content, status, media_type="application/json", headers={**HEADERS, "Cache-Control": "no-store"})
