"""Nonces of ours for DPoP proofs (RFC 9449 section 8): a proof that holds one was not made long before it was sent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...policies.errors import Unavailable
from ..state import State, reaching_state
from .flaws import Flaw, Unauthenticated
from .settings import DpopSettings

_BYTES: Final = 16
_ASK_AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Turn:
    """One stretch of `nonce_life` seconds, counted from the epoch: its nonce, the one before and the one after, which
    a replica whose clock is ahead may have given out ("" for none)."""

    number: int
    nonce: str
    previous: str
    next: str
    asked: float


class Nonces:
    """One random nonce for all replicas per `nonce_life` seconds, kept in the state Redis and asked for once in that
    time; it is good for its own turn and the next."""

    def __init__(self, state: State, settings: DpopSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._life = settings.nonce_life
        self._clock = clock
        self._turn = _Turn(-1, "", "", "", 0.0)
        self._asking = asyncio.Lock()

    async def check(self, nonce: object) -> str:
        """What to use instead from now on, "" for the current nonce; raises `Unauthenticated`, with the current nonce,
        for one that is missing, old or not ours, and `Unavailable` when there is no telling."""
        turn = await self._find(nonce)
        if not nonce or nonce not in (turn.nonce, turn.previous, turn.next):
            raise Unauthenticated(Flaw.NONCE, nonce=turn.nonce)
        return turn.nonce if nonce == turn.previous else ""

    async def _find(self, nonce: object) -> _Turn:
        """The turn; asked for again, not too often, for a nonce that another replica may know."""
        if self._is_known(nonce):
            return self._turn
        async with self._asking:
            if not self._is_known(nonce):
                self._turn = await self._ask(self._number())
        return self._turn

    def _is_known(self, nonce: object) -> bool:
        turn = self._turn
        if turn.number != self._number():
            return False
        asked_lately = abs(self._clock() - turn.asked) < _ASK_AGAIN_SECONDS
        return not nonce or nonce in (turn.nonce, turn.previous, turn.next) or asked_lately

    def _number(self) -> int:
        return int(self._clock() // self._life)

    async def _ask(self, number: int) -> _Turn:
        now = self._clock()
        before, key, after = (self._state.key("nonce", str(each)) for each in range(number - 1, number + 2))
        # Two turns, and one for clocks that differ.
        milliseconds = round(3 * self._life * 1_000)
        with reaching_state():
            pipeline = self._state.redis.pipeline(transaction=False)
            pipeline.set(key, secrets.token_urlsafe(_BYTES), nx=True, px=milliseconds)
            for each in (key, before, after):
                pipeline.get(each)
            _, nonce, previous, following = await pipeline.execute()
        if not nonce:
            raise Unavailable("Arborgate's own state keeps nothing right now.", detail="a nonce was gone at once")
        return _Turn(number, nonce, previous or "", following or "", now)
