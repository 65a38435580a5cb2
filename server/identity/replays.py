"""Which proofs were used: each one once, on whichever replica, remembered for as long as it could be used again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from ..state import State, reaching_state
from .flaws import Flaw, Unauthenticated
from .proofs import AHEAD_SECONDS
from .settings import DpopSettings

_KEPT: Final = 50_000


class Memory:
    """The marks of the last while, in this process alone; the oldest go first when there are too many."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._marks: OrderedDict[str, float] = OrderedDict()

    def add(self, mark: str) -> bool:
        """Whether the mark was not there yet."""
        now = self._clock()
        while self._marks and next(iter(self._marks.values())) <= now:
            self._marks.popitem(last=False)
        if mark in self._marks:
            return False
        self._marks[mark] = now + self._seconds
        if len(self._marks) > _KEPT:
            self._marks.popitem(last=False)
        return True

    def forget(self, mark: str) -> None:
        self._marks.pop(mark, None)


class Replays:
    """Remembers used proofs for all replicas, in the state Redis; a replay on the same replica costs no Redis.

    A proof counts from `AHEAD_SECONDS` before its `iat` to `window` seconds after it, by the clock of whichever replica
    gets it. So it is remembered for both together, and for as much longer as the replicas' clocks may differ."""

    def __init__(self, state: State, settings: DpopSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        seconds = settings.window + 2 * AHEAD_SECONDS
        self._state = state
        self._milliseconds = round(seconds * 1_000)
        self._memory = Memory(seconds, clock)
        self._waiting: list[tuple[str, asyncio.Future[bool]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def spend(self, thumbprint: str, proof_id: str) -> None:
        """Raises `Unauthenticated` for a proof that was used before, and `Unavailable` when Redis can't tell."""
        # A thumbprint has no space: no two proofs have one mark.
        text = f"{thumbprint} {proof_id}".encode("utf-8", "surrogatepass")
        mark = hashlib.sha256(text).hexdigest()[:40]
        if not self._memory.add(mark):
            raise Unauthenticated(Flaw.PROOF_REPLAY)
        try:
            first = await self._add(mark)
        except BaseException:
            self._memory.forget(mark)  # whether it was used is for Redis to say, when it can again
            raise
        if not first:
            raise Unauthenticated(Flaw.PROOF_REPLAY)

    async def _add(self, mark: str) -> bool:
        """Whether Redis did not know the mark. Those who come while it is being asked are asked about together."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._state.key("proof", mark), answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                added = await self._write([key for key, _ in batch])
            except Exception as error:  # each caller is told, and decides
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), new in zip(batch, added, strict=True):
                if not answer.done():
                    answer.set_result(new)

    async def _write(self, keys: Sequence[str]) -> list[bool]:
        with reaching_state():
            if len(keys) == 1:
                return [bool(await self._state.redis.set(keys[0], "", nx=True, px=self._milliseconds))]
            pipeline = self._state.redis.pipeline(transaction=False)
            for key in keys:
                pipeline.set(key, "", nx=True, px=self._milliseconds)
            return [bool(answer) for answer in await pipeline.execute()]
