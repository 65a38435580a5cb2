"""Following: one reader of what happens to proposals for a whole process, and all in it who wait for news of one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from ..policies.errors import Busy, Refused, Unavailable
from .background import end, linger
from .proposal_store import ProposalStore

_ROUND = 0.3
"""Seconds between two tries to reach Redis."""

_MOST = 1_024
"""Who can wait at once in one process."""
_MOST_EACH = 24
"""How often one person can, together with all their agents. A page that nobody looks at does not wait."""

log = logging.getLogger(__name__)


class Watch:
    """One who waits for news of one proposal. However much happens meanwhile, all that is kept is that something did."""

    __slots__ = ("_news", "ended")

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.ended = False
        """Whether this process is about to stop: there will be no more news here."""

    async def wait(self, timeout: float) -> bool:
        """Whether anything happened since it was last said that something did; False after `timeout` seconds, and at once
        when there will be no more news."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return not self.ended

    def tell(self) -> None:
        """Something happened."""
        self._news.set()


class Follower:
    """Reads the events of all proposals as long as anybody waits for one of them. Whoever waits costs next to nothing, so
    they are counted here and not among the requests."""

    def __init__(self, store: ProposalStore) -> None:
        self._store = store
        self._watches: dict[str, set[Watch]] = {}
        self._waiting: Counter[str] = Counter()
        self._reading: asyncio.Task[None] | None = None
        self._readings: set[asyncio.Task[None]] = set()
        self._begun = asyncio.Event()
        self._ended = False

    @asynccontextmanager
    async def watch(self, proposal_id: str, by: str) -> AsyncIterator[Watch]:
        """A watch that hears of whatever happens from now on: look at the proposal after this, and nothing is missed. `by`
        is the key of the person who waits. Raises `Busy`."""
        self.require_room(by)
        self._waiting[by] += 1
        watch = Watch()
        mine = self._watches.setdefault(proposal_id, set())
        mine.add(watch)
        try:
            if self._ended:
                _end(watch)
            else:
                if self._reading is None:
                    self._begun.clear()
                    self._reading = asyncio.create_task(self._read(), name="events of proposals")
                    self._readings.add(self._reading)
                    self._reading.add_done_callback(self._readings.discard)
                await self._begun.wait()
            yield watch
        finally:
            self._waiting[by] -= 1
            if not self._waiting[by]:
                del self._waiting[by]
            mine.discard(watch)
            if not mine and self._watches.get(proposal_id) is mine:
                del self._watches[proposal_id]
            if not self._watches and self._reading is not None:
                linger(end(self._reading))
                self._reading = None

    def require_room(self, by: str) -> None:
        """Raises `Busy` when too many wait, of the person with this key or of all."""
        if self._waiting.total() >= _MOST or self._waiting[by] >= _MOST_EACH:
            raise Busy("You wait for too much at once.", hint="Wait for less, or look again later.", retry_after=5.0)

    def end(self) -> None:
        """Tells all who wait, and all who come, that this process is about to stop."""
        self._ended = True
        self._begun.set()
        for watch in self._all():
            _end(watch)

    async def close(self) -> None:
        """Ends, and waits until nothing is read any more: a connection would be left open behind whoever closes Redis."""
        self.end()
        await end(*self._readings)

    @property
    def watched(self) -> int:
        """How many wait."""
        return len(self._all())

    async def _read(self) -> None:
        position = ""
        while True:
            try:
                if not position:
                    position = await self._store.last_event()
                    self._tell(self._all())  # what came before this was heard by nobody
                self._begun.set()
                async for event in self._store.events(position):
                    if event is not None:
                        position = event.position
                        self._tell(self._watches.get(event.proposal, ()))
            except Unavailable:
                self._begun.set()  # who waits will see for themselves that nothing can be read
            except Refused as error:
                log.warning("%s", error.message)
                position = ""
            await asyncio.sleep(_ROUND)

    def _all(self) -> list[Watch]:
        return [watch for watches in self._watches.values() for watch in watches]

    def _tell(self, watches: Iterable[Watch]) -> None:
        for watch in watches:
            watch.tell()


def _end(watch: Watch) -> None:
    watch.ended = True
    watch.tell()
