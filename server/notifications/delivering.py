"""Delivering: every attempt to send a message, on record before and after, and when to try again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

from ...policies.errors import ArborgateError, Reason
from ...tools.record import Entry, Event
from ..background import end
from ..gate import Recorder
from ..metrics import Metrics
from .audience import Audience
from .outbox import Delivery, Outbox
from .people import Preferences
from .sending import Sender, Undelivered

_AT_ONCE = 8
_FIRST_PAUSE = 4.0
_LONGEST_PAUSE = 3_600.0
_GRACE = 0.5

log = logging.getLogger(__name__)


def pause_after(attempt: int, wanted: float, draw: Callable[[], float] = random.random) -> float:
    """Seconds until the next attempt: twice as many each time, half of them by chance, so that receivers that come back
    are not met by all at once; at least what the receiver `wanted`."""
    longest = min(_FIRST_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
    return max(longest / 2 + longest / 2 * draw(), wanted)


class Delivering:
    """Sends what is due. `senders` are by the channel's name."""

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, Sender],
        audience: Audience,
        recorder: Recorder,
        metrics: Metrics,
        *,
        attempts: int,
        clock: Callable[[], float],
        pause: Callable[[int, float], float] = pause_after,
    ) -> None:
        self._outbox = outbox
        self._senders = senders
        self._audience = audience
        self._recorder = recorder
        self._metrics = metrics
        self._attempts = attempts
        self._clock = clock
        self._pause = pause
        self._tasks: set[asyncio.Task[None]] = set()

    async def start_due(self, now: float) -> None:
        """Begins to send what is due, beside what is being sent. Raises `Unavailable`."""
        free = _AT_ONCE - len(self._tasks)
        for delivery in await self._outbox.take(now, free) if free > 0 else ():
            task = asyncio.create_task(self._deliver(delivery), name=f"notification {delivery.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Ends what is being sent, after a moment; other replicas, or the next start, take it up."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE)
        await end(*tasks)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._attempt(delivery)
        except ArborgateError as error:
            log.warning("a notification waits: %s %s", error.message, error.detail)
        except Exception:
            log.exception("a notification waits: something unforeseen")

    async def _attempt(self, delivery: Delivery) -> None:
        sender = self._senders.get(delivery.channel)
        person = await self._find_person(delivery)
        if sender is None or (delivery.person and person is None):
            await self._outbox.done(delivery)  # the channel was taken out of the settings, or the person wants no more
            return
        await self._record(Event.NOTIFICATION_SENT, delivery, "intended")
        try:
            await sender.send(delivery.notice, person.mail if person else "")
        except Undelivered as error:
            await self._fail(delivery, sender, error)
            return
        await self._record(Event.NOTIFICATION_SENT, delivery, "ok")
        self._metrics.count_notification(sender.medium, "sent")
        await self._outbox.done(delivery)

    async def _fail(self, delivery: Delivery, sender: Sender, error: Undelivered) -> None:
        over = error.final or delivery.attempt >= self._attempts
        pause = self._pause(delivery.attempt, error.after)
        again_at = self._clock() + pause
        then = "given up" if over else f"tried again in {pause:.0f} s"
        reason = Reason.REFUSED if over else Reason.UNAVAILABLE
        await self._record(Event.NOTIFICATION_FAILED, delivery, reason, f"{error.why}; {then}")
        self._metrics.count_notification(sender.medium, "given_up" if over else "failed")
        if over:
            log.error("a notification of %s was given up: %s", delivery.channel, error.why)
            await self._outbox.bury(delivery)
        else:
            await self._outbox.put_back(delivery, again_at)

    async def _find_person(self, delivery: Delivery) -> Preferences | None:
        """Whom a message is for, if they still want it and may have it."""
        people = self._audience.people
        if not delivery.person or people is None:
            return None
        person, now = await people.read(delivery.person), self._clock()
        wanted = person is not None and person.reachable(now) and self._audience.may_see(person, None, now)
        return person if wanted else None

    async def _record(self, event: Event, delivery: Delivery, outcome: str, more: str = "") -> None:
        notice = delivery.notice
        what = f"{notice.occasion.replace('_', ' ')}, attempt {delivery.attempt} of {self._attempts}"
        await self._recorder.write(
            Entry(
                event=event,
                caller=delivery.person,
                resource=f"Channel::{delivery.channel}",
                outcome=outcome,
                detail=": ".join(filter(None, (what, more))),
                proposal=notice.proposal,
            )
        )
