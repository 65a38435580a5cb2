"""How much one caller through one agent may ask: a token bucket for all replicas, a bound on what is unanswered."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson

from ..policies.errors import Busy, Reason, Unavailable, Unrecorded
from ..policies.model import Action, Caller
from ..tools.record import Entry, Event, name_caller
from ..tools.tool import AnyTool, Report
from .gate import Answer, Recorder
from .identity.settings import LimitSettings
from .leases import read_script
from .mcp import Calls
from .sampling import Sampling
from .state import State, reaching_state

logger = logging.getLogger(__name__)

_LEASE_SECONDS = 1.0
"""How long a replica may use the tokens that it drew ahead."""
_AHEAD_SECONDS = 0.5
"""How many seconds' worth of tokens a replica draws ahead, and never over an eighth of the burst: none at all where the
limits are small, so that those are kept to the token."""
_PATIENCE_SECONDS = 0.25
"""How long a call waits for the shared bucket before its replica decides alone."""
_RETRY_SECONDS = 1.0
"""How long a replica decides alone before it tries the shared buckets again."""
_KNOWN = 10_000
"""How many callers one replica keeps in mind."""
_TOLD_SECONDS = 60.0
"""The time between two records of the same caller's refusals."""
_RECORDED = 20
"""Records of refusals each second, of all callers together."""


class Limits(Protocol):
    """Every `enter` that returns is followed by one `leave`."""

    async def enter(self, caller: Caller) -> None:
        """Takes one request out of the caller's bucket; raises `Busy` when it is empty."""
        ...

    def leave(self, caller: Caller) -> None: ...


class Unlimited:
    """No limit: for what has no other callers to protect."""

    async def enter(self, caller: Caller) -> None:
        """Lets everybody in."""

    def leave(self, caller: Caller) -> None:
        """Counts nobody."""


@dataclass(slots=True)
class _Bucket:
    """What a replica knows of one caller's bucket; times are of its own clock.

    `tokens` were drawn ahead and can be used before `until`; when `low` of them are left, more are drawn. There is
    nothing to draw before `empty_until`. `own` tokens at `own_at` are for when the replica decides alone."""

    name: str
    own: float
    tokens: int = 0
    low: int = -1
    until: float = 0.0
    empty_until: float = 0.0
    own_at: float = 0.0
    in_flight: int = 0
    waiting: int = 0
    drawing: asyncio.Task[None] | None = None
    refused: int = 0
    told_at: float = float("-inf")


