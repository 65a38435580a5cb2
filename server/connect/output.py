"""Standard output: whole lines, written without ever keeping the rest of the bridge waiting."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_FLUSH_SECONDS = 1.0


class Output:
    """Lines to a client. What is written once the client has gone is dropped, and `closed` says so."""

    def __init__(self, descriptor: int) -> None:
        self.closed = asyncio.Event()
        self._descriptor = descriptor
        self._transport: asyncio.WriteTransport | None = None
        self._flow = _Flow(self.closed)

    async def write(self, line: bytes) -> None:
        """Writes one line (its end is added here); waits while the client does not read."""
        if self.closed.is_set():
            return
        if self._transport is None:
            self._write_through(line + b"\n")
            return
        self._transport.write(line + b"\n")
        await self._flow.writable.wait()

    async def open(self) -> None:
        """Finds out what the descriptor is. A pipe or a socket is written without blocking; anything else is written
        through, and left as it was: a terminal belongs to others too."""
        mode = os.fstat(self._descriptor).st_mode
        if sys.platform == "win32" or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return
        file = os.fdopen(self._descriptor, "wb", 0, closefd=False)
        self._transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: self._flow, file)

    async def close(self) -> None:
        """Lets what was written get out, for a moment."""
        if self._transport is not None and not self.closed.is_set():
            self._transport.close()
            try:
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self.closed.wait()
            except TimeoutError:
                self._transport.abort()
        self.closed.set()

    def _write_through(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self.closed.set()


class _Flow(asyncio.Protocol):
    """What the transport says about how fast the client reads, and whether it is still there."""

    def __init__(self, closed: asyncio.Event) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self._closed = closed

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the base class has it
        self._closed.set()
        self.writable.set()


@asynccontextmanager
async def open_output(descriptor: int = 1) -> AsyncIterator[Output]:
    """Standard output, flushed on the way out."""
    output = Output(descriptor)
    await output.open()
    try:
        yield output
    finally:
        await output.close()
