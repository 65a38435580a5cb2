"""Who is shut out before their tokens end: a list in Redis, and in every replica a copy of it that costs no question."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final, cast

import orjson

from ...policies.errors import Unavailable
from ...policies.model import Caller
from ..leases import read_script
from ..state import State, reaching_state
from .flaws import Flaw, Unauthenticated
from .settings import DenyListSettings, IdentitySettings

logger = logging.getLogger(__name__)

FOR_GOOD: Final = 100 * 365 * 86_400.0
"""In seconds, how long who is shut out with all tokens to come stays so: until somebody says otherwise."""


class Kind(StrEnum):
    """What a denial is about."""

    AGENT = "agent"
    PERSON = "person"
    TOKEN = "token"  # noqa: S105  # a kind, no secret


@dataclass(frozen=True, slots=True)
class Denial:
    """Somebody or something shut out. `name` is `issuer#subject`, `issuer#client_id` or `issuer#jti`; tokens issued up
    to `before` are refused until `until` (seconds since the epoch), and with `new_too` also those issued later."""

    kind: Kind
    name: str
    before: float
    until: float
    new_too: bool = False
    reason: str = ""
    by: str = ""


class SharedDenyList:
    """The list of all replicas. `check` looks into memory alone; `run` keeps that current."""

    def __init__(
        self,
        state: State,
        settings: DenyListSettings,
        *,
        life: float,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = time.monotonic,
    ) -> None:
        """`life` is for how long any token is good at most, in seconds (`longest_life`): a denial of tokens that are
        there already has to last no longer."""
        self._state = state
        self._settings = settings
        self._life = life
        self._clock = clock
        self._uptime = uptime
        self._keys = (state.key("denied", "entries"), state.key("denied", "version"))
        self._add = state.redis.register_script(read_script("deny"))
        self._remove = state.redis.register_script(read_script("admit"))
        self._known_at = float("-inf")
        self._version: bytes | str | None = None
        self._people, self._agents, self._tokens = _index(())

    def check(self, caller: Caller, token_id: str, issued_at: float) -> None:
        """Raises `Unauthenticated` for who is shut out, and `Unavailable` when the list is not known or too old.

        `token_id` is `issuer#jti` or "", `issued_at` the token's `iat` or 0: one that does not say is as old as can be."""
        if self._uptime() - self._known_at > self._settings.max_age:
            raise Unavailable("Whether this token is still good can't be told right now.", detail="the deny list")
        if self._people and (found := self._people.get(caller.key)):
            self._refuse(found, issued_at)
        if self._agents:
            for agent in (caller.agent, *caller.actors):
                self._refuse(self._agents.get(f"{caller.issuer}#{agent}", ()), issued_at)
        if self._tokens and token_id:
            self._refuse(self._tokens.get(token_id, ()), 0.0)

    async def run(self) -> None:
        """Keeps the copy current, for ever. While Redis is away the copy ages, and `check` gives up at `max_age`."""
        while True:
            with suppress(Unavailable):
                await self.refresh()
            await asyncio.sleep(self._settings.refresh)

    async def refresh(self) -> None:
        """Reads the list if it changed; raises `Unavailable`."""
        began = self._uptime()
        with reaching_state():
            version = await self._state.redis.get(self._keys[1])
            if version != self._version or self._known_at < 0:
                denials = await self.entries()
                self._people, self._agents, self._tokens = _index(denials)
                self._version = version
        self._known_at = began

    async def deny(
        self, kind: Kind, name: str, *, new_too: bool = False, reason: str = "", by: str = "", life: float = 0.0
    ) -> Denial:
        """Shuts out all tokens that somebody has now, and with `new_too` those that they get; for `life` seconds, or as
        long as any token of now is good, or with `new_too` for good. Raises `Unavailable`: then nobody is shut out as
        far as is known."""
        now = self._clock()
        lasts = life or (FOR_GOOD if new_too else self._life)
        denial = Denial(kind, name, now, now + lasts, new_too, reason, by)
        with reaching_state():
            await self._add(self._keys, [now, secrets.token_hex(8), denial.until, orjson.dumps(asdict(denial))])
        await self._catch_up()
        return denial

    async def deny_person(self, key: str, *, reason: str = "", by: str = "") -> None:
        """Shuts out all tokens that a person (`Caller.key`) has now. Raises `Unavailable`."""
        await self.deny(Kind.PERSON, key, reason=reason, by=by)

    async def admit(self, kind: Kind, name: str) -> int:
        """Takes every denial of somebody off the list; how many there were. Raises `Unavailable`."""
        now = self._clock()
        theirs = [raw for raw in await self._read(now) if (one := _parse(raw)).kind is kind and one.name == name]
        if not theirs:
            return 0
        with reaching_state():
            removed = await self._remove(self._keys, [now, secrets.token_hex(8), *theirs])
        await self._catch_up()
        return int(removed)

    async def entries(self) -> Sequence[Denial]:
        """All that is on the list now, what ends first at the front; raises `Unavailable`."""
        return [_parse(raw) for raw in await self._read(self._clock())]

    async def _read(self, now: float) -> Sequence[bytes]:
        with reaching_state():
            return cast("Sequence[bytes]", await self._state.redis.zrangebyscore(self._keys[0], f"({now}", "+inf"))

    async def _catch_up(self) -> None:
        with suppress(Unavailable):  # the change is made; the copy follows with the next refresh
            await self.refresh()

    def _refuse(self, denials: Sequence[Denial], issued_at: float) -> None:
        for one in denials:
            if self._clock() < one.until and (one.new_too or issued_at <= one.before):
                raise Unauthenticated(Flaw.DENIED, detail=f"{one.kind} {one.name}")


def longest_life(settings: IdentitySettings) -> float:
    """For how many seconds any token, or a session of the pages, can be good."""
    lives = [issuer.longest_life + 2 * issuer.leeway for issuer in settings.issuers]
    lives += [settings.pages.session_limit] if settings.pages else []
    return max([*lives, settings.exchange.life])


def _parse(raw: bytes) -> Denial:
    try:
        told = orjson.loads(raw)
        return Denial(**{**told, "kind": Kind(told["kind"])})
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable("The list of who is shut out can't be read.", detail=type(error).__name__) from error


def _index(denials: Sequence[Denial]) -> tuple[Mapping[str, Sequence[Denial]], ...]:
    """Denials by name: of people, of agents, of tokens."""
    indices: Mapping[Kind, dict[str, list[Denial]]] = {kind: defaultdict(list) for kind in Kind}
    for one in denials:
        indices[one.kind][one.name].append(one)
    return tuple(dict(indices[kind]) for kind in (Kind.PERSON, Kind.AGENT, Kind.TOKEN))
