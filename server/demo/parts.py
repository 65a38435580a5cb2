"""The demo's child processes: each started in a session of its own, watched, and ended by its own process id."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...policies.errors import ArborgateError

STOP_SECONDS = 5.0
_TAIL = 3_000


class PartEnded(ArborgateError):
    """A part of the demo ended by itself; `hint` is how its output ended."""


@dataclass(frozen=True, slots=True)
class Part:
    """One running child process, its output in a file."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def watch(self) -> None:
        """Returns never; raises `PartEnded` when the process does."""
        code = await self.process.wait()
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip()
        raise PartEnded(f"{self.name} ended by itself (exit code {code}), so the demo ends.", hint=tail)

    async def stop(self) -> None:
        """Ends it in order, or kills it when that takes too long; nothing when it has ended."""
        if self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


async def start_part(name: str, command: Sequence[str], folder: Path) -> Part:
    """Starts a program. Ctrl-C in the terminal does not reach it: the demo ends its parts itself, in their order."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    return Part(name, process, log)


def arborgate(*arguments: str) -> Sequence[str]:
    """The command that runs Arborgate itself with this very interpreter."""
    return (sys.executable, "-m", "arborgate.server.cli", *arguments)


def _environment() -> dict[str, str]:
    """This process's environment without what would reconfigure Arborgate, or send loopback through a proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARBORGATE_")}
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY", ""), "127.0.0.1,localhost")))
    return {**kept, "NO_PROXY": direct, "no_proxy": direct}
