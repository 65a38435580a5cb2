"""How many calls one process answers, everything on, beside the bare SDK with a tool that does nothing."""

from __future__ import annotations

import statistics
from typing import Final

from .load import Load, run_load
from .report import Line, Part
from .servers import McpServer
from .world import name_app

CONNECTIONS: Final = 8
_ROUNDS: Final = 5
_SECONDS: Final = 3.0
_ASKED: Final = 200


def measure_throughput(ours: McpServer, bare: McpServer) -> Part:
    """Rounds in turn, so that whatever else the machine does meets both alike."""
    gets = tuple(ours.write_call("app_get", {"app": name_app(number)}) for number in range(_ASKED))
    loads = {
        "ours": Load(ours.port, gets, CONNECTIONS, _SECONDS),
        "bare": Load(bare.port, (bare.write_call("hello"),), CONNECTIONS, _SECONDS),
    }
    rounds = [{name: run_load(load) for name, load in loads.items()} for _ in range(_ROUNDS)]
    rates = {name: statistics.median(each[name].rate for each in rounds) for name in loads}
    slow = {name: statistics.median(each[name].p99 for each in rounds) for name in loads}
    beside = "bare SDK, a tool that says hello"
    return Part(
        f"One process, {CONNECTIONS} connections, protocol 2026-07-28; medians of {_ROUNDS} rounds in turn",
        (
            Line("app_get, everything on", rates["ours"], "calls/s", beside, rates["bare"], ratio_at_least=0.5),
            Line("app_get, p99", slow["ours"], "ms", beside, slow["bare"]),
        ),
    )
