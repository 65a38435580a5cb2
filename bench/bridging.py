"""What `arborgate connect` costs: a call through the bridge beside the same call made directly, and how soon it is ready."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from arborgate.server.connect.entries import Entry, Place, Provider, Slot, Tokens
from arborgate.server.connect.proofs import Prover, make_key
from arborgate.server.connect.store import Store

from .issuer import Issuer
from .load import read_length
from .report import Line, Part
from .servers import META, McpServer
from .world import name_app

_STARTS: Final = 5
_CALLS: Final = 1_000
_WARM_UP: Final = 200
_LIST: Final = (
    json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}).encode() + b"\n"
)


def measure_bridge(ours: McpServer, issuer: Issuer, folder: Path) -> Part:
    """One caller, one call at a time, in turn: directly with a bearer token on a kept-alive socket, and through the
    bridge, which signs a proof for every call (RFC 9449) that the server checks."""
    home = folder / "connect"
    _log_in(home, ours, issuer)
    arguments = {"app": name_app(1)}
    params = {"name": "app_get", "arguments": arguments, "_meta": META}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n"
    starts = [(_time_start(ours, home), _time(_start_nothing)) for _ in range(_STARTS)]
    started, nothing = (statistics.median(each) for each in zip(*starts, strict=True))
    with _connected(ours) as direct, _bridged(ours, home) as bridge:
        request = ours.write_call("app_get", arguments).encode()
        times = [(_time(lambda: direct(request)), _time(lambda: bridge(line))) for _ in range(_WARM_UP + _CALLS)]
    directly, through = (statistics.median(each) * 1e3 for each in zip(*times[_WARM_UP:], strict=True))
    return Part(
        f"connect: one call at a time, token bound to a key; medians of {_CALLS:,} calls each way, in turn",
        (
            Line("app_get through the bridge", through, "ms", "directly, with a bearer token", directly),
            Line("what the bridge adds", through - directly, "ms", at_most=1.5),
            Line("from start to the first answer (tools/list)", started, "s", "python -c pass", nothing, at_most=1.5),
        ),
    )


def _log_in(home: Path, ours: McpServer, issuer: Issuer) -> None:
    """Leaves a login in files, as `arborgate login` would."""
    key, now = make_key(), time.time()
    url = f"http://127.0.0.1:{ours.port}/mcp"
    token = issuer.token(url, bound_to=Prover(key).thumbprint)
    place = Place(audience=url, provider=Provider(issuer=issuer.url, token_endpoint=f"{issuer.url}/token"))
    tokens = Tokens(access_token=token, bound=True, began=now, ends=now + 3600)
    store = Store(home / "arborgate", lambda _text: None, find_keyring=lambda: None)
    store.write(Slot(url), Entry(place=place, client_id="bench", key=key, tokens=tokens))


@contextmanager
def _bridged(ours: McpServer, home: Path) -> Iterator[Callable[[bytes], None]]:
    """Asks through a bridge of its own."""
    with _running(ours, home) as (stdin, stdout):
        yield lambda line: _ask(line, stdin, stdout)


@contextmanager
def _running(ours: McpServer, home: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    argv = (sys.executable, "-m", "arborgate.server.cli", "connect", f"http://127.0.0.1:{ours.port}", "--no-browser")
    env = {**os.environ, "XDG_STATE_HOME": str(home)}
    with (home / "connect.log").open("ab") as log:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            yield process.stdin, process.stdout
            process.stdin.close()
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def _ask(line: bytes, stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Writes a request and reads its answer; raises RuntimeError when that is not a result."""
    stdin.write(line)
    stdin.flush()
    _check(stdout.readline())


@contextmanager
def _connected(ours: McpServer) -> Iterator[Callable[[bytes], None]]:
    """Asks on one connection that is kept, with next to nothing of its own in between."""
    with socket.create_connection(("127.0.0.1", ours.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(request: bytes) -> None:
            connection.sendall(request)
            answer = connection.recv(262_144)
            head, _, body = answer.partition(b"\r\n\r\n")
            missing = read_length(head.lower()) - len(body)
            while missing > 0:
                part = connection.recv(262_144)
                answer += part
                missing -= len(part)
            _check(answer)

        yield ask


def _check(answer: bytes) -> None:
    if b'"result"' not in answer or b'"isError":true' in answer:
        raise RuntimeError(f"a call was answered with {answer[:600].decode(errors='replace')}")


def _time(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _time_start(ours: McpServer, home: Path) -> float:
    began = time.perf_counter()
    with _running(ours, home) as (stdin, stdout):
        _ask(_LIST, stdin, stdout)
        return time.perf_counter() - began


def _start_nothing() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)
