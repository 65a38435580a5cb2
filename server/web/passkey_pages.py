"""The page of one's own passkeys, and what the page of a proposal needs to be decided on with one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...policies.errors import Denied, Invalid
from ...policies.model import Caller
from ..enrolment import ENROLLING_SECONDS, NAME_LIMIT, Enrolment
from ..passkeys import STATEMENT, Passkey
from .account import Account
from .entrance import Entrance, redirect
from .login import Wanted
from .masks import Masks
from .rulings import Seen
from .sessions import Session
from .shown import write_content

PATH = "/passkeys"


@dataclass(frozen=True, slots=True)
class PasskeyPages:
    """Lets people add and remove their own passkeys, after a recent login."""

    entrance: Entrance
    account: Account
    enrolment: Enrolment
    clock: Callable[[], float]

    def routes(self) -> list[BaseRoute]:
        entrance = self.entrance
        return [
            Route(PATH, entrance.closed(self._list)),
            Route(f"{PATH}/add", entrance.form(self._add), methods=["POST"]),
            Route(f"{PATH}/remove", entrance.form(self._remove), methods=["POST"]),
            Route(f"{PATH}/login", entrance.form(self._log_in_again), methods=["POST"]),
        ]

    async def _list(self, _request: Request, session: Session) -> Response:
        recent = self._is_recent(session)
        return self.entrance.render.page(
            "passkeys.html",
            session,
            passkeys=await self.enrolment.find(session.caller.key),
            options=await self.enrolment.begin(session.caller, session.name) if recent else "",
            name_limit=NAME_LIMIT,
            seconds=ENROLLING_SECONDS,
        )

    async def _add(self, _request: Request, session: Session, form: dict[str, str]) -> Response:
        self._require_recent(session)
        answer = form.get("credential", "")
        await self.enrolment.enrol(session.caller, session.name, form.get("name", ""), answer)
        return redirect(PATH)

    async def _remove(self, _request: Request, session: Session, form: dict[str, str]) -> Response:
        self._require_recent(session)
        await self.enrolment.remove(session.caller, form.get("id", ""))
        return redirect(PATH)

    async def _log_in_again(self, request: Request, session: Session, _form: dict[str, str]) -> Response:
        wanted = Wanted(PATH, again=True, max_age=ENROLLING_SECONDS)
        return await self.account.step_up(request, session, wanted)

    def _is_recent(self, session: Session) -> bool:
        return self.clock() - session.caller.authenticated_at <= ENROLLING_SECONDS

    def _require_recent(self, session: Session) -> None:
        if not self._is_recent(session):
            raise Denied("Your login is too old for this.", hint=f"Log in again on {PATH}, then try again.")


@dataclass(frozen=True, slots=True)
class Signing:
    """How a proposal is decided on with a passkey: `data` is for the script (JSON), `""` where the reader has none;
    `needed` says that without one it can't be approved, `until` when broken glass would lapse."""

    data: str
    needed: bool
    until: float


async def prepare_signing(enrolment: Enrolment, caller: Caller, seen: Seen, until: float, masks: Masks) -> Signing:
    """What the page of the proposal needs: all of the content, of which the reader's browser computes the digest, and
    writes what their device signs, by itself."""
    content = seen.proposal.content
    passkeys: Sequence[Passkey] = await enrolment.find(caller.key)
    told = {
        "approver": caller.key,
        "content": write_content(content, masks),
        "passkeys": [one.id for one in passkeys],
        "rp": enrolment.party.id,
        "type": STATEMENT,
    }
    data = orjson.dumps(told).decode() if passkeys else ""
    needed = seen.approve.signs or seen.break_glass.signs or enrolment.needs(content.risk, list(passkeys))
    return Signing(data, needed, until)


def read_moment(text: str) -> float:
    """Seconds since the epoch from a form, 0 for nothing; raises `Invalid`."""
    try:
        moment = float(text or 0)
    except ValueError as error:
        raise Invalid("This is no moment.", field="until") from error
    if not math.isfinite(moment):
        raise Invalid("This is no moment.", field="until")
    return moment
