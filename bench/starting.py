"""How long a local copilot waits for its first answer over a pipe."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .report import Line, Part
from .servers import META, ROOT

_ROUNDS: Final = 5
_REQUEST: Final = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


def measure_start(settings: Path, folder: Path) -> Part:
    """From the start of the process to the answer to `tools/list`; medians of rounds in turn."""
    serve = (sys.executable, "-m", "arborgate.server.cli", "serve", "--stdio", "--as", "bench", "--config", settings)
    bare = (sys.executable, ROOT / "bench" / "bare.py", "--stdio")
    rounds = [(_time_answer(serve, folder), _time_answer(bare, folder), _time_nothing()) for _ in range(_ROUNDS)]
    ours, sdk, nothing = (statistics.median(times) for times in zip(*rounds, strict=True))
    return Part(
        f"serve --stdio: from start to the first answer; medians of {_ROUNDS} rounds in turn",
        (
            Line("tools/list", ours, "s", "bare SDK over a pipe", sdk, at_most=1.5),
            Line("tools/list, beside nothing at all", ours, "s", "python -c pass", nothing),
        ),
    )


def _time_answer(argv: Sequence[str | Path], folder: Path) -> float:
    """Seconds until the first line of output; raises RuntimeError when that is not a result."""
    with (folder / "stdio.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(_REQUEST).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            took = time.perf_counter() - began
            process.stdin.close()
            process.wait(30)
        finally:
            process.kill()
            process.wait()
    if b'"tools"' not in answer:
        raise RuntimeError(f"{argv[1]} answered: {answer[:600]!r}; see {log.name}")
    return took


def _time_nothing() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began
