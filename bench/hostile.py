"""What it costs to refuse: every hostile token and proof of the tests' corpus, through authentication alone."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Final

from starlette.responses import Response
from tests.identity.attacks import ATTACKS, Attack
from tests.identity.proof_attacks import PROOF_ATTACKS
from tests.identity.scene import Scene, bearer, open_scene
from tests.parts.redis import RedisServer

from arborgate.server.identity.authentication import Safeguards
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import DpopSettings
from arborgate.server.state import State
from arborgate.tools.record import Entry, Record
from arborgate.tools.redis.connection import connect

from .report import Line, Part

_ROUNDS: Final = 7


class _Unwritten:
    """Keeps no record: the log is measured by itself."""

    async def write(self, entry: Entry) -> Record:
        return Record(event=entry.event, seq=1, time="", replica="", prev="", hash="")


def measure_hostile(folder: Path) -> Part:
    """Milliseconds of CPU, the median of some rounds, each attack made anew; the issuers' keys are known already."""
    with RedisServer(folder / "hostile") as redis:
        lines = asyncio.run(_measure(redis))
    return Part(f"Refusing {len(ATTACKS) + len(PROOF_ATTACKS)} hostile tokens and proofs", lines)


async def _measure(redis: RedisServer) -> tuple[Line, ...]:
    settings = DpopSettings()
    state = State(connect(redis.url()), "arborgate:")
    proofs = Proofs(settings, Replays(state, settings), Nonces(state, settings))
    async with open_scene(_Unwritten(), Safeguards(proofs=proofs)) as scene:
        await scene.knock(bearer(scene.token()))
        times = {attack.name: await _time(scene, attack) for attack in (*ATTACKS, *PROOF_ATTACKS)}
    await state.redis.aclose()
    slowest = max(times, key=lambda name: times[name])
    return (
        Line("the median attack", statistics.median(times.values()), "ms"),
        Line(f"the costliest, {slowest}", times[slowest], "ms", at_most=5),
    )


async def _time(scene: Scene, attack: Attack) -> float:
    found = []
    for _ in range(_ROUNDS):
        headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in attack.send(scene)]
        request = {"type": "http", "method": "POST", "path": "/mcp", "raw_path": b"/mcp", "headers": headers}
        began = time.process_time()
        answer = await scene.authenticator.authenticate(request)
        found.append((time.process_time() - began) * 1e3)
        assert isinstance(answer, Response)
    return statistics.median(found)
