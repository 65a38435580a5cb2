"""A log of several files: one chain that goes on over them, whatever stops it in between."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, tzinfo
from itertools import pairwise
from pathlib import Path

import pytest
from joserfc.jwk import OKPKey
from typer.testing import CliRunner, Result

from arborgate.policies.engine import Engine
from arborgate.policies.errors import BadConfiguration, Unrecorded
from arborgate.policies.loader import read_policies
from arborgate.policies.model import INSTALLATION, Action
from arborgate.server import log_files
from arborgate.server.audit import AuditLog, Upkeep
from arborgate.server.chain import read_records
from arborgate.server.cli_record import commands
from arborgate.server.log_files import find_sealed, group_files, name_replica
from arborgate.server.proof import prove
from arborgate.server.record_stream import RecordStream
from arborgate.server.replay import Archive, find_past, read_past
from arborgate.server.settings import StateSettings
from arborgate.server.state import open_state
from arborgate.tools.record import Entry, Event, Record, RecordQuery
from tests.policies.writing import person
from tests.server.pasts import ask, decide_again, write
from tests.server.test_cli_record import following
from tests.server.test_signed_heads import KEY, KEYS, TEXTS

pytestmark = pytest.mark.anyio

SMALL = Upkeep(rotate_bytes=2_000)


async def write_files(directory: Path, count: int, upkeep: Upkeep = SMALL, replica: str = "serve-1") -> list[Path]:
    """Writes line after line; returns the log's files in order."""
    async with AuditLog.open(directory, replica, upkeep=upkeep) as log:
        for number in range(count):
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="app_get", resource=f"App::c/ns/app-{number}"))
    return files_of(directory, replica)


def files_of(directory: Path, replica: str = "serve-1") -> list[Path]:
    return list(group_files(list(directory.glob("*.jsonl")))[replica])


def read(paths: list[Path]) -> list[Record]:
    return [record for path in paths for record, _ in read_records(path)]


def verify(log: Path, *options: str) -> Result:
    return CliRunner().invoke(commands, ["verify", str(log), *options])


def assert_whole(directory: Path, keys: dict[str, OKPKey] | None = None) -> None:
    assert prove(files_of(directory), keys or {}, []).faults == []


async def test_a_file_that_is_long_enough_is_sealed_and_the_chain_goes_on_in_the_next(tmp_path: Path) -> None:
    paths = await write_files(tmp_path, 40)
    assert len(paths) > 3
    assert_whole(tmp_path)
    assert [record.seq for record in read(paths)] == list(range(1, len(read(paths)) + 1))
    for before, after in pairwise(paths):
        last, first = read([before])[-1], read([after])[0]
        assert last.event is Event.LOG_SEALED
        assert (first.event, first.prev, first.chain) == (Event.LOG_CONTINUED, last.hash, read(paths)[0].hash)
        assert before.stat().st_mode & 0o777 == 0o400
        assert name_replica(before) == "serve-1"
    assert all(path.stat().st_size < 3_000 for path in paths)


