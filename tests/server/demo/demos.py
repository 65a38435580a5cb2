"""A demo as people run it: the command in a process of its own, and a person at its pages."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from tests.parts.process import Process, find_free_ports, wait_until

READY = "Ctrl-C ends it."
CLI = (sys.executable, "-m", "arborgate.server.cli", "demo")


@dataclass
class DemoProcess:
    """One run of `arborgate demo`. All that it may leave behind would be in `folder`."""

    process: Process
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.process.output.read_text()

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def children(self) -> dict[str, int]:
        """The process ids of its parts, by a word of their command line."""
        pid = self.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        words = {"redis": "redis", "serve": "serve.yaml", "applier": "applier.yaml"}
        lines = {int(one): Path(f"/proc/{one}/cmdline").read_bytes().decode() for one in found}
        return {name: one for one, line in lines.items() for name, word in words.items() if word in line}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the demo's other commands."""
        return run_command(*arguments, "--port", str(self.port), folder=self.folder)

    def call(self, role: str, tool: str, **arguments: object) -> Any:
        """A tool's structured content."""
        answer = self.run("call", role, tool, orjson.dumps(arguments).decode(), "--json")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return orjson.loads(answer.stdout)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        os.kill(self.process.pid, number)

    def wait_ended(self) -> None:
        wait_until(lambda: not self.process.running, "the demo ends", seconds=30)

    def wait_ready(self) -> None:
        self.process.wait_ready(lambda: READY in self.output, seconds=60)


@contextmanager
def starting_demo(folder: Path, *, path: str | None = None) -> Iterator[DemoProcess]:
    """A demo on a free port, not yet ready; ended with the block. `path` replaces the PATH."""
    (port,) = find_free_ports(1)
    environ = {**environment(folder), **({} if path is None else {"PATH": path})}
    process = Process("demo", (*CLI, "--port", str(port)), folder, env=environ)
    demo = DemoProcess(process, port, folder)
    try:
        yield demo
    finally:
        process.stop()


def environment(folder: Path) -> Mapping[str, str]:
    """Where it may leave things, and no colour in what it says."""
    for name in ("tmp", "run"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "TMPDIR": str(folder / "tmp"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def run_command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`arborgate demo …` to its end."""
    return subprocess.run(
        (*CLI, *arguments),
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def browsing(url: str, role: str) -> Iterator[httpx2.Client]:
    """A browser in which somebody of that role has logged in to the approval pages."""
    with httpx2.Client(base_url=url, trust_env=False, follow_redirects=True, timeout=20) as browser:
        chooser = browser.get("/login?start=1")
        answer = browser.post(str(chooser.url), data={"role": role})
        assert answer.status_code == 200, answer.text
        yield browser


def approve(browser: httpx2.Client, proposal: str) -> httpx2.Response:
    """Presses the button on the proposal's page."""
    page = browser.get(f"/proposals/{proposal}")
    form = page.text[page.text.index('class="decide"') :]
    fields = {name: _value(form, name) for name in ("csrf", "digest")}
    return browser.post(
        f"/proposals/{proposal}/approve",
        data={**fields, "comment": "looks right"},
        headers={"Origin": _origin(str(page.url))},
    )


def _value(form: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', form)
    assert found is not None, form
    return found[1]


def _origin(url: str) -> str:
    return "/".join(url.split("/")[:3])
