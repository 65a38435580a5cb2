"""The searchable record: every durable line is found in Redis, in order and once."""

import asyncio
from pathlib import Path

import pytest

from arborgate.policies.errors import Invalid, Unavailable
from arborgate.server.audit import AuditLog
from arborgate.server.record_stream import RecordStream
from arborgate.server.settings import StateSettings
from arborgate.server.state import State, open_state
from arborgate.tools.record import Entry, Event, Record, RecordQuery
from tests.parts.redis import RedisServer

pytestmark = pytest.mark.anyio


def open_stream(redis_url: str) -> tuple[State, RecordStream]:
    state = open_state(StateSettings(url=redis_url, timeout=0.5))
    return state, RecordStream(state, longest=10_000)


async def find(stream: RecordStream, count: int, query: RecordQuery | None = None) -> list[Record]:
    """The records once there are `count` of them: what became durable is searchable a moment later."""
    async with asyncio.timeout(10):
        while True:
            page = await stream.search(query or RecordQuery(limit=1_000))
            if len(page.records) >= count:
                return list(page.records)


async def test_what_is_on_record_is_found_newest_first(tmp_path: Path, redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        for number in range(5):
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="app_get", resource=f"App::x/{number}"))
        found = await find(stream, 6)
    assert [record.seq for record in found] == [6, 5, 4, 3, 2, 1]
    assert found[0].resource == "App::x/4"
    await state.redis.aclose()


async def test_a_restart_repeats_nothing_and_ships_what_was_missed(tmp_path: Path, redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        await log.write(Entry(event=Event.CALL_ANSWERED))
    async with AuditLog.open(tmp_path, "serve-1") as log:
        await log.write(Entry(event=Event.CALL_FAILED))
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        found = await find(stream, 5)
    assert [record.seq for record in found] == [5, 4, 3, 2, 1]
    await state.redis.aclose()


async def test_replicas_share_one_searchable_record(tmp_path: Path, redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    async with (
        AuditLog.open(tmp_path, "serve-1") as one,
        AuditLog.open(tmp_path, "serve-2") as two,
        stream.following(one),
        RecordStream(state, longest=10_000).following(two),
    ):
        await one.write(Entry(event=Event.CALL_ANSWERED))
        await two.write(Entry(event=Event.CALL_ANSWERED))
        found = await find(stream, 4)
    assert {record.replica for record in found} == {"serve-1", "serve-2"}
    await state.redis.aclose()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (RecordQuery(caller="Ada"), {"a"}),
        (RecordQuery(caller="i#ada"), {"a"}),
        (RecordQuery(agent="bot"), {"b"}),
        (RecordQuery(event="proposal:approved"), {"c"}),
        (RecordQuery(resource="ns/api"), {"a", "b"}),
        (RecordQuery(proposal="p-1"), {"c"}),
        (RecordQuery(tool="nothing"), set()),
        (RecordQuery(until=1.0), set()),
    ],
)
async def test_each_filter_finds_what_it_says(
    tmp_path: Path, redis_url: str, query: RecordQuery, expected: set[str]
) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        await log.write(
            Entry(event=Event.CALL_ANSWERED, detail="a", caller="i#ada", caller_name="Ada", resource="App::c/ns/api")
        )
        await log.write(Entry(event=Event.CALL_ANSWERED, detail="b", agent="bot", resource="App::c/ns/api"))
        await log.write(Entry(event=Event.PROPOSAL_APPROVED, detail="c", proposal="p-1"))
        await find(stream, 4)
        found = await stream.search(query)
    assert {record.detail for record in found.records} == expected
    await state.redis.aclose()


async def test_pages_go_back_in_time_without_gap_or_repetition(tmp_path: Path, redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        for _ in range(24):
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="t"))
        await find(stream, 25)
        seen: list[int] = []
        before = ""
        while True:
            page = await stream.search(RecordQuery(tool="t", limit=10, before=before))
            seen += [record.seq for record in page.records]
            before = page.next
            if not before:
                break
    assert seen == list(range(25, 1, -1))
    await state.redis.aclose()


async def test_a_position_that_is_none_is_refused(redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    with pytest.raises(Invalid):
        await stream.search(RecordQuery(before="+"))
    await state.redis.aclose()


async def test_the_record_goes_on_while_redis_is_away_and_is_searchable_afterwards(
    tmp_path: Path, redis_server: RedisServer, redis_url: str
) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        await log.write(Entry(event=Event.CALL_ANSWERED, detail="before"))
        await find(stream, 2)
        redis_server.stop()
        await log.write(Entry(event=Event.CALL_ANSWERED, detail="while away"))
        with pytest.raises(Unavailable):
            await stream.search(RecordQuery())
        redis_server.restart()
        found = await find(stream, 3)
    assert found[0].detail == "while away"
    await state.redis.aclose()
