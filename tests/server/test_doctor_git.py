"""`arborgate doctor` and Git: `serve` must not be able to push, and the applier must, by what the server itself says."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from arborgate.server.doctor_findings import Finding, Process
from arborgate.server.doctor_git import examine_git
from arborgate.server.settings import Settings
from tests.parts.git import READER, WRITER, GitServer
from tests.tools.git.repository import NAME, keep_password


def examine(
    git_server: GitServer, folder: Path, process: Process, who: tuple[str, str], *, url: str = f"/{NAME}.git"
) -> list[Finding]:
    """What is said of the repository as one process sees it that logs in as `who`."""
    login: dict[str, Any] = {"name": NAME, "username": who[0], "password_file": keep_password(folder, who)}
    place = {"name": NAME, "url": f"{git_server.url}{url}"}
    serve = process is Process.SERVE
    settings = Settings.model_validate(
        {
            "git": {"repositories": [place | login if serve else place]},
            "applier": {} if serve else {"git": {"repositories": [login]}},
        }
    )

    async def collect() -> list[Finding]:
        return [finding async for finding in examine_git(settings, process)]

    return anyio.run(collect)


def test_each_process_may_do_what_it_needs_and_no_more(git_server: GitServer, tmp_path: Path) -> None:
    (reads,) = examine(git_server, tmp_path, Process.SERVE, READER)
    assert (reads.mark, reads.told) == ("ok", "can be read, and not pushed to; its default branch is main")
    (writes,) = examine(git_server, tmp_path, Process.APPLIER, WRITER)
    assert (writes.mark, writes.told) == ("ok", "can be read, and pushed to; its default branch is main")
    assert git_server.log(NAME, "%s") == ["Begin"]


def test_a_serve_that_could_push_is_bad(git_server: GitServer, tmp_path: Path) -> None:
    (finding,) = examine(git_server, tmp_path, Process.SERVE, WRITER)
    assert (finding.what, finding.mark) == ("git shop", "bad")
    assert "what steals serve has that too" in finding.told
    assert git_server.log(NAME, "%s") == ["Begin"]


def test_an_applier_that_can_not_push_is_bad(git_server: GitServer, tmp_path: Path) -> None:
    (finding,) = examine(git_server, tmp_path, Process.APPLIER, READER)
    assert finding.mark == "bad"
    assert "applier.git.repositories" in finding.way_out


@pytest.mark.parametrize("url", ["/other.git", f"/{NAME}.git"])
def test_what_can_not_be_read_is_bad_and_no_password_is_told(git_server: GitServer, tmp_path: Path, url: str) -> None:
    who = (READER[0], "another-one-in-tests" if NAME in url else READER[1])
    (finding,) = examine(git_server, tmp_path, Process.SERVE, who, url=url)
    assert finding.mark == "bad"
    assert finding.told.startswith("can't be read: ")
    assert who[1] not in f"{finding.told} {finding.way_out}"


def test_of_a_whole_group_none_can_be_asked(git_server: GitServer, tmp_path: Path) -> None:
    (finding,) = examine(git_server, tmp_path, Process.SERVE, READER, url="/")
    assert finding.mark == "warn"
    assert "it must fail" in finding.way_out
