"""The searchable record: every durable line is found in Redis, in order and once."""

import asyncio
import errno
import os
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import Invalid, Unavailable, Unrecorded
from arborgate.policies.loader import read_policies
from arborgate.policies.model import INSTALLATION, Action
from arborgate.server.audit import AuditLog
from arborgate.server.record_stream import RecordStream
from arborgate.server.settings import StateSettings
from arborgate.server.state import State, open_state
from arborgate.tools.record import Entry, Event, Record, RecordQuery
from tests.parts.redis import RedisServer
from tests.policies.writing import person
from tests.server.pasts import ask, write

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


async def test_facts_stay_in_the_file(tmp_path: Path, redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        engine = Engine(read_policies(None)[0])
        for name in ("vera", "mona"):
            await write(log, engine, [ask(person(name), Action.CALLER_READ, INSTALLATION)])
        found = await find(stream, 3)
    assert [record.seq for record in found] == [6, 4, 1]
    assert all(record.asker for record in found[:2])
    assert (await stream.search(RecordQuery(event="facts"))).records == []
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


async def test_a_chain_begun_anew_under_the_same_name_is_found_from_its_start(tmp_path: Path, redis_url: str) -> None:
    state, stream = open_stream(redis_url)
    for folder, count in (("first", 5), ("second", 2)):
        async with AuditLog.open(tmp_path / folder, "serve-1") as log, stream.following(log):
            for _ in range(count):
                await log.write(Entry(event=Event.CALL_ANSWERED, detail=folder))
    found = await find(stream, 9)
    assert [record.seq for record in found if record.detail == "second"] == [3, 2]
    await state.redis.aclose()


async def test_a_redis_that_lost_everything_gets_the_whole_record_again(
    tmp_path: Path, redis_server: RedisServer, redis_url: str
) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log, stream.following(log):
        await log.write(Entry(event=Event.CALL_ANSWERED))
        await find(stream, 2)
        redis_server.flush()
        await log.write(Entry(event=Event.CALL_FAILED))
        found = await find(stream, 3)
    assert [record.seq for record in found] == [3, 2, 1]
    await state.redis.aclose()


async def test_a_line_that_never_became_durable_is_never_found(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, stream = open_stream(redis_url)
    begun, refuse = threading.Event(), threading.Event()
    sync = os.fdatasync

    def refuse_late(_descriptor: int) -> None:
        begun.set()
        refuse.wait(10)
        raise OSError(errno.EIO, "input/output error")

    async with AuditLog.open(tmp_path, "serve-1") as log:
        monkeypatch.setattr(os, "fdatasync", refuse_late)
        torn = asyncio.create_task(log.write(Entry(event=Event.CALL_ANSWERED, detail="torn")))
        await asyncio.to_thread(begun.wait, 10)
        async with stream.following(log):
            pass
        refuse.set()
        with pytest.raises(Unrecorded):
            await torn
        monkeypatch.setattr(os, "fdatasync", sync)
        async with stream.following(log):
            await log.write(Entry(event=Event.CALL_ANSWERED, detail="after"))
            found = await find(stream, 2)
    assert [record.detail for record in found] == ["after", ""]
    await state.redis.aclose()


async def test_a_record_from_before_the_time_asked_for_is_not_found_because_it_came_late(
    tmp_path: Path, redis_url: str
) -> None:
    state, stream = open_stream(redis_url)
    async with AuditLog.open(tmp_path, "serve-1") as log:
        before = await log.write(Entry(event=Event.CALL_ANSWERED, detail="before"))
        since = datetime.fromisoformat(before.time).timestamp() + 0.001
        while time.time() <= since:
            await asyncio.sleep(0)
        await log.write(Entry(event=Event.CALL_ANSWERED, detail="behind"))
        async with stream.following(log):
            await find(stream, 3)
            found = await stream.search(RecordQuery(since=since))
    assert [record.detail for record in found.records] == ["behind"]
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