async def test_a_file_that_is_old_enough_is_sealed_and_an_empty_one_never_is(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1", upkeep=Upkeep(rotate_after=0.02)) as log:
        sealed = asyncio.Event()
        log.on_written(lambda: sealed.set() if log.durable == 2 else None)
        async with asyncio.timeout(10):
            await sealed.wait()
        written = asyncio.Event()
        log.on_written(written.set)
        await asyncio.wait([asyncio.ensure_future(written.wait())], timeout=0.1)  # five times as old
        assert log.durable == 2
        await log.write(Entry(event=Event.CALL_ANSWERED))
    assert_whole(tmp_path)


async def test_without_the_settings_there_is_one_file(tmp_path: Path) -> None:
    assert [path.name for path in await write_files(tmp_path, 40, Upkeep())] == ["serve-1.jsonl"]


async def test_names_follow_each_other_even_where_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        hours = iter(range(23, 0, -1))

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(2026, 11, 21, next(cls.hours), tzinfo=tz)

    monkeypatch.setattr(log_files, "datetime", Clock)
    await write_files(tmp_path, 30)
    stamps = [path.name.split(".")[1] for path in files_of(tmp_path)[:-1]]
    assert stamps[:3] == ["20261121T230000Z", "20261121T230001Z", "20261121T230002Z"]
    assert_whole(tmp_path)


async def test_a_log_with_a_name_that_begins_like_another_stays_its_own(tmp_path: Path) -> None:
    for replica in ("a", "a.b"):
        paths = await write_files(tmp_path, 30, replica=replica)
        assert {name_replica(path) for path in [*paths, *find_sealed(tmp_path / f"{replica}.jsonl")]} == {replica}
    assert verify(tmp_path).exit_code == 0


async def test_a_sealed_file_is_signed_and_so_is_the_head_beside_the_log(tmp_path: Path) -> None:
    paths = await write_files(tmp_path, 30, Upkeep(KEY, rotate_bytes=2_000))
    assert all(read([path])[-1].signature for path in paths)
    assert_whole(tmp_path, KEYS)
    (tmp_path / "record.pub").write_text(TEXTS[1])
    head = read(paths)[-2]
    told = verify(tmp_path, "--key", str(tmp_path / "record.pub")).output
    assert f"serve-1: whole, {len(paths)} files, {head.seq + 1} records" in told
    assert f"signed up to line {head.seq} at " in told


async def test_each_file_can_be_decided_again_alone(tmp_path: Path) -> None:
    """Facts, and what the settings told the policies, are noted in each."""
    engine = Engine(read_policies(None)[0])
    async with AuditLog.open(tmp_path, "serve-1", upkeep=Upkeep(rotate_bytes=4_000)) as log:
        await log.write(Entry(event=Event.POLICY_LOADED, policy_set=engine.digest, surroundings=engine.surroundings))
        question = ask(person("vera"), Action.CALLER_READ, INSTALLATION)
        for _ in range(30):
            await write(log, engine, [question])
    paths = files_of(tmp_path)
    assert len(paths) > 2
    for path in paths:
        for record, decision in decide_again(path, engine):
            assert decision.allowed == (record.decision == "allow")
        archive = Archive()
        settings = {past.settings for past in read_past(path, archive) if past.record.asker}
        assert [archive.surroundings(each) for each in settings] in ([], [engine.surroundings])
    assert sum(len(decide_again(path, engine)) for path in paths) == 30


async def test_a_file_that_is_put_away_while_logs_are_read_is_passed_over(tmp_path: Path) -> None:
    paths = [tmp_path / "gone.jsonl", *await write_files(tmp_path, 3)]
    past = find_past(paths, Archive(), lambda record: record.seq == 2, '"seq":2,')
    assert past is not None


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_missing_file_is_named(tmp_path: Path, gone: int) -> None:
    paths = await write_files(tmp_path, 40)
    lines = [record.seq for record in read([paths[gone]])]
    paths[gone].unlink()
    found = verify(tmp_path)
    assert found.exit_code == 1
    missing = f"lines {lines[0]} to {lines[-1]} are missing: the file before {paths[gone + 1].name} is not here"
    assert missing in found.output
    # Old files may be kept elsewhere; that is said, not guessed, and never so of one in the middle.
    assert verify(tmp_path, "--archived").exit_code == (0 if gone == 0 else 1)


async def test_a_file_may_be_looked_at_alone(tmp_path: Path) -> None:
    paths = await write_files(tmp_path, 40, Upkeep(KEY, rotate_bytes=2_000))
    for path in paths:
        assert verify(path).exit_code == 0, verify(path).output
    first, *_, last = read([paths[1]])
    assert f"lines {first.seq} to {last.seq}, head {last.hash}" in verify(paths[1]).output


async def test_a_changed_line_in_a_sealed_file_is_named(tmp_path: Path) -> None:
    _, middle, *_ = await write_files(tmp_path, 40)
    text = middle.read_bytes()
    middle.chmod(0o600)
    middle.write_bytes(text.replace(b"app_get", b"app_got", 1))
    found = verify(tmp_path)
    assert found.exit_code == 1
    assert f"{middle.name}: broken at line 2: the hash does not cover the line" in found.output


async def test_a_sealed_file_that_was_shortened_is_found(tmp_path: Path) -> None:
    _, middle, after, *_ = await write_files(tmp_path, 40)
    middle.chmod(0o600)
    middle.write_bytes(b"".join(middle.read_bytes().splitlines(keepends=True)[:-2]))
    found = verify(tmp_path)
    assert found.exit_code == 1
    assert f"are missing: the file before {after.name} is not here" in found.output


async def test_a_log_whose_newest_sealed_file_was_changed_is_not_continued(tmp_path: Path) -> None:
    *_, newest, current = await write_files(tmp_path, 40)
    current.unlink()
    newest.chmod(0o600)
    newest.write_bytes(b"".join(newest.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(BadConfiguration, match="does not seal the file"):
        await write_files(tmp_path, 1)


async def write_calls(log: AuditLog, count: int) -> None:
    for _ in range(count):
        await log.write(Entry(event=Event.CALL_ANSWERED, tool="t"))


STEPS: dict[str, Callable[[pytest.MonkeyPatch, Callable[..., None]], None]] = {
    "before it has its name": lambda patch, stop: patch.setattr(Path, "rename", stop),
    "before it is read-only": lambda patch, stop: patch.setattr(os, "fchmod", stop),
    "before its name is durable": lambda patch, stop: patch.setattr(log_files, "sync_folder", stop),
    "before the next one is there": lambda patch, stop: patch.setattr("arborgate.server.audit.open_file", stop),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_fails_is_taken_again_and_the_chain_stays_whole(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space left on device")

    async with AuditLog.open(tmp_path, "serve-1", upkeep=SMALL) as log:
        with monkeypatch.context() as patch:
            STEPS[step](patch, fail)
            with pytest.raises(Unrecorded):
                await write_calls(log, 40)
            with pytest.raises(Unrecorded):
                await write_calls(log, 1)
        await write_calls(log, 40)
    assert len(files_of(tmp_path)) > 3
    assert_whole(tmp_path)


@pytest.mark.parametrize("step", ["sealed", "named", "read-only", "begun", "torn"])
async def test_a_crash_at_any_step_of_sealing_leaves_a_log_that_goes_on(tmp_path: Path, step: str) -> None:
    """The states that the steps leave behind, one by one."""
    *_, newest, current = await write_files(tmp_path, 40)
    current.unlink()
    match step:
        case "sealed":
            newest.chmod(0o600)
            newest.rename(current)
        case "named":
            newest.chmod(0o600)
        case "begun":
            current.touch()
        case "torn":
            current.write_bytes(b'{"seq":')
    await write_files(tmp_path, 40)
    assert_whole(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in find_sealed(current)} == {0o400}


_WRITER = """
import asyncio, sys
from pathlib import Path
from arborgate.server.audit import AuditLog, Upkeep
from arborgate.tools.record import Entry, Event
async def main():
    async with AuditLog.open(Path(sys.argv[1]), "serve-1", upkeep=Upkeep(rotate_bytes=600)) as log:
        while True:
            record = await log.write(Entry(event=Event.CALL_ANSWERED, tool="app_get"))
            print(record.seq, flush=True)
asyncio.run(main())
"""


def test_a_process_that_is_killed_while_it_seals_loses_no_line_that_it_promised(tmp_path: Path) -> None:
    promised = 0
    for lines in (3, 10, 17, 25, 31):
        command = [sys.executable, "-c", _WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                promised = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            promised = max([promised, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        found = prove(files_of(tmp_path), {}, [])
        torn = [fault for fault in found.faults if "not finished" not in fault]
        assert torn == []
        assert found.last >= promised
    asyncio.run(write_files(tmp_path, 1))
    assert_whole(tmp_path)


async def test_the_searchable_record_follows_over_files(tmp_path: Path, redis_url: str) -> None:
    state = open_state(StateSettings(url=redis_url, timeout=0.5))
    stream = RecordStream(state, longest=10_000)
    async with AuditLog.open(tmp_path, "serve-1", upkeep=SMALL) as log, stream.following(log):
        for _ in range(40):
            await log.write(Entry(event=Event.CALL_ANSWERED))
    await write_files(tmp_path, 40)
    async with AuditLog.open(tmp_path, "serve-1", upkeep=SMALL) as log, stream.following(log):
        pass
    assert await shipped_by(stream) == list(range(1, read(files_of(tmp_path))[-1].seq + 1))
    # Nor is anything shipped again when old files have gone.
    for path in find_sealed(tmp_path / "serve-1.jsonl"):
        path.unlink()
    async with AuditLog.open(tmp_path, "serve-1", upkeep=SMALL) as log, stream.following(log):
        pass
    shipped = await shipped_by(stream)
    assert shipped == list(range(1, shipped[-1] + 1))
    await state.redis.aclose()


async def shipped_by(stream: RecordStream) -> list[int]:
    page = await stream.search(RecordQuery(limit=10_000))
    return sorted(record.seq for record in page.records)


def test_following_goes_on_over_files_without_gap_or_repetition(tmp_path: Path) -> None:
    asyncio.run(write_files(tmp_path, 3, replica="serve-1"))
    with following(tmp_path) as tail:
        assert tail.stdout is not None
        shown = [tail.stdout.readline() for _ in range(4)]
        asyncio.run(write_files(tmp_path, 40))
        expected = read(files_of(tmp_path))
        shown += [tail.stdout.readline() for _ in expected[4:]]
    assert [line.split()[0] for line in shown] == [record.time for record in expected]


async def test_two_processes_never_share_a_log_not_even_while_it_changes_files(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1", upkeep=SMALL) as log:
        for _ in range(30):
            await log.write(Entry(event=Event.CALL_ANSWERED))
        log.path.unlink()
        with pytest.raises(BadConfiguration, match="held by another process"):
            await write_files(tmp_path, 1)
