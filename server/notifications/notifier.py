"""The notifier: follows what happens to proposals and what is due about them, and sees to it that people are told.

Every replica of `serve` runs one. Each event goes to one of them, by a consumer group; each thing is told once, by what
Redis remembers; each message is sent by one at a time, by the outbox. No call waits for any of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from ...policies.errors import ArborgateError, NotThere, Refused
from ...tools.proposal import Order, Proposal, ProposalState
from ..groups import join_group
from ..holds import Holds
from ..proposal_store import ProposalEvent, ProposalStore, parse_event
from ..state import State, reaching_state
from .audience import Audience
from .delivering import Delivering
from .notice import NoticeWriter
from .occasions import Occasion, find_occasion
from .outbox import PEOPLE, Delivery, Outbox
from .settings import NotifySettings
from .waiting import Due, list_due

GROUP = "notifiers"

_BLOCK_MS = 300
"""How long one blocking read waits: well under any socket timeout."""
_TAKEN = 32
_AGAIN = 1.0
_UNDER_WAY = frozenset({ProposalState.APPLYING, ProposalState.FAILED})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: `sweep` between two looks at what waits (of all replicas together), `abandoned` after which an event that
    its replica did not finish is another's."""

    sweep: float = 10.0
    abandoned: float = 10.0
    clock: Callable[[], float] = time.time


class Notifier:
    """Runs until it is cancelled; a Redis or a log that is away makes it wait."""

    def __init__(
        self,
        state: State,
        settings: NotifySettings,
        store: ProposalStore,
        audience: Audience,
        writer: NoticeWriter,
        outbox: Outbox,
        delivering: Delivering,
        pace: Pace | None = None,
    ) -> None:
        self._state = state
        self._settings = settings
        self._store = store
        self._audience = audience
        self._writer = writer
        self._outbox = outbox
        self._delivering = delivering
        self._pace = pace or Pace()
        self._holds = Holds(state)
        self._consumer = secrets.token_hex(8)
        self._under_way = state.key("notify", "under_way")

    async def run(self) -> None:
        joined = False
        try:
            while True:
                try:
                    if not joined:
                        await join_group(self._state, self._store.happened, GROUP, start="$")
                        joined = True
                    await self._go_round()
                except ArborgateError as error:
                    log.warning("notifications wait: %s %s", error.message, error.detail)
                    joined = False
                    await asyncio.sleep(_AGAIN)
                except Exception:
                    log.exception("notifications wait: something unforeseen")
                    await asyncio.sleep(_AGAIN)
        finally:
            await self._delivering.end()

    async def _go_round(self) -> None:
        for event, position in await self._take():
            if event is not None:
                await self._tell_event(event)
            with reaching_state():
                await self._state.redis.xack(self._store.happened, GROUP, position)
        if await self._is_turn():
            await self._sweep()
        await self._delivering.start_due(self._pace.clock())

    async def _tell_event(self, event: ProposalEvent) -> None:
        """Tells of a move, if it is one that people want to know of and have not been told of."""
        await self._follow(event)
        try:
            proposal = (await self._store.read(event.proposal)).proposal
        except (NotThere, Refused):
            return
        occasion = find_occasion(event.state, proposal)
        if occasion is None:
            return
        await self._tell(proposal, Due(occasion), at=event.at)
        if proposal.stuck:
            await self._tell(proposal, Due(Occasion.STUCK), at=event.at)

    async def _follow(self, event: ProposalEvent) -> None:
        """Keeps in mind what is under way, and since when nothing has moved there."""
        with reaching_state():
            if event.state in _UNDER_WAY:
                await self._state.redis.zadd(self._under_way, {event.proposal: event.at}, gt=True)
            else:
                await self._state.redis.zrem(self._under_way, event.proposal)

    async def _sweep(self) -> None:
        now = self._pace.clock()
        for proposal in await self._store.waiting():
            for due in list_due(self._settings, proposal, now):
                await self._tell(proposal, due, at=now)
        with reaching_state():
            quiet = await self._state.redis.zrangebyscore(self._under_way, "-inf", now - self._settings.stuck_after)
        for proposal_id in cast("list[str]", quiet):
            await self._look_after(proposal_id, now)

    async def _look_after(self, proposal_id: str, now: float) -> None:
        """One in which nothing has moved for long."""
        hold = await self._holds.read(proposal_id)
        if hold is not None and hold.order is Order.PAUSE:
            with reaching_state():
                await self._state.redis.zadd(self._under_way, {proposal_id: now})
            return
        try:
            proposal = (await self._store.read(proposal_id)).proposal
            if proposal.state in _UNDER_WAY:
                await self._tell(proposal, Due(Occasion.STUCK), at=now)
        except (NotThere, Refused):
            log.warning("a proposal that was under way can't be read any more")
        with reaching_state():
            await self._state.redis.zrem(self._under_way, proposal_id)

    async def _tell(self, proposal: Proposal, due: Due, *, at: float) -> None:
        """Puts the messages into the outbox, unless this was told before."""
        if await self._outbox.told(proposal.id, due.name):
            return
        usual = self._audience.find_usual(proposal)
        deliveries = []
        for channel in self._audience.find_channels(proposal, due):
            asked = due.groups or channel.groups
            notice = self._writer.write(proposal, due.occasion, step=due.step, at=at, usual=usual, asked=asked)
            deliveries.append(Delivery(notice=notice, channel=channel.name))
        for person in await self._audience.find_people(proposal, due, at):
            notice = self._writer.write(proposal, due.occasion, step=due.step, at=at, usual=usual, asked=due.groups)
            deliveries.append(Delivery(notice=notice, channel=PEOPLE, person=person.key))
        await self._outbox.put(proposal.id, due.name, deliveries, self._pace.clock())

    async def _take(self) -> Sequence[tuple[ProposalEvent | None, str]]:
        """Events that nobody has taken, and those that were left unfinished, each with its position."""
        idle, stream, redis = int(self._pace.abandoned * 1_000), self._store.happened, self._state.redis
        with reaching_state():
            claimed = await redis.xautoclaim(stream, GROUP, self._consumer, idle, "0-0", count=_TAKEN)
            fresh = await redis.xreadgroup(GROUP, self._consumer, {stream: ">"}, count=_TAKEN, block=_BLOCK_MS)
        entries = list(cast("list[tuple[str, Mapping[str, str] | None]]", claimed[1]))
        for _, more in cast("list[tuple[str, list[tuple[str, Mapping[str, str]]]]]", fresh or []):
            entries.extend(more)
        return [(_parse_or_skip(position, fields), position) for position, fields in entries]

    async def _is_turn(self) -> bool:
        """Whether it is this replica's turn to look at what waits."""
        milliseconds = int(self._pace.sweep * 1_000)
        with reaching_state():
            turn = self._state.key("notify", "turn")
            return bool(await self._state.redis.set(turn, self._consumer, nx=True, px=milliseconds))


def _parse_or_skip(position: str, fields: Mapping[str, str] | None) -> ProposalEvent | None:
    """One that can't be read must not keep the others waiting; one that was trimmed meanwhile is no more than its place."""
    try:
        return parse_event(position, fields) if fields else None
    except Refused as error:
        log.warning("nobody is told of %s: %s", position, error.message)
        return None
