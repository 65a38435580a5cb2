"""The sessions of the approval pages: kept in Redis under the hash of an id that only the browser holds."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from ...policies.errors import Denied
from ...policies.model import Binding, Caller, Channel
from ...tools.record import Entry, Event
from ..gate import Recorder
from ..identity.authentication import DenyList
from ..identity.flaws import Unauthenticated
from ..identity.roles import RoleMembers, grants_of, roles_of
from ..identity.settings import PagesSettings
from ..leases import read_script
from ..state import State, reaching_state
from .browsers import Browser

_MOST = 20
"""How many sessions one person can have; with one more, the one longest unused ends."""
_BAR_SECONDS = 900
"""How long a logout at the provider keeps out a login that was under way when it came."""


class Person(BaseModel):
    """Who logged in, as the provider's ID token says.

    `authenticated_at` is `auth_time`, 0 where it does not say; `acr` how they logged in, `sid` the provider's own
    session (OpenID Connect Back-Channel Logout 1.0 section 2.1), "" where it does not say. `subject` is the claim by
    which the settings tell people apart, `sub` what the provider itself calls them.
    `mail` is an address that it says is theirs and verified."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    subject: str
    sub: str
    name: str
    groups: tuple[str, ...]
    authenticated_at: int
    acr: str = ""
    sid: str = ""
    mail: str = ""


class Shortfall(StrEnum):
    """What the provider was asked for and did not give at the last login."""

    AGE = "age"
    STRENGTH = "strength"


class Draft(BaseModel):
    """What a person typed about a proposal and has not sent, kept while they log in again."""

    model_config = ConfigDict(frozen=True)

    proposal: str
    comment: str


class Ending(StrEnum):
    """Why a session ended, other than by its limits; the words of the record."""

    BROWSER = "another browser presented it"
    CLIENT = "the pages log in elsewhere now"
    CROWD = "its owner opened too many others"
    DENIED = "its owner has been shut out"
    LOGOUT = "logged out"
    OWNER = "ended by its owner from another session"
    PROVIDER = "logged out at the provider"
    REPLACED = "replaced by a new login"


class _Login(BaseModel):
    """What does not change in a session. `client` is the issuer and client that it belongs to."""

    model_config = ConfigDict(frozen=True)

    person: Person
    client: tuple[str, str]
    browser: str
    mark: str
    csrf: str
    started_at: float
    ends_at: float
    shortfall: Shortfall | None


@dataclass(frozen=True, slots=True)
class _Stored:
    name: str
    login: _Login
    seen_at: float
    draft: Draft | None


