"""The outbox: messages that wait in Redis to be sent, taken by one replica at a time, and again when that one is gone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import cast

from pydantic import BaseModel, ConfigDict, ValidationError

from ..leases import read_script
from ..state import State, reaching_state
from .notice import Notice

log = logging.getLogger(__name__)

PEOPLE = "people"
"""The channel of mail to people themselves."""

_TOLD_MS = 40 * 86_400_000
"""How long what was told is remembered: longer than a proposal waits."""

_DEAD_KEPT = 1_000


class Delivery(BaseModel):
    """One message on its way through one channel. `person` is a key where it is for one person's own mail; `attempt`
    counts from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notice: Notice
    channel: str
    person: str = ""
    attempt: int = 1

    @property
    def id(self) -> str:
        whose = f"/{hashlib.sha256(self.person.encode()).hexdigest()[:32]}" if self.person else ""
        return f"{self.notice.id}/{self.channel}{whose}"


class Outbox:
    """Messages in the state Redis. Each is delivered at least once: when a replica ends in the middle of an attempt,
    another takes the message up after `lease` seconds. All methods raise `Unavailable`."""

    def __init__(self, state: State, *, lease: float) -> None:
        self._redis = state.redis
        self._state = state
        self._lease = lease
        self._due = state.key("notify", "due")
        self._messages = state.key("notify", "messages")
        self._dead = state.key("notify", "dead")
        self._keep = state.redis.register_script(read_script("notify"))
        self._take = state.redis.register_script(read_script("notify_take"))

    async def put(self, subject: str, told: str, deliveries: Sequence[Delivery], now: float) -> bool:
        """Keeps the messages about one thing that is told of a subject (a proposal); False when it was told before,
        by whichever replica."""
        arguments: list[str | int | float] = [told, _TOLD_MS, now]
        for each in deliveries:
            arguments += [each.id, each.model_dump_json()]
        with reaching_state():
            return bool(await self._keep(keys=[self._told(subject), self._due, self._messages], args=arguments))

    async def told(self, subject: str, what: str) -> bool:
        """Whether it was told."""
        with reaching_state():
            return bool(await self._redis.sismember(self._told(subject), what))

    async def take(self, now: float, most: int) -> list[Delivery]:
        """Messages that are due; nobody else gets them while an attempt lasts."""
        with reaching_state():
            taken = await self._take(keys=[self._due, self._messages], args=[now, now + self._lease, most])
        return [each for text in cast("list[str]", taken) if (each := _parse(text))]

    async def done(self, delivery: Delivery) -> None:
        with reaching_state():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._due, delivery.id)
                pipe.hdel(self._messages, delivery.id)
                await pipe.execute()

    async def put_back(self, delivery: Delivery, at: float) -> None:
        """For another attempt, at that moment."""
        again = delivery.model_copy(update={"attempt": delivery.attempt + 1})
        with reaching_state():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(self._messages, again.id, again.model_dump_json())
                pipe.zadd(self._due, {again.id: at})
                await pipe.execute()

    async def bury(self, delivery: Delivery) -> None:
        """Puts it among those that were given up."""
        with reaching_state():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._due, delivery.id)
                pipe.hdel(self._messages, delivery.id)
                pipe.lpush(self._dead, delivery.model_dump_json())
                pipe.ltrim(self._dead, 0, _DEAD_KEPT - 1)
                await pipe.execute()

    async def dead(self) -> list[Delivery]:
        """Those that were given up, the newest first."""
        with reaching_state():
            texts = cast("list[str]", await self._redis.lrange(self._dead, 0, -1))
        return [each for text in texts if (each := _parse(text))]

    def _told(self, subject: str) -> str:
        return self._state.key("notify", "told", subject)


def _parse(text: str) -> Delivery | None:
    try:
        return Delivery.model_validate_json(text)
    except ValidationError:
        log.warning("a message in the outbox is none of ours, and is left alone")
        return None
