"""Every process is killed or frozen at random moments while proposals go through: nothing is lost, repeated, unrecorded
or stuck.

`ARBORGATE_STORM_SEED` repeats what was random in a run (not what the machine made of it), `ARBORGATE_STORM=full` makes
it as long as `make storm` does.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from arborgate.server.state import State
from arborgate.tools.redis.connection import connect
from tests.parts.kube import KubeApi
from tests.parts.oidc import OidcProvider

from .crowd import Crowd, releasing
from .fleet import Fleet, Weather, raging
from .history import following
from .landscape import build, controlling, forbid, permit
from .reckoning import Reckoning, reckon, settle

FULL = os.environ.get("ARBORGATE_STORM") == "full"

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3_000 if FULL else 240)]


@dataclass(frozen=True)
class Size:
    """How much of everything: proposals, apps (each with two targets), kills, seconds between them, and so on."""

    proposals: int
    apps: int
    kills: int
    pause: float
    appliers: int
    at_once: int


SIZE = Size(500, 100, 300, 1.5, 3, 8) if FULL else Size(24, 5, 15, 1.2, 2, 4)
LEASE = 2.0


async def test_nothing_is_lost_or_repeated_whatever_is_killed_and_when(
    tmp_path: Path, kube_api: KubeApi, kube_namespace: str, oidc_provider: OidcProvider
) -> None:
    seed = int(os.environ.get("ARBORGATE_STORM_SEED") or random.SystemRandom().randrange(10**6))
    told = f"ARBORGATE_STORM_SEED={seed}"
    print(told)  # noqa: T201  # a run that failed can only be repeated by who knows it
    fleet = Fleet(
        tmp_path,
        kube_api,
        oidc_provider,
        kube_namespace,
        appliers=SIZE.appliers,
        environments=[{"name": "dev", "projects": ["*"]}],
        applier={"health_timeout": 60, "lease": LEASE},
    )
    began = time.monotonic()
    with fleet:
        apps = await asyncio.to_thread(build, fleet, SIZE.apps)
        await asyncio.to_thread(forbid, kube_api, kube_namespace)
        try:
            async with (
                AsyncExitStack() as stack,
                following(kube_api, kube_namespace) as history,
                controlling(fleet, history),
            ):
                await fleet.set_out()
                crowd, weather = Crowd(fleet, apps, seed), Weather(fleet, seed, SIZE.pause, LEASE)
                state = State(await stack.enter_async_context(connect(fleet.redis.url(), timeout=30.0)), "{arborgate}:")
                await stack.enter_async_context(releasing(fleet, state))

                async def pace(number: int) -> None:
                    """Proposals come as kills do, so that none of either is without the other."""
                    while weather.kills.total() * SIZE.proposals < (number - 2 * SIZE.at_once) * SIZE.kills:
                        await asyncio.sleep(0.1)

                def enough(kills: int) -> bool:
                    return kills >= SIZE.kills and crowd.proposed >= SIZE.proposals

                def too_many(kills: int) -> bool:
                    return (kills - SIZE.at_once) * SIZE.proposals > (crowd.proposed + SIZE.at_once) * SIZE.kills

                async with raging(weather, enough, too_many):
                    await crowd.work(SIZE.proposals, SIZE.at_once, pace)
                raged = time.monotonic() - began
                kube_api.recover()
                left = await settle(fleet, state, history)
                await asyncio.to_thread(fleet.stop_all)
                reckoning = await reckon(state, history, fleet.record)
        finally:
            await asyncio.to_thread(permit, kube_api, kube_namespace)
    print(tell(reckoning, weather, crowd, raged, time.monotonic() - began))  # noqa: T201  # the measured figures
    assert [*left, *reckoning.judge(crowd.approved)] == [], told
    assert weather.kills.total() >= SIZE.kills
    states = Counter(str(one.state) for one in reckoning.proposals)
    assert {"applied"} < set(states), "some were applied, and some were not"


def tell(reckoning: Reckoning, weather: Weather, crowd: Crowd, raged: float, took: float) -> str:
    """The figures of a run, in a few lines."""
    states = Counter(str(one.state) for one in reckoning.proposals)
    changes = sum(len(one.content.changes) for one in reckoning.proposals)
    kills = ", ".join(f"{name} {count}" for name, count in sorted(weather.kills.items()))
    return (
        f"{weather.kills.total()} kills in {raged:.0f} s of {took:.0f} s: {kills}; {weather.freezes} freezes\n"
        f"{len(reckoning.proposals)} proposals of {changes} changes, {len(crowd.approved)} approvals answered for: "
        f"{', '.join(f'{count} {state}' for state, count in sorted(states.items()))}\n"
        f"{len(reckoning.history.writes)} writes of the targets, {len(reckoning.records)} records in "
        f"{len(reckoning.proofs)} chains"
    )
