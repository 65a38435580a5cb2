"""A bridge process for a test: its prepared login, a real MCP client on it, or bare lines."""

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

PROGRAM = Path(__file__).parent / "bridge_process.py"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
SECONDS = 20.0


@dataclass(frozen=True)
class Login:
    """The prepared login of a bridge, and where it says what people read."""

    file: Path
    errors: Path

    def change(self, **changes: Any) -> None:
        """Changes what the bridge is told from its next request on."""
        told = {**json.loads(self.file.read_text()), **changes}
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(told))
        beside.replace(self.file)

    def told(self) -> str:
        """Standard error so far."""
        return self.errors.read_text()


def prepare(
    folder: Path, url: str, *tokens: str, login: str = "ready", patience: dict[str, float] | None = None
) -> Login:
    """A login at the URL; `tokens` are used in turn, the next when the server has refused the one before."""
    file = folder / "login.json"
    told = {"url": url, "tokens": tokens or ["none"], "login": login, "patience": patience or {}}
    file.write_text(json.dumps(told))
    errors = folder / "errors.txt"
    errors.touch()
    return Login(file, errors)


@asynccontextmanager
async def connected(login: Login, era: str, **options: Any) -> AsyncIterator[Client]:
    """The MCP SDK's own client over a pipe to a bridge."""
    parameters = StdioServerParameters(command=sys.executable, args=[str(PROGRAM), str(login.file)])
    with login.errors.open("a") as errors:
        async with Client(stdio_client(parameters, errlog=errors), mode=era, **options) as client:
            yield client


class Pipe:
    """A bridge that is written to and read from line by line."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._input = process.stdin
        self._output = process.stdout

    async def send(self, *messages: dict[str, Any] | bytes) -> None:
        for message in messages:
            line = message if isinstance(message, bytes) else json.dumps(message).encode()
            self._input.write(line + b"\n")
        await self._input.drain()

    async def read(self) -> dict[str, Any]:
        """The next message; every line is one, or the test fails here."""
        async with asyncio.timeout(SECONDS):
            line = await self._output.readline()
        assert line, "the bridge has ended"
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    async def ask(self, message: dict[str, Any] | bytes) -> dict[str, Any]:
        await self.send(message)
        return await self.read()

    def close_output(self) -> None:
        """Reads no more, as a client that has crashed."""
        self.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # asyncio has no way in

    async def end(self) -> Sequence[dict[str, Any]]:
        """Closes standard input; what still came before the bridge ended, which it does by itself and in order."""
        self._input.close()
        async with asyncio.timeout(SECONDS):
            rest = await self._output.read()
            assert await self.process.wait() == 0
        return [json.loads(line) for line in rest.splitlines()]


@asynccontextmanager
async def piped(login: Login) -> AsyncIterator[Pipe]:
    """A bridge as a process with pipes."""
    with login.errors.open("a") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            PROGRAM,
            login.file,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=2**24,
        )
    try:
        yield Pipe(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def request(number: int | str, method: str, **params: Any) -> dict[str, Any]:
    """A request of the 2026 era."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}
