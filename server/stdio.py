"""The input of a local session, line by line, read so that a stop never has to wait for the next line."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Final

_BLOCK: Final = 65_536
_AHEAD: Final = 16
"""How many lines are read before they are wanted."""


class Lines:
    """The lines of a file descriptor, as text. A thread of its own waits for them: a read from a pipe can't be
    cancelled, and the interpreter waits at its end for every thread but a daemon.

    A line of more than `limit` bytes comes cut to one byte over it."""

    def __init__(self, descriptor: int = 0, *, limit: int = sys.maxsize - 1) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        if (line := await self.read()) is None:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")

    async def read(self) -> bytes | None:
        """The next line as it came; None at the end."""
        line = await self._lines.get()
        self._room.release()
        return line

    def end(self) -> None:
        """Ends the lines here, whatever may still come."""
        self._lines.put_nowait(None)

    def _read(self) -> None:
        rest = b""
        while block := self._read_block():
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._hand_over(line[: self._limit + 1])
            rest = rest[: self._limit + 1]
        if rest:
            self._hand_over(rest)
        self._hand_over(None)

    def _read_block(self) -> bytes:
        try:
            return os.read(self._descriptor, _BLOCK)
        except OSError:
            return b""

    def _hand_over(self, line: bytes | None) -> None:
        self._room.acquire()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