@dataclass(frozen=True, slots=True)
class Session:
    """One login in one browser. `caller` has the roles that the settings give today; `csrf` goes into every form.
    `unreviewed` is how much broken glass every page has to tell of."""

    caller: Caller
    csrf: str
    name: str
    sub: str = ""
    shortfall: Shortfall | None = None
    draft: Draft | None = None
    unreviewed: int = 0
    mail: str = ""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session as its owner sees it. `name` opens nothing; times are seconds since the epoch."""

    name: str
    browser: str
    started_at: float
    seen_at: float
    ends_at: float
    current: bool


class Sessions:
    """Starts, finds and ends sessions, on record; every method raises `Unavailable` when Redis does not answer.

    What is in Redis opens no session: the id itself is never stored. A session belongs to one browser, to one client of
    one issuer, and ends with the provider's session that it came from."""

    def __init__(
        self,
        settings: PagesSettings,
        state: State,
        roles: RoleMembers,
        recorder: Recorder,
        *,
        clock: Callable[[], float],
        denied: DenyList | None = None,
    ) -> None:
        self._state = state
        self._denied = denied
        self._roles = roles
        self._recorder = recorder
        self._idle = settings.session_idle
        self._limit = settings.session_limit
        self._client = (settings.issuer, settings.client_id)
        self._clock = clock
        self._start = state.redis.register_script(read_script("start_session"))
        self._update = state.redis.register_script(read_script("update_session"))

    async def start(
        self,
        person: Person,
        browser: Browser,
        *,
        issued_at: float,
        replaces: str = "",
        shortfall: Shortfall | None = None,
    ) -> tuple[str, Session]:
        """A new session with its id, which is the cookie's value; the session of the id `replaces` ends, and what its
        person typed goes on in the new one if it is the same person.

        `issued_at` is the ID token's `iat`. Raises `Denied` when the provider has ended that login meanwhile, or when the
        person is shut out."""
        old = await self._load(hash_id(replaces)) if replaces else None
        if old is not None:
            await self._end(old, Ending.REPLACED)
        session_id, now = secrets.token_urlsafe(32), self._clock()
        # The limit counts from when the person last proved who they are: a login that the provider answers by itself
        # does not stretch it.
        proved_at = min(now, person.authenticated_at) if person.authenticated_at else now
        login = _Login(
            person=person,
            client=self._client,
            browser=browser.name,
            mark=browser.mark,
            csrf=secrets.token_urlsafe(32),
            started_at=now,
            ends_at=proved_at + self._limit,
            shortfall=shortfall,
        )
        same = old is not None and _owner(old.login.person) == _owner(person)
        stored = _Stored(hash_id(session_id), login, now, old.draft if same and old else None)
        if self._is_shut_out(stored, issued_at):
            raise Denied("You have been shut out of here.", hint="Ask the platform team.")
        mine, bar = self._of_person(person.sub), self._bar("sub", person.sub)
        theirs = self._of_provider(person.sid) if person.sid else mine
        their_bar = self._bar("sid", person.sid) if person.sid else bar
        with reaching_state():
            began = await self._start(
                keys=[self._key(stored.name), mine, bar, theirs, their_bar],
                args=[
                    issued_at,
                    stored.name,
                    now,
                    login.ends_at,
                    int(self._limit * 1_000),
                    self._left(stored),
                    *_fields(stored),
                ],
            )
        if not began:
            raise Denied("You logged out at the identity provider meanwhile.", hint="Log in again.")
        await self._record(Event.SESSION_STARTED, stored, f"in {browser.name}")
        open_ones = await self._open_ones(mine)
        for one in sorted(open_ones, key=lambda each: each.seen_at)[: max(0, len(open_ones) - _MOST)]:
            await self._end(one, Ending.CROWD)
        return session_id, self._session(stored)

    async def find(self, session_id: str, browser: Browser, *, touch: bool = True) -> Session | None:
        """The session of this id, unless it has ended, or was left idle too long; `touch` counts as using it.

        It ends when another browser presents it, or when its person is on the deny list."""
        stored = await self._load(hash_id(session_id))
        if stored is None:
            return None
        if not secrets.compare_digest(stored.login.mark, browser.mark):
            await self._end(stored, Ending.BROWSER, f" ({browser.name})")
            return None
        if stored.login.client != self._client:
            await self._end(stored, Ending.CLIENT)
            return None
        if self._is_shut_out(stored, stored.login.started_at):
            await self._end(stored, Ending.DENIED)
            return None
        if touch:
            stored = _Stored(stored.name, stored.login, self._clock(), stored.draft)
            if not await self._put(stored, "seen_at", stored.seen_at):
                return None
        return self._session(stored)

    async def keep(self, session: Session, draft: Draft | None) -> None:
        """Keeps what the person typed, in place of what was kept before."""
        stored = await self._load(session.name)
        if stored is not None and stored.draft != draft:
            await self._put(stored, "draft", draft.model_dump_json() if draft else "")

    async def find_all(self, session: Session) -> list[OpenSession]:
        """All sessions of the session's person, the one last used first."""
        found = await self._open_ones(self._of_person(session.sub))
        return [
            OpenSession(
                one.name,
                one.login.browser,
                one.login.started_at,
                one.seen_at,
                one.login.ends_at,
                one.name == session.name,
            )
            for one in sorted(found, key=lambda one: one.seen_at, reverse=True)
        ]

    async def end(self, session: Session) -> None:
        """The logout."""
        if (stored := await self._load(session.name)) is not None:
            await self._end(stored, Ending.LOGOUT)

    async def end_others(self, session: Session, names: Sequence[str] | None = None) -> int:
        """Ends the person's other sessions, all or those of these names; how many. Nobody ends somebody else's."""
        ended = 0
        for one in await self._open_ones(self._of_person(session.sub)):
            if one.name != session.name and (names is None or one.name in names):
                ended += await self._end(one, Ending.OWNER)
        return ended

    async def end_at_provider(self, subject: str, sid: str, *, issued_at: float) -> list[Person]:
        """Ends what a logout token of the provider names: the sessions of its session `sid` (`subject`'s, if it says
        whose), or without one all of `subject`'s. Returns whose sessions ended, and keeps out logins under way.

        A session of `subject` of which the provider never said the `sid` ends too: it may be the one that is meant."""
        with reaching_state():
            bar = self._bar("sid", sid) if sid else self._bar("sub", subject)
            await self._state.redis.set(bar, str(issued_at), ex=_BAR_SECONDS)
        found = await self._open_ones(self._of_provider(sid)) if sid else []
        if subject:
            found = [one for one in found if one.login.person.sub == subject]
            mine = await self._open_ones(self._of_person(subject))
            found += [one for one in mine if not (sid and one.login.person.sid)]
        return [one.login.person for one in found if await self._end(one, Ending.PROVIDER)]

    def _is_shut_out(self, stored: _Stored, since: float) -> bool:
        """Raises `Unavailable` when nobody can tell."""
        if self._denied is None:
            return False
        try:
            self._denied.check(self._session(stored).caller, "", since)
        except Unauthenticated:
            return True
        return False

    async def _load(self, name: str) -> _Stored | None:
        """What is in Redis under this name, unless its time is over."""
        with reaching_state():
            fields = await self._state.redis.hgetall(self._key(name))
        if not fields:
            return None
        draft = Draft.model_validate_json(fields["draft"]) if fields.get("draft") else None
        stored = _Stored(name, _Login.model_validate_json(fields["login"]), float(fields["seen_at"]), draft)
        now = self._clock()
        if now - stored.seen_at < self._idle and now < stored.login.ends_at:
            return stored
        with reaching_state():
            await self._state.redis.delete(self._key(name))
        return None

    async def _open_ones(self, index: str) -> list[_Stored]:
        """The sessions of an index; those that have ended are taken out of it."""
        with reaching_state():
            names = [str(name) for name in await self._state.redis.zrange(index, 0, -1)]
        found = {name: await self._load(name) for name in names}
        if gone := [name for name, stored in found.items() if stored is None]:
            with reaching_state():
                await self._state.redis.zrem(index, *gone)
        return [stored for stored in found.values() if stored is not None]

    async def _put(self, stored: _Stored, field: str, value: str | float) -> bool:
        with reaching_state():
            return bool(await self._update(keys=[self._key(stored.name)], args=[self._left(stored), field, value]))

    async def _end(self, stored: _Stored, why: Ending, more: str = "") -> bool:
        """Ends a session for all replicas, then records it; False when another request was first."""
        with reaching_state():
            ended = bool(await self._state.redis.delete(self._key(stored.name)))
        if ended:
            await self._record(Event.SESSION_ENDED, stored, f"{why}{more}")
        return ended

    async def _record(self, event: Event, stored: _Stored, words: str) -> None:
        person = stored.login.person
        await self._recorder.write(
            Entry(
                event=event,
                caller=_owner(person),
                caller_name=person.name,
                channel=Channel.PAGES,
                outcome="ok",
                detail=f"session {stored.name[:16]}: {words}",
            )
        )

    def _key(self, name: str) -> str:
        return self._state.key("sessions", "one", name)

    def _of_person(self, sub: str) -> str:
        return self._state.key("sessions", "person", hash_id(f"{self._client[0]}\n{sub}"))

    def _of_provider(self, sid: str) -> str:
        return self._state.key("sessions", "provider", hash_id(f"{self._client[0]}\n{sid}"))

    def _bar(self, claim: str, value: str) -> str:
        return self._state.key("sessions", "bar", claim, hash_id(f"{self._client[0]}\n{value}"))

    def _left(self, stored: _Stored) -> int:
        """Milliseconds until Redis may forget it: the sooner of the two limits."""
        return max(1, int(1_000 * min(self._idle, stored.login.ends_at - stored.seen_at)))

    def _session(self, stored: _Stored) -> Session:
        person = stored.login.person
        caller = Caller(
            issuer=person.issuer,
            subject=person.subject,
            name=person.name,
            groups=frozenset(person.groups),
            roles=roles_of(person.groups, self._roles),
            agent="",
            channel=Channel.PAGES,
            authenticated_at=person.authenticated_at,
            session=stored.name[:16],
            binding=Binding.SESSION,
            acr=person.acr,
            grants=grants_of(person.groups, self._roles),
        )
        login = stored.login
        return Session(caller, login.csrf, stored.name, person.sub, login.shortfall, stored.draft, mail=person.mail)


def hash_id(secret: str) -> str:
    """What stands for a cookie's value in Redis and in records: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _owner(person: Person) -> str:
    return f"{person.issuer}#{person.subject}"


def _fields(stored: _Stored) -> tuple[str, ...]:
    draft = stored.draft.model_dump_json() if stored.draft else ""
    return ("login", stored.login.model_dump_json(), "seen_at", str(stored.seen_at), "draft", draft)
