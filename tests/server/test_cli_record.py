"""`arborgate record` on logs that are broken, growing, begun anew or hostile to a terminal."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typer.testing import CliRunner

from arborgate.server.cli_record import commands
from tests.server.test_audit import write_some


@contextmanager
def following(log: Path) -> Iterator["subprocess.Popen[str]"]:
    program = "from arborgate.server.cli_record import commands; commands()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "tail", str(log), "--follow"], stdout=subprocess.PIPE, text=True
    ) as tail:
        try:
            yield tail
        finally:
            tail.kill()


def test_a_broken_line_is_told_plainly_by_every_command(tmp_path: Path) -> None:
    path = asyncio.run(write_some(tmp_path, 3))
    path.write_bytes(path.read_bytes().replace(b"app-1", b"app-9"))
    for command in (["tail"], ["tail", "--follow"], ["search"]):
        result = CliRunner().invoke(commands, [*command, str(tmp_path)])
        assert result.exit_code == 1
        assert "serve-1.jsonl: line 3: the hash does not cover the line" in result.output
        assert "record verify" in result.output


def test_a_name_cannot_play_with_the_terminal_or_forge_a_line(tmp_path: Path) -> None:
    from arborgate.server.cli_record import describe
    from arborgate.tools.record import Event, Record

    record = Record(
        event=Event.CALL_ANSWERED,
        caller_name="Ada\x1b[2J\n2026-11-20 forged",
        agent="\u202ebot\r\x9b1m",
        seq=1,
        time="t",
        replica="r",
        prev="",
        hash="",
    )
    line = describe(record)
    assert line.isprintable()
    assert "Ada" in line


def test_following_goes_on_with_a_log_that_was_begun_anew(tmp_path: Path) -> None:
    path = asyncio.run(write_some(tmp_path, 6))
    with following(tmp_path) as tail:
        assert tail.stdout is not None
        for _ in range(7):
            assert tail.stdout.readline()
        asyncio.run(write_some(tmp_path / "new", 2))
        (tmp_path / "new" / "serve-1.jsonl").replace(path)
        shown = [tail.stdout.readline().split()[-1] for _ in range(3)]
    assert shown[1:] == ["App::c/ns/app-0", "App::c/ns/app-1"]


def test_search_and_tail_show_the_newest_of_several_logs(tmp_path: Path) -> None:
    for replica in ("a", "b"):
        asyncio.run(write_some(tmp_path, 4, replica))
    for command in (["tail", "--lines", "2"], ["search", "--tool", "app_get", "--limit", "2"]):
        result = CliRunner().invoke(commands, [*command, str(tmp_path)])
        assert [line.split()[-1] for line in result.output.splitlines()] == ["App::c/ns/app-2", "App::c/ns/app-3"]
    assert CliRunner().invoke(commands, ["tail", "--lines", "0", str(tmp_path)]).output == ""
