"""A program that a test session started: its output kept in a file, stopped by its own process id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02


class PartFailed(Exception):
    """A real part is missing, ended early or did not become ready; says how its output ended."""


def find_free_ports(count: int) -> tuple[int, ...]:
    """Distinct loopback TCP ports that were free a moment ago."""
    with ExitStack() as held:
        ports: list[int] = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return tuple(ports)


class Process:
    """One running program. Its session is its own, so that Ctrl-C in the terminal reaches only the tests."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.output = folder / f"{name}.log"
        with self.output.open("ab") as output:
            self._child = subprocess.Popen(
                [str(arg) for arg in argv],
                cwd=folder,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait_ready(self, is_ready: Callable[[], bool], *, seconds: float = READY_SECONDS) -> None:
        """Waits until `is_ready` holds; a program that does not get there is killed and raises PartFailed."""
        try:
            wait_until(lambda: not self.running or is_ready(), f"{self.name} becomes ready", seconds=seconds)
            if not self.running:
                raise PartFailed(f"{self.name} ended with code {self._child.returncode}")
        except PartFailed as failed:
            self.kill()
            raise PartFailed(f"{failed}; the end of its output:\n{self._read_tail()}") from None

    def pause(self) -> None:
        """Freezes the program: its connections stay open and nothing answers."""
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends the program in order, or kills it when that takes too long; nothing when it has ended."""
        if not self.running:
            return
        self._child.terminate()
        self._child.send_signal(signal.SIGCONT)
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the program at once, as a crash would."""
        self._child.kill()
        self._child.wait()

    def _read_tail(self) -> str:
        return self.output.read_text(errors="replace")[-3000:]


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = READY_SECONDS) -> None:
    """Polls until `condition` holds; raises PartFailed naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PartFailed(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)
