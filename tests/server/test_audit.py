"""The audit log: a chain that is durable before anything leaves, and that proves itself."""

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from arborgate.policies.errors import BadConfiguration, Unrecorded
from arborgate.server.audit import AuditLog
from arborgate.server.chain import GENESIS, open_line, read_records, seal_line, verify
from arborgate.server.cli_record import commands
from arborgate.tools.record import Entry, Event

pytestmark = pytest.mark.anyio


async def write_some(directory: Path, count: int, replica: str = "serve-1") -> Path:
    async with AuditLog.open(directory, replica) as log:
        for number in range(count):
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="app_get", resource=f"App::c/ns/app-{number}"))
        return log.path


async def test_a_written_record_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1") as log:
        record = await log.write(Entry(event=Event.CALL_ANSWERED, caller="issuer#ada", tool="whoami", bytes=12))
        assert open_line(log.path.read_bytes().splitlines()[-1]) == record


async def test_each_line_holds_the_hash_of_the_line_before(tmp_path: Path) -> None:
    path = await write_some(tmp_path, 3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4]
    assert [line["prev"] for line in lines] == [GENESIS, *(line["hash"] for line in lines[:-1])]


async def test_lines_written_at_once_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    sync = os.fdatasync

    def count(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)
    async with AuditLog.open(tmp_path, "serve-1") as log:
        await asyncio.gather(*(log.write(Entry(event=Event.CALL_ANSWERED)) for _ in range(200)))
        assert syncs < 20
    assert verify(log.path).lines == 201


async def test_a_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    await write_some(tmp_path, 2)
    path = await write_some(tmp_path, 2)
    found = verify(path)
    assert found.whole
    assert found.lines == 6


async def test_an_unfinished_last_line_is_cut_and_the_cut_is_on_record(tmp_path: Path) -> None:
    path = await write_some(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b'{"seq":4,"time":"2026')
    await write_some(tmp_path, 0)
    assert verify(path).whole
    assert [record.detail for record, _ in read_records(path)][-1] == "cut 21 bytes of a line that was never finished"


async def test_a_log_whose_last_line_was_changed_is_not_continued(tmp_path: Path) -> None:
    path = await write_some(tmp_path, 1)
    path.write_bytes(path.read_bytes().replace(b"app-0", b"app-9"))
    with pytest.raises(BadConfiguration, match="does not verify"):
        await write_some(tmp_path, 1)


async def test_two_processes_never_share_a_chain(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1"):
        with pytest.raises(BadConfiguration, match="held by another process"):
            await write_some(tmp_path, 1)


async def test_a_file_system_that_refuses_makes_writes_fail_and_leaves_the_chain_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fdatasync

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    async with AuditLog.open(tmp_path, "serve-1") as log:
        await log.write(Entry(event=Event.CALL_ANSWERED, tool="before"))
        monkeypatch.setattr(os, "fdatasync", refuse)
        with pytest.raises(Unrecorded):
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="during"))
        monkeypatch.setattr(os, "fdatasync", sync)
        await log.write(Entry(event=Event.CALL_ANSWERED, tool="after"))
    assert verify(log.path).whole
    assert [record.tool for record, _ in read_records(log.path)] == ["", "before", "after"]


async def test_a_torn_batch_that_cannot_be_taken_back_at_once_is_taken_back_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(FileIO):
        broken = False

        def truncate(self, size: int | None = None, /) -> int:
            if self.broken:
                raise OSError(errno.EIO, "input/output error")
            return super().truncate(size)

    sync = os.fdatasync

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    async with AuditLog.open(tmp_path, "serve-1") as log:
        with Stubborn(os.dup(log._file.fileno()), "r+") as file:
            whole, log._file = log._file, file
            file.broken = True
            monkeypatch.setattr(os, "fdatasync", refuse)
            with pytest.raises(Unrecorded):
                await log.write(Entry(event=Event.CALL_ANSWERED, tool="torn"))
            monkeypatch.setattr(os, "fdatasync", sync)
            with pytest.raises(Unrecorded):
                await log.write(Entry(event=Event.CALL_ANSWERED, tool="still torn"))
            file.broken = False
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="after"))
            log._file = whole
    assert verify(log.path).whole
    assert [record.tool for record, _ in read_records(log.path)] == ["", "after"]


