"""The searchable copy of the record: every durable line also goes to one Redis stream, in order and exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from ..policies.errors import Invalid, Unavailable
from ..tools.record import Event, Record, RecordPage, RecordQuery, is_of
from .audit import AuditLog
from .background import end
from .chain import open_line, parse_record
from .state import State

logger = logging.getLogger(__name__)

_BATCH: Final = 200
_CHUNK: Final = 500
_MOST_READ: Final = 50_000
_RETRY_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.1
"""Between two shipments: a line that follows a quiet moment goes at once, a stream of lines goes in batches."""

_BESIDE: Final = frozenset({Event.FACTS_NOTED, Event.LOG_SIGNED})
_FACTS: Final = b'"event":"%b"' % Event.FACTS_NOTED.encode()
_SEQ: Final = len(b'{"seq":')
_SKEW_SECONDS: Final = 60.0
"""How far the clocks of a replica and of Redis may be apart."""

# KEYS: stream, positions. ARGV: chain, longest stream, the position these lines follow, then seq and line in turn. A
# line that is there already (its answer was lost on the way back) is passed over, so shipping again after a fault
# repeats nothing. A Redis that has lost what it had takes nothing and says how far it got.
_SHIP = """
local last = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
if last < tonumber(ARGV[3]) then
  return last
end
for i = 4, #ARGV, 2 do
  local seq = tonumber(ARGV[i])
  if seq > last then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'record', ARGV[i + 1])
    last = seq
  end
end
redis.call('HSET', KEYS[2], ARGV[1], last)
return last
"""


class RecordStream:
    """Follows this replica's chain into the stream, and searches the stream (the records of all replicas)."""

    def __init__(self, state: State, *, longest: int) -> None:
        self._state = state
        self._stream = state.key("record", "stream")
        self._positions = state.key("record", "positions")
        self._longest = longest
        self._ship = state.redis.register_script(_SHIP)

    @asynccontextmanager
    async def following(self, log: AuditLog) -> AsyncIterator[None]:
        """Ships the log's lines for as long as the block runs, from where the stream left off."""
        fresh = asyncio.Event()
        fresh.set()
        log.on_written(fresh.set)
        task = asyncio.create_task(self._follow(log, fresh))
        try:
            yield
        finally:
            await end(task)
            with contextlib.suppress(RedisError):
                # What became durable last is searchable too, unless Redis is away: then the next start ships it.
                chain = await asyncio.to_thread(_name_chain, log)
                await self._ship_from(log, chain, await self._shipped(chain), 0)

    async def _follow(self, log: AuditLog, fresh: asyncio.Event) -> None:
        chain = await asyncio.to_thread(_name_chain, log)
        offset, last = 0, -1
        while True:
            await fresh.wait()
            fresh.clear()
            try:
                if last < 0:
                    last = await self._shipped(chain)
                last, offset = await self._ship_from(log, chain, last, offset)
                await asyncio.sleep(_PAUSE_SECONDS)
            except RedisError as error:
                logger.warning("the searchable record waits for Redis: %s", type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
                last, offset = -1, 0
                fresh.set()

    async def _shipped(self, chain: str) -> int:
        return int(await self._state.redis.hget(self._positions, chain) or 0)

    async def _ship_from(self, log: AuditLog, chain: str, last: int, offset: int) -> tuple[int, int]:
        """Ships what lies behind `last`; returns the new position and the byte offset to read on from."""
        while True:
            lines, offset = await asyncio.to_thread(_read_batch, log.path, last, offset, log.durable)
            if not lines:
                return last, offset
            arguments: list[str | int | bytes] = [chain, self._longest, last]
            for seq, line in lines:
                arguments += [seq, line]
                last = seq
            reached = int(await self._ship(keys=[self._stream, self._positions], args=arguments))
            if reached < last:
                last, offset = reached, 0

    async def search(self, query: RecordQuery) -> RecordPage:
        """Newest first; raises `Unavailable` when Redis does not answer, `Invalid` for a position that is none."""
        before = _position(query.before) if query.before else _time_bound(query.until, "+")
        # A record is shipped after its time, often much later: its place in the stream only narrows the search.
        oldest, since = _time_bound(query.since - _SKEW_SECONDS, "-"), _time_text(query.since)
        found: list[Record] = []
        read = 0
        try:
            while read < _MOST_READ:
                entries: list[Any] = await self._state.redis.xrevrange(self._stream, before, oldest, count=_CHUNK) or []
                for position, fields in entries:
                    read += 1
                    record = parse_record(orjson.loads(fields["record"]))
                    if record.time >= since and matches(record, query):
                        found.append(record)
                        if len(found) == query.limit:
                            return RecordPage(_newest_first(found), str(position))
                if len(entries) < _CHUNK:
                    return RecordPage(_newest_first(found), "")
                before = f"({entries[-1][0]}"
        except RedisError as error:
            raise Unavailable(
                "The searchable record is away (its Redis does not answer).",
                hint="The record itself is being kept; try the search again later.",
                detail=f"{type(error).__name__}: {error}",
            ) from error
        return RecordPage(_newest_first(found), before.removeprefix("("))


def _newest_first(records: list[Record]) -> list[Record]:
    """The replicas' lines reach the stream in bursts, each in its order: a page puts them in the order of their times."""
    return sorted(records, key=lambda record: record.time, reverse=True)


def matches(record: Record, query: RecordQuery) -> bool:
    """Whether a record is what the query asks for; `caller` is the person's key or name, `resource` a part of one. What
    other records rest on, and what vouches for them, is found where it is asked for alone."""
    return (
        (record.event not in _BESIDE or (query.event != "" and is_of(record.event, query.event)))
        and (not query.caller or query.caller in (record.caller, record.caller_name))
        and (not query.agent or query.agent == record.agent or query.agent in record.actors)
        and is_of(record.event, query.event)
        and (not query.tool or query.tool == record.tool)
        and (not query.resource or query.resource in record.resource)
        and (not query.proposal or query.proposal == record.proposal or query.proposal in record.resource)
    )


def _name_chain(log: AuditLog) -> str:
    """What the positions call this chain: its replica, and the hash of its first line, since a replica that lost its
    folder begins another under the same name."""
    with log.path.open("rb") as file:
        return f"{log.replica}/{open_line(file.readline()).hash[:16]}"


def _read_batch(path: Path, last: int, offset: int, durable: int) -> tuple[list[tuple[int, bytes]], int]:
    """The next durable lines behind `last` as they are in the file, each with its number, and the offset behind them.

    Facts stay behind: decisions are made again from the files, where they are proven."""
    batch: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if offset + len(line) > durable or len(batch) == _BATCH:
                break
            offset += len(line)
            # What is shipped is what was written, byte for byte; whoever searches reads it, and `verify` judges it.
            seq = int(line[_SEQ : line.index(b",")])
            if seq > last and _FACTS not in line:
                batch.append((seq, line[:-1]))
    return batch, offset


def _position(before: str) -> str:
    milliseconds, _, number = before.partition("-")
    if not (milliseconds.isdigit() and number.isdigit()):
        raise Invalid("is not a position in the record", field="cursor", hint="Leave it out to begin at the newest.")
    return f"({before}"


def _time_bound(seconds: float, unbounded: str) -> str:
    return str(int(seconds * 1_000)) if seconds > 0 else unbounded


def _time_text(seconds: float) -> str:
    """A moment as records write it, so that comparing texts compares times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
