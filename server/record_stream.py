"""The searchable copy of the record: every durable line also goes to one Redis stream, in order and exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from redis.exceptions import RedisError

from ..policies.errors import Invalid, Unavailable
from ..tools.record import Event, Record, RecordPage, RecordQuery, is_of
from .audit import AuditLog
from .background import end
from .chain import parse_record
from .log_files import find_sealed
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where shipping has come to: the last line shipped, and how many bytes are read of the file that begins with line
    `begins`."""

    last: int
    begins: int = 0
    offset: int = 0


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
                chain = _name_chain(log)
                await self._ship_from(log, chain, _Place(await self._shipped(chain)))

    async def _follow(self, log: AuditLog, fresh: asyncio.Event) -> None:
        chain = _name_chain(log)
        place: _Place | None = None
        while True:
            await fresh.wait()
            fresh.clear()
            try:
                place = await self._ship_from(log, chain, place or _Place(await self._shipped(chain)))
                await asyncio.sleep(_PAUSE_SECONDS)
            except RedisError as error:
                logger.warning("the searchable record waits for Redis: %s", type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
                place = None
                fresh.set()

    async def _shipped(self, chain: str) -> int:
        return int(await self._state.redis.hget(self._positions, chain) or 0)

    async def _ship_from(self, log: AuditLog, chain: str, place: _Place) -> _Place:
        """Ships what lies behind the place; returns the new one."""
        while True:
            lines, reading = await asyncio.to_thread(_read_batch, log.path, place, log.durable)
            if not lines:
                return reading
            arguments: list[str | int | bytes] = [chain, self._longest, place.last]
            for seq, line in lines:
                arguments += [seq, line]
            reached = int(await self._ship(keys=[self._stream, self._positions], args=arguments))
            place = reading if reached >= reading.last else _Place(reached)

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
        and (not query.decision or query.decision == record.decision)
        and (not query.resource or query.resource in record.resource)
        and (not query.proposal or query.proposal == record.proposal or query.proposal in record.resource)
    )


def _name_chain(log: AuditLog) -> str:
    """What the positions call this chain: its replica, and the hash of its first line, since a replica that lost its
    folder begins another under the same name."""
    return f"{log.replica}/{log.chain[:16]}"


def _read_batch(log: Path, place: _Place, durable: int) -> tuple[list[tuple[int, bytes]], _Place]:
    """The next lines up to `durable` as they are in the log's files, each with its number, and the place behind them."""
    ahead: list[tuple[int, Path]] = []
    for path in _look_back(log):
        begins = _read_first(path)
        if begins:
            ahead.append((begins, path))
        if 0 < begins <= place.last + 1:
            break
    for begins, path in reversed(ahead):
        offset = place.offset if begins == place.begins else 0
        lines, offset = _read_lines(path, begins, place.last, offset, durable)
        place = _Place(lines[-1][0] if lines else place.last, begins, offset)
        if lines:
            return lines, place
    return [], place


def _look_back(log: Path) -> Iterator[Path]:
    yield log
    yield from reversed(find_sealed(log))


def _read_first(path: Path) -> int:
    """The number of a file's first line; 0 when it has none, or is just being put away under another name."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        line = file.readline()
        return _read_seq(line) if line.endswith(b"\n") else 0
    return 0


def _read_lines(path: Path, begins: int, last: int, offset: int, durable: int) -> tuple[list[tuple[int, bytes]], int]:
    """Lines of the file that begins with line `begins`, from an offset on, and the offset behind them.

    Facts stay behind: decisions are made again from the files, where they are proven."""
    batch: list[tuple[int, bytes]] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if _read_seq(file.readline()) != begins:
            return [], 0  # another file has its name by now
        file.seek(offset)
        for line in file:
            # What is shipped is what was written, byte for byte; whoever searches reads it, and `verify` judges it.
            if not line.endswith(b"\n") or (seq := _read_seq(line)) > durable or len(batch) == _BATCH:
                break
            offset += len(line)
            if seq > last and _FACTS not in line:
                batch.append((seq, line[:-1]))
    return batch, offset


def _read_seq(line: bytes) -> int:
    return int(line[_SEQ : line.index(b",")])


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
