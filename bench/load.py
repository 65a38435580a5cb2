"""The load generator: prepared requests over kept-alive connections, in a process of its own so that it measures only.

It reads one JSON object from standard input (`Load`) and writes one to standard output (`Loaded`).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import uvloop

_WARM_UP_SECONDS = 1.0
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """What to send: `requests` are whole HTTP requests, sent in turn on `connections` for `seconds`."""

    port: int
    requests: Sequence[str]
    connections: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """What came back after the warm-up. Times are in milliseconds, sizes in bytes of the body."""

    answers: int
    seconds: float
    median: float
    p99: float
    size: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def run_load(load: Load) -> Loaded:
    """Runs the generator as a process and waits for it; raises RuntimeError when any answer was not a result."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        timeout=load.seconds + 60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.strip()[-2000:]}")
    return Loaded(**json.loads(done.stdout))


def write_request(port: int, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """One HTTP/1.1 POST with a JSON body, ready to be sent."""
    text = json.dumps(body)
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, f"Content-Length: {len(text.encode())}", "", text])


class _Connection(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, looks at it, sends again."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._received = bytearray()
        self._wanted = 0
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._wanted:
            end = self._received.find(_END_OF_HEAD)
            if end < 0:
                return
            self._wanted = end + len(_END_OF_HEAD) + read_length(bytes(self._received[:end]).lower())
        if len(self._received) >= self._wanted:
            self._run.count(bytes(self._received), time.perf_counter() - self._sent_at)
            self._received.clear()
            self._wanted = 0
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.fail(f"the connection was closed: {exc}")

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._transport is not None and not self._run.done.done():
            self._transport.write(self._run.next())


class _Run:
    """All connections of one load, and what they saw."""

    def __init__(self, load: Load) -> None:
        self._requests = [request.encode() for request in load.requests]
        self._turn = 0
        self._times: list[float] = []
        self._size = 0
        self.counting = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes:
        self._turn = (self._turn + 1) % len(self._requests)
        return self._requests[self._turn]

    def count(self, answer: bytes, seconds: float) -> None:
        # Other servers may space their JSON; a tool's own error must not pass for an answer either way.
        if not answer.startswith(b"HTTP/1.1 200") or b'"result"' not in answer or _is_error(answer):
            self.fail(answer[:600].decode(errors="replace"))
        if self.counting:
            self._times.append(seconds)
            self._size += len(answer) - answer.index(_END_OF_HEAD) - len(_END_OF_HEAD)

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))

    def summarise(self, seconds: float) -> Loaded:
        times = sorted(self._times)
        count = len(times)
        return Loaded(
            answers=count,
            seconds=seconds,
            median=times[count // 2] * 1e3,
            p99=times[count * 99 // 100] * 1e3,
            size=self._size // count,
        )


async def _measure(load: Load) -> Loaded:
    loop = asyncio.get_running_loop()
    run = _Run(load)
    transports = [
        (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", load.port))[0]
        for _ in range(load.connections)
    ]
    await asyncio.wait([run.done], timeout=_WARM_UP_SECONDS)
    run.counting, began = True, time.perf_counter()
    await asyncio.wait([run.done], timeout=load.seconds)
    run.counting, took = False, time.perf_counter() - began
    if run.done.done():
        run.done.result()
    run.done.cancel()
    for transport in transports:
        transport.abort()
    return run.summarise(took)


def read_length(head: bytes) -> int:
    """The length of the body, from a head in lower case; raises RuntimeError for a head that does not say it."""
    _, found, rest = head.partition(b"content-length:")
    if not found:
        raise RuntimeError("an answer without a Content-Length")
    return int(rest.split(b"\r\n", 1)[0])


def _is_error(answer: bytes) -> bool:
    return b'"isError":true' in answer or b'"isError": true' in answer


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_measure(Load(**json.load(sys.stdin)))))))
