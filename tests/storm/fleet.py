"""The processes that the storm kills: one `serve`, several appliers, their Redis and the API server."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.installation import Installation
from tests.parts.kube import Identity, KubeApi
from tests.parts.oidc import OidcProvider
from tests.parts.process import Process
from tests.parts.redis import RedisServer

SERVE, REDIS, API_SERVER = "serve", "redis", "kube-apiserver"

_WEIGHTS = {SERVE: 3, REDIS: 3, API_SERVER: 1}
"""How often each is hit, beside 3 for each applier."""
_FROZEN = 0.25
"""How many of the appliers that are hit are not killed, but frozen."""


class Fleet(Installation):
    """An installation with as many appliers as asked for, each a replica of its own, on a Redis that keeps each write."""

    def __init__(
        self, folder: Path, kube: KubeApi, oidc: OidcProvider, namespace: str, *, appliers: int, **changes: Any
    ) -> None:
        redis = RedisServer(folder, appendfsync="always")
        super().__init__(folder, kube, redis, oidc, namespace, **changes)
        self.appliers = tuple(f"applier-{number}" for number in range(1, appliers + 1))
        self._processes: dict[str, Process] = {}
        self._struck: set[str] = set()

    def __enter__(self) -> Fleet:
        self.redis.start()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.stop()
        self.redis.__exit__()

    def argv(self, command: str) -> list[str]:
        name, _, number = command.partition("-")
        identity = Identity.APPLIER if number else Identity.SERVE
        settings = {**self.settings(identity), "replica": command}
        config = self._keep(f"{command}.yaml", yaml.safe_dump(settings))
        return ["-m", "arborgate.server.cli", name, "--config", str(config)]

    async def raise_up(self, name: str) -> None:
        """Starts what was killed; whether it got ready before it was killed again is not its concern."""
        if name == REDIS:
            await asyncio.to_thread(self.redis.start)
        elif name == API_SERVER:
            await asyncio.to_thread(self.kube.start)
        else:
            self._processes[name] = await asyncio.to_thread(self.start, name)
        self._struck.discard(name)

    async def strike(self, name: str) -> None:
        """SIGKILL: no process hears it coming."""
        self._struck.add(name)
        match name:
            case "redis":
                await asyncio.to_thread(self.redis.kill)
            case "kube-apiserver":
                await asyncio.to_thread(self.kube.stop)
            case _:
                await asyncio.to_thread(self._processes[name].kill)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it stops between any two instructions, and does not know it."""
        self._processes[name].pause()

    def thaw(self, name: str) -> None:
        self._processes[name].resume()

    async def set_out(self) -> None:
        """Starts `serve` and the appliers, and waits until `serve` is ready."""
        for name in (SERVE, *self.appliers):
            await self.raise_up(name)
        await asyncio.to_thread(self._processes[SERVE].wait_ready, self._is_ready, seconds=60)

    def stop_all(self) -> None:
        """Ends `serve` and the appliers in order, so that their records are whole."""
        for process in self._processes.values():
            process.stop()

    def watch_over(self) -> None:
        """Raises when one of the processes has ended although nobody killed it."""
        for name, process in self._processes.items():
            assert name in self._struck or process.running, (
                f"{name} ended by itself: {process.output.read_text()[-2000:]}"
            )


class Weather:
    """Kills at random moments until told to calm down, and freezes an applier now and then for longer than its lease. All
    that is random comes from one seed."""

    def __init__(self, fleet: Fleet, seed: int, pause: float, lease: float) -> None:
        """`pause`: seconds between two kills, on average. `lease`: seconds that an applier's lease lasts."""
        self.kills: Counter[str] = Counter()
        self.freezes = 0
        self._fleet = fleet
        self._random = random.Random(f"weather {seed}")
        self._pause = pause
        self._lease = lease
        self._down: set[str] = set()
        self._rising: set[asyncio.Task[None]] = set()
        self._weights = {**_WEIGHTS, **dict.fromkeys(fleet.appliers, 3)}

    async def rage(self, enough: Callable[[int], bool], too_many: Callable[[int], bool]) -> None:
        """Until there were enough kills; then everything is up again, if not yet ready. It abates while there are too many
        for what has been got through: on a slow machine nothing would ever get up."""
        while not enough(self.kills.total()):
            await asyncio.sleep(self._random.expovariate(1 / self._pause))
            if too_many(self.kills.total()):
                continue
            standing = [name for name in self._weights if name not in self._down]
            if not standing:
                continue
            victim = self._random.choices(standing, [self._weights[name] for name in standing])[0]
            self._down.add(victim)
            if victim in self._fleet.appliers and self._random.random() < _FROZEN:
                self._fleet.freeze(victim)
                self.freezes += 1
                rising = asyncio.create_task(self._thaw(victim, self._lease * self._random.uniform(1, 2)))
            else:
                await self._fleet.strike(victim)
                self.kills[victim] += 1
                rising = asyncio.create_task(self._rise(victim, self._random.uniform(0, 0.5)))
            self._rising.add(rising)
            rising.add_done_callback(self._rising.discard)
        await asyncio.gather(*self._rising)

    async def _rise(self, name: str, after: float) -> None:
        await asyncio.sleep(after)
        await self._fleet.raise_up(name)
        self._down.discard(name)

    async def _thaw(self, name: str, after: float) -> None:
        await asyncio.sleep(after)
        self._fleet.thaw(name)
        self._down.discard(name)


@asynccontextmanager
async def raging(
    weather: Weather, enough: Callable[[int], bool], too_many: Callable[[int], bool]
) -> AsyncIterator[None]:
    """Bad weather while inside, and until there were enough kills."""
    async with asyncio.TaskGroup() as group:
        group.create_task(weather.rage(enough, too_many))
        yield
