"""The command line as a process: how it starts, how it stops, and what it says when it can't."""

import gc
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from arborgate.server.cli import _importing

NOWHERE = {"clusters": [], "state": {"url": "redis://127.0.0.1:1/0", "timeout": 0.1}}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def start(tmp_path: Path, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
    config = tmp_path / "arborgate.yaml"
    config.write_text(json.dumps({**NOWHERE, "record": {"dir": str(tmp_path / "record")}, **settings}))
    command = [sys.executable, "-m", "arborgate.server.cli", "serve", "--config", str(config), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_mistake_that_shows_late_in_the_start_is_told_in_lines_not_in_a_trace(tmp_path: Path) -> None:
    pages = {"issuer": "https://issuer.test"}
    with start(
        tmp_path, http={"port": 0}, identity={"pages": pages}, proposals={"signing_key_file": str(tmp_path / "none")}
    ) as serve:
        _, told = serve.communicate(timeout=60)
    assert serve.returncode == 2
    lines = told.decode().splitlines()
    assert "Traceback" not in told.decode()
    assert lines[-1].startswith("arborgate: ")


def test_a_mistake_is_told_without_the_secret_that_it_is_about(tmp_path: Path) -> None:
    token = "ghp_" + "Zq3" * 12
    with start(tmp_path, http={token: 1}) as serve:
        _, told = serve.communicate(timeout=60)
    assert serve.returncode == 2
    assert "unknown setting" in told.decode()
    assert token not in told.decode()


@pytest.mark.parametrize("ending", ["end of input", "signal"])
def test_a_local_session_ends_with_its_input_or_by_a_signal_and_writes_only_messages(
    tmp_path: Path, ending: str
) -> None:
    identity = {"stdio": {"me": {"subject": "ada", "groups": ["arborgate-viewers"]}}}
    with start(tmp_path, "--stdio", "--as", "me", identity=identity) as serve:
        assert serve.stdin is not None
        assert serve.stdout is not None
        serve.stdin.write(json.dumps(PING).encode() + b"\n")
        serve.stdin.flush()
        assert select.select([serve.stdout], [], [], 30)[0]
        answer = os.read(serve.stdout.fileno(), 65_536)
        try:
            if ending == "signal":
                serve.send_signal(signal.SIGTERM)
                serve.wait(10)
            told, _ = serve.communicate(timeout=30)
        finally:
            serve.kill()
    assert json.loads(answer)["id"] == 1
    assert (serve.returncode, told) == (0, b"")


def test_the_collector_works_again_once_all_is_imported() -> None:
    with suppress(ImportError), _importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
