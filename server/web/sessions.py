"""The sessions of the approval pages: kept in Redis under the hash of an id that only the browser holds."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from ...policies.model import Binding, Caller, Channel
from ..identity.roles import RoleMembers, grants_of, roles_of
from ..state import State, reaching_state


class Person(BaseModel):
    """Who logged in, as the provider's ID token says; `authenticated_at` is `auth_time`, 0 where it does not say."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]
    authenticated_at: int


class _Stored(BaseModel):
    person: Person
    csrf: str
    started_at: float
    seen_at: float


@dataclass(frozen=True, slots=True)
class Session:
    """One login in one browser. `caller` has the roles that the settings give today; `csrf` goes into every form."""

    caller: Caller
    csrf: str


class Sessions:
    """Starts, finds and ends sessions; every method raises `Unavailable` when Redis does not answer.

    What is in Redis opens no session: the id itself is never stored."""

    def __init__(
        self,
        state: State,
        roles: RoleMembers,
        *,
        idle: float,
        limit: float,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._roles = roles
        self._idle = idle
        self._limit = limit
        self._clock = clock

    async def start(self, person: Person) -> tuple[str, Session]:
        """A new session with its id, which is the cookie's value."""
        session_id = secrets.token_urlsafe(32)
        now = self._clock()
        stored = _Stored(person=person, csrf=secrets.token_urlsafe(32), started_at=now, seen_at=now)
        with reaching_state():
            await self._state.redis.set(self._key(session_id), stored.model_dump_json(), px=self._left(stored))
        return session_id, self._session(session_id, stored)

    async def find(self, session_id: str, *, touch: bool = True) -> Session | None:
        """The session of this id, unless it has ended or was left idle too long; `touch` counts as using it."""
        key = self._key(session_id)
        with reaching_state():
            raw = await self._state.redis.get(key)
            if raw is None:
                return None
            stored = _Stored.model_validate_json(raw)
            now = self._clock()
            if now - stored.seen_at >= self._idle or now - stored.started_at >= self._limit:
                await self._state.redis.delete(key)
                return None
            if touch:
                stored.seen_at = now
                # Only if it is still there: a request that races with the logout must not bring the session back.
                await self._state.redis.set(key, stored.model_dump_json(), xx=True, px=self._left(stored))
        return self._session(session_id, stored)

    async def end(self, session_id: str) -> None:
        with reaching_state():
            await self._state.redis.delete(self._key(session_id))

    def _key(self, session_id: str) -> str:
        return self._state.key("session", hash_id(session_id))

    def _left(self, stored: _Stored) -> int:
        """Milliseconds until Redis may forget it: the sooner of the two limits."""
        return max(1, int(1_000 * min(self._idle, stored.started_at + self._limit - stored.seen_at)))

    def _session(self, session_id: str, stored: _Stored) -> Session:
        person = stored.person
        caller = Caller(
            issuer=person.issuer,
            subject=person.subject,
            name=person.name,
            groups=frozenset(person.groups),
            roles=roles_of(person.groups, self._roles),
            agent="",
            channel=Channel.PAGES,
            authenticated_at=person.authenticated_at,
            session=hash_id(session_id)[:16],
            binding=Binding.SESSION,
            grants=grants_of(person.groups, self._roles),
        )
        return Session(caller, stored.csrf)


def hash_id(secret: str) -> str:
    """What stands for a cookie's value in Redis and in records: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