class SharedLimits:
    """The limits of all replicas on one state Redis together. A caller whose replica holds tokens waits for nothing,
    and one whose bucket is known to be empty costs nothing but its refusal.

    While Redis is away each replica keeps the limits by itself, to the same numbers: a rate limit is no authorisation,
    and to refuse everybody would be the outage that it is there to prevent. `clock` is in seconds, from anywhere."""

    def __init__(
        self,
        settings: LimitSettings,
        state: State,
        recorder: Recorder,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = settings.rate
        self._burst = settings.burst
        self._most = settings.in_flight
        self._ahead = int(min(settings.rate * _AHEAD_SECONDS, settings.burst / 8))
        self._state = state
        self._draw = state.redis.register_script(read_script("draw"))
        self._replica = secrets.token_hex(4)
        self._recorder = recorder
        self._recorded = Sampling(_RECORDED, clock)
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str, str, str], _Bucket] = OrderedDict()
        self._drawing: set[asyncio.Task[None]] = set()
        self._alone = False
        self._retry_at = 0.0

    async def enter(self, caller: Caller) -> None:
        """Takes one request out of the caller's bucket; raises `Busy`, which says after how many seconds to come again,
        when it is empty or too many requests of the caller are unanswered in this replica."""
        bucket = self._bucket(caller)
        if bucket.in_flight >= self._most:
            raise await self._refuse(caller, bucket, f"At most {self._most} requests at once are answered here.", 1.0)
        bucket.in_flight += 1
        try:
            if bucket.tokens < 1 or bucket.until <= self._clock():
                await self._wait_for_token(caller, bucket)
            else:
                bucket.tokens -= 1
                if bucket.tokens == bucket.low:
                    self._start_drawing(bucket, ahead_of_need=True)
        except BaseException:
            bucket.in_flight -= 1
            raise

    def leave(self, caller: Caller) -> None:
        # Never forgotten meanwhile: a bucket with requests in flight is not evicted.
        self._buckets[caller.issuer, caller.subject, caller.agent, caller.within].in_flight -= 1

    async def close(self) -> None:
        """Returns once nothing is under way any more."""
        if self._drawing:
            await asyncio.wait(self._drawing)

    def _bucket(self, caller: Caller) -> _Bucket:
        # A child app's token has a bucket of its own: what runs away there stops neither its parent nor its siblings.
        key = (caller.issuer, caller.subject, caller.agent, caller.within)
        bucket = self._buckets.get(key)
        if bucket is not None:
            self._buckets.move_to_end(key)
            return bucket
        name = hashlib.sha256(orjson.dumps([caller.key, caller.agent, caller.within])).hexdigest()[:32]
        bucket = self._buckets[key] = _Bucket(self._state.key("limit", name), own=float(self._burst))
        if len(self._buckets) > _KNOWN:
            idle = next((each for each, known in self._buckets.items() if not known.in_flight), key)
            if idle != key:
                del self._buckets[idle]
        return bucket

    async def _wait_for_token(self, caller: Caller, bucket: _Bucket) -> None:
        """Takes a token that has to be drawn first."""
        while True:
            now = self._clock()
            if bucket.tokens and bucket.until > now:
                bucket.tokens -= 1
                return
            if self._alone:
                if now >= self._retry_at:
                    self._retry_at = now + _RETRY_SECONDS
                    self._start_drawing(bucket)
                if (wait := self._take_own(bucket, now)) > 0:
                    raise await self._refuse_rate(caller, bucket, wait)
                return
            if bucket.empty_until > now:
                raise await self._refuse_rate(caller, bucket, bucket.empty_until - now)
            bucket.waiting += 1
            try:
                drawing = self._start_drawing(bucket)
                await asyncio.wait({drawing})
            finally:
                bucket.waiting -= 1
            drawing.result()  # what nobody foresaw is not tried again and again

    def _start_drawing(self, bucket: _Bucket, *, ahead_of_need: bool = False) -> asyncio.Task[None]:
        """The drawing under way, or a new one: one for all who wait, ended by none of them going away."""
        if bucket.drawing is None:
            bucket.drawing = task = asyncio.create_task(self._draw_for(bucket, ahead_of_need=ahead_of_need))
            self._drawing.add(task)
            task.add_done_callback(self._drawing.discard)
        return bucket.drawing

    async def _draw_for(self, bucket: _Bucket, *, ahead_of_need: bool) -> None:
        wanted, kept, back = bucket.waiting, bucket.tokens, 0
        if not ahead_of_need:  # what is left of an old lease can't be used any more
            kept, back, bucket.tokens = 0, bucket.tokens, 0
        sent = self._clock()  # the lease begins here before it does there, and so it ends here first
        held = int(_LEASE_SECONDS * 1e6)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                with reaching_state():
                    args: list[float | str] = [self._rate, self._burst, self._replica, wanted, self._ahead]
                    args += [kept, back, held]
                    granted, wait = cast("tuple[int, int]", await self._draw(keys=[bucket.name], args=args))
        except (Unavailable, TimeoutError) as error:
            self._decide_alone(error)
            return
        finally:
            bucket.drawing = None
        if self._alone:
            self._alone = False
            logger.warning("rate limits are shared with the other replicas again")
        bucket.tokens += granted
        bucket.until = sent + _LEASE_SECONDS
        bucket.low = (bucket.tokens - wanted) // 2 if granted > wanted else -1
        bucket.empty_until = self._clock() + wait / 1e6 if wait else 0.0

    def _decide_alone(self, error: Exception) -> None:
        self._retry_at = self._clock() + _RETRY_SECONDS
        if not self._alone:
            self._alone = True
            why = getattr(error, "detail", "") or type(error).__name__
            logger.warning("rate limits are kept by this replica alone: the state can't be reached (%s)", why)

    def _take_own(self, bucket: _Bucket, now: float) -> float:
        """Takes a token of the replica's own; else the seconds until there is one."""
        bucket.own = min(float(self._burst), bucket.own + (now - bucket.own_at) * self._rate)
        bucket.own_at = now
        if bucket.own < 1 - 1e-6:
            return (1 - bucket.own) / self._rate
        bucket.own -= 1
        return 0.0

    async def _refuse_rate(self, caller: Caller, bucket: _Bucket, wait: float) -> Busy:
        limit = f"{self._rate:g} requests a second, {self._burst} at once"
        return await self._refuse(caller, bucket, f"You ask too often: {limit}.", wait)

    async def _refuse(self, caller: Caller, bucket: _Bucket, message: str, wait: float) -> Busy:
        """The refusal, counted; one a minute is put on record with how many there were."""
        bucket.refused += 1
        if self._clock() - bucket.told_at >= _TOLD_SECONDS and self._recorded.take():
            await self._record(caller, bucket, message)
        return Busy(message, retry_after=wait)

    async def _record(self, caller: Caller, bucket: _Bucket, message: str) -> None:
        count, bucket.refused = bucket.refused, 0
        bucket.told_at = self._clock()
        entry = Entry(
            event=Event.CALLER_LIMITED,
            **name_caller(caller),
            outcome=Reason.BUSY,
            detail=f"{message} Refused since the last one of these: {count}",
        )
        try:
            await self._recorder.write(entry)
        except Unrecorded:  # the caller is refused either way: the next record counts these too
            bucket.refused += count


class Limited:
    """The gate within limits, for where no HTTP stands before it."""

    def __init__(self, gate: Calls, limits: Limits) -> None:
        self._gate = gate
        self._limits = limits

    async def call(
        self,
        caller: Caller,
        name: str,
        arguments: Mapping[str, Any],
        *,
        trace_id: str = "",
        report: Report | None = None,
    ) -> Answer:
        try:
            await self._limits.enter(caller)
        except Busy as busy:
            return Answer(None, "", busy)
        try:
            return await self._gate.call(caller, name, arguments, trace_id=trace_id, report=report)
        finally:
            self._limits.leave(caller)

    def offered(self, caller: Caller) -> list[AnyTool]:
        return self._gate.offered(caller)

    def could(self, caller: Caller, action: Action) -> bool:
        return self._gate.could(caller, action)

    def clean(self, text: str) -> str:
        return self._gate.clean(text)