async def test_the_name_of_a_new_log_is_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await write_some(tmp_path, 0)
    assert synced == [True]


def test_a_full_disk_makes_writes_fail_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    """A real limit of the operating system (RLIMIT_FSIZE) stands for the full disk: a write comes back short."""
    program = f"""
import asyncio, resource, signal, sys
from pathlib import Path
from arborgate.server.audit import AuditLog
from arborgate.policies.errors import Unrecorded
from arborgate.tools.record import Entry, Event
async def main():
    async with AuditLog.open(Path({str(tmp_path)!r}), "serve-1") as log:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        for number in range(100):
            try:
                await log.write(Entry(event=Event.CALL_ANSWERED, tool=f"tool-{{number}}"))
            except Unrecorded:
                print("refused", number)
                return
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    refused = int(done.stdout.removeprefix("refused "))
    found = verify(tmp_path / "serve-1.jsonl")
    assert found.whole
    assert found.lines == refused + 1


async def test_free_text_is_cleaned_before_it_is_kept(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1", clean=lambda text: text.replace("hunter2", "[redacted]")) as log:
        await log.write(Entry(event=Event.CALL_FAILED, detail="the password hunter2", resource="App::hunter2"))
    assert b"hunter2" not in log.path.read_bytes()
    assert verify(log.path).whole


async def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1") as log:
        pass
    with pytest.raises(Unrecorded):
        await log.write(Entry(event=Event.CALL_ANSWERED))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_chain_with_one_byte_changed_does_not_verify(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines, prev = [], GENESIS
    for number in range(1, 6):
        line, prev = seal_line(
            Entry(event=Event.CALL_ANSWERED, tool=f"tool-{number}"), seq=number, time="t", replica="r", prev=prev
        )
        lines.append(line)
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    path = tmp_path_factory.mktemp("chain") / "r.jsonl"
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    found = verify(path)
    # The line that was touched is named; a byte that became a line break names that line or the one it split off.
    assert found.bad_line in (whole[:at].count(b"\n") + 1, whole[:at].count(b"\n") + 2)


@pytest.mark.parametrize("drop", [0, 2, 4])
def test_a_missing_line_is_named(tmp_path: Path, drop: int) -> None:
    path = asyncio.run(write_some(tmp_path, 5))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:drop] + lines[drop + 1 :]))
    assert verify(path).bad_line == drop + 1


def test_the_command_names_the_first_bad_line_and_exits_1(tmp_path: Path) -> None:
    path = asyncio.run(write_some(tmp_path, 5))
    run = CliRunner()
    whole = run.invoke(commands, ["verify", str(tmp_path)])
    assert (whole.exit_code, "whole, 6 records" in whole.output) == (0, True)
    path.write_bytes(path.read_bytes().replace(b"app-2", b"app-7"))
    broken = run.invoke(commands, ["verify", str(tmp_path)])
    assert broken.exit_code == 1
    assert "serve-1.jsonl: broken at line 4: the hash does not cover the line" in broken.output


def test_tail_and_search_read_the_files_alone(tmp_path: Path) -> None:
    asyncio.run(write_some(tmp_path, 5))
    run = CliRunner()
    tail = run.invoke(commands, ["tail", str(tmp_path), "--lines", "2"])
    assert [line.split()[-1] for line in tail.output.splitlines()] == ["App::c/ns/app-3", "App::c/ns/app-4"]
    found = run.invoke(commands, ["search", str(tmp_path), "--resource", "app-1", "--json"])
    assert json.loads(found.output)["resource"] == "App::c/ns/app-1"


def test_a_folder_without_a_log_is_said_plainly(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["verify", str(tmp_path)])
    assert result.exit_code == 2
    assert "no log is here" in result.output


async def test_every_record_names_the_policies_in_force(tmp_path: Path) -> None:
    in_force = "one"
    async with AuditLog.open(tmp_path, "serve-1", policy_set=lambda: in_force) as log:
        by_them = await log.write(Entry(event=Event.CALL_ANSWERED, policy_set="its own"))
        in_force = "two"
        other = await log.write(Entry(event=Event.PROPOSAL_PROPOSED))

    opened, *_ = [record for record, _ in read_records(log.path)]
    assert [opened.policy_set, by_them.policy_set, other.policy_set] == ["one", "its own", "two"]
