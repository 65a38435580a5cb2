"""The page of one's own notifications: what one is mailed of, to the address that the identity provider vouches for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...policies.errors import Busy, Conflict, Invalid
from ...tools.record import Entry, Event, name_caller
from ..gate import Recorder
from ..notifications.notice import Notice
from ..notifications.occasions import HEADINGS, Occasion
from ..notifications.outbox import PEOPLE, Delivery, Outbox
from ..notifications.people import People, Preferences
from .entrance import Entrance, redirect
from .sessions import Session

PATH = "/notifications"

_HOUR = 3_600
_MUTES: Mapping[str, tuple[str, float]] = {
    "": ("Not muted", 0.0),
    "1h": ("For an hour", _HOUR),
    "8h": ("For 8 hours", 8 * _HOUR),
    "1d": ("For a day", 24 * _HOUR),
    "7d": ("For a week", 7 * 24 * _HOUR),
}
"""What can be chosen: its words, and seconds."""

_TEST_SECONDS = 60
"""One test message in this time."""


@dataclass(frozen=True, slots=True)
class NotificationPages:
    """Lets people choose what they are mailed of. Nobody sees or changes anybody else's choices, and where mail goes is
    not among them: it is the verified address of the login."""

    entrance: Entrance
    people: People
    outbox: Outbox
    environments: Sequence[str]
    recorder: Recorder
    clock: Callable[[], float]

    def routes(self) -> list[BaseRoute]:
        entrance = self.entrance
        return [
            Route(PATH, entrance.closed(self._show)),
            Route(f"{PATH}/save", entrance.form(self._save), methods=["POST"]),
            Route(f"{PATH}/test", entrance.form(self._test), methods=["POST"]),
        ]

    async def follow_login(self, session: Session) -> None:
        """After a login: the choices go on with the groups and the address that the provider gives now."""
        if (known := await self.people.read(session.caller.key)) is not None:
            await self.people.put(self._renew(known, session))

    async def _show(self, request: Request, session: Session) -> Response:
        chosen = await self._find(session)
        return self.entrance.render.page(
            "notifications.html",
            session,
            chosen=chosen,
            mail=session.mail,
            events=list(HEADINGS.items()),
            environments=self.environments,
            mutes=[(name, words) for name, (words, _) in _MUTES.items()],
            sent="sent" in request.query_params,
            saved="saved" in request.query_params,
        )

    async def _save(self, _request: Request, session: Session, form: dict[str, str]) -> Response:
        """What is not in the form is off, as browsers send boxes that are not ticked."""
        known, mute = await self._find(session), form.get("mute", "")
        if mute != "keep" and mute not in _MUTES:
            raise Invalid("There is no such time to mute for.", field="mute")
        chosen = known.model_copy(
            update={
                "on": "on" in form,
                "events": tuple(event for event in Occasion if f"event-{event}" in form),
                "high_only": "high" in form,
                "environments": tuple(name for name in self.environments if f"environment-{name}" in form),
                "muted_until": known.muted_until if mute == "keep" else self._mute(mute),
            }
        )
        await self._record(session, "intended", _describe(chosen))
        await self.people.put(chosen)
        await self._record(session, "ok", _describe(chosen))
        return redirect(f"{PATH}?saved=1")

    async def _test(self, _request: Request, session: Session, _form: dict[str, str]) -> Response:
        """One message to oneself, by the same way as all others."""
        chosen, now = await self._find(session), self.clock()
        if not chosen.reachable(now):
            raise Conflict("You are not mailed now.", hint=f"Turn mail on, or unmute it, on {PATH}.")
        notice = Notice.sample(chosen.key, f"{self.entrance.origin}{PATH}", now)
        delivery = Delivery(notice=notice, channel=PEOPLE, person=chosen.key)
        turn = int(now // _TEST_SECONDS)
        if not await self.outbox.put(chosen.key, f"test/{turn}", [delivery], now):
            raise Busy("A test was sent a moment ago.", retry_after=_TEST_SECONDS)
        return redirect(f"{PATH}?sent=1")

    async def _find(self, session: Session) -> Preferences:
        """What the person has chosen, or what they begin with."""
        caller = session.caller
        known = await self.people.read(caller.key)
        fresh = Preferences(
            issuer=caller.issuer, subject=caller.subject, name=caller.name, groups=(), mail="", seen_at=0.0
        )
        return self._renew(known or fresh, session)

    def _renew(self, known: Preferences, session: Session) -> Preferences:
        caller = session.caller
        who = {"name": caller.name, "groups": tuple(sorted(caller.groups)), "mail": session.mail}
        return known.model_copy(update={**who, "seen_at": self.clock()})

    def _mute(self, name: str) -> float:
        _, seconds = _MUTES[name]
        return self.clock() + seconds if seconds else 0.0

    async def _record(self, session: Session, outcome: str, detail: str) -> None:
        entry = Entry(event=Event.NOTIFICATION_CHOSEN, **name_caller(session.caller), outcome=outcome, detail=detail)
        await self.recorder.write(entry)


def _describe(chosen: Preferences) -> str:
    """The choice in words, without the address."""
    if not chosen.on:
        return "no mail"
    told = [f"mail of {', '.join(chosen.events) or 'nothing'}"]
    told += ["high risk only"] if chosen.high_only else []
    told += [f"in {', '.join(chosen.environments)}"] if chosen.environments else []
    told += ["muted"] if chosen.muted_until else []
    return "; ".join(told)
