"""The page of a proposal that touches hundreds of apps: what it costs to prepare and to render, in process."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Final

from tests.parts.redis import RedisServer
from tests.server.web.world import World, make_change, make_factor, open_world
from tests.tools.world import make_app, make_managed

from .report import Line, Part

APPS: Final = 300
_ROUNDS: Final = 7
_DIFF: Final = """--- Application argocd/{name} (live)
+++ Application argocd/{name} (planned)
@@ -1,9 +1,9 @@
 spec:
   source:
     helm:
       parameters:
       - name: image.repository
         value: registry.test/shop/{name}
       - name: image.tag
-        value: v2.14.0
+        value: v2.13.4
     targetRevision: main"""


def measure_proposal_page(folder: Path) -> Part:
    """Milliseconds of the whole answer to a browser, as the server's process takes them: medians."""
    with RedisServer(folder, name="redis-page") as redis:
        return asyncio.run(_measure(folder, redis.url()))


async def _measure(folder: Path, redis_url: str) -> Part:
    async with open_world(folder / "bench-pages", redis_url) as world:
        names = [f"shop-{number:03}" for number in range(APPS)]
        for number, name in enumerate(names):
            parent = "shop" if number % 10 == 0 else names[number // 10 * 10]
            workloads = (make_managed("Deployment", name), make_managed("StatefulSet", f"{name}-db"))
            world.tree.put(make_app(name, env="prod", parent=parent, managed=workloads))
        one = await _time(world, "shop")
        many = await _time(world, *names)
    return Part(
        f"The page of a proposal, {APPS} apps",
        [
            Line(f"one change that reaches {APPS} apps, answered", one, "ms", at_most=300),
            Line(f"{APPS} changes of {APPS} apps, answered", many, "ms", at_most=300),
        ],
    )


async def _time(world: World, *names: str) -> float:
    changes = [make_change(name, diff=_DIFF.format(name=name)) for name in names]
    proposal = await world.propose(*changes, factors=(make_factor("The environment production is strict."),))
    visitor = await world.enter("april", "approver")
    path = f"/proposals/{proposal.id}"
    answer = await visitor.get(path)
    assert answer.text.count('class="app-name"') >= APPS
    took = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        await visitor.get(path)
        took.append((time.process_time() - began) * 1e3)
    return statistics.median(took)
