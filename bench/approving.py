"""How long it takes from an approver's click until the cluster holds the first change: `serve`, applier, Redis, all real."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
from tests.installation import Installation
from tests.parts.kube import KubeApi
from tests.parts.oidc import OidcProvider
from tests.parts.redis import RedisServer
from tests.storm.history import History, Write, following
from tests.storm.landscape import build, controlling

from .report import Line, Part

_RUNS: Final = 40
_WARM: Final = 5
_PATIENCE: Final = 30.0


def measure_approving(folder: Path) -> Part:
    """Each run approves a proposal of one change, of an app of its own, and waits until its mark is in etcd."""
    with (
        RedisServer(folder, name="redis-approving", appendfsync="always") as redis,
        KubeApi(_make(folder / "approving-kube")) as kube,
        OidcProvider(_make(folder / "approving-oidc")) as oidc,
        kube.fresh_namespace() as namespace,
        Installation(
            folder / "approving",
            kube,
            redis,
            oidc,
            namespace,
            environments=[{"name": "dev", "projects": ["*"]}],
            proposals={
                "signing_key_file": str(folder / "approving" / "signing.jwk"),
                "verify_key_file": str(folder / "approving" / "verify.jwk"),
            },
        ) as installation,
    ):
        apps = build(installation, _RUNS + _WARM)
        installation.start_serve()
        installation.start_applier()
        times = asyncio.run(_measure(installation, apps))[_WARM:]
    written, answered = zip(*times, strict=True)
    return Part(
        f"From the approver's click to the first change; {_RUNS} proposals, appendfsync always",
        (
            Line("the first change is in the cluster, median", statistics.median(written), "ms", at_most=150),
            Line("the same, p95", statistics.quantiles(written, n=20)[-1], "ms"),
            Line("the click is answered, median", statistics.median(answered), "ms"),
        ),
    )


async def _measure(installation: Installation, apps: Sequence[str]) -> list[tuple[float, float]]:
    """Milliseconds until the change is written and until the click is answered, for each app."""
    kube, url = installation.kube, installation.url
    async with (
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=_PATIENCE) as browser,
        installation.copilot("dev") as copilot,
        following(kube, installation.namespace) as history,
        controlling(installation, history),
    ):
        await _log_in(browser, "april")
        times = []
        for app in apps:
            change = {"app": app, "kind": "scale", "workload": f"Deployment/{app}", "replicas": 3}
            asked = {"reason": "The bench wants more of it.", "changes": [change]}
            proposed = (await copilot.call_tool("rollout_propose", asked)).structured_content
            await _await_state(copilot, proposed["proposal"], "proposed")
            times.append(await _approve(browser, history, proposed["proposal"]))
            await _await_state(copilot, proposed["proposal"], "applied")  # so that none waits for the one before
        return times


async def _approve(browser: httpx2.AsyncClient, history: History, proposal: str) -> tuple[float, float]:
    path = f"/proposals/{proposal}"
    page = (await browser.get(path)).text
    form = dict(re.findall(r'<input type="hidden" name="(csrf|digest)" value="([^"]*)">', page))
    written, reconcile = asyncio.Event(), history.told
    took = [0.0]

    def see(write: Write) -> None:
        if write.mark.startswith(proposal) and not written.is_set():
            took[0] = time.perf_counter() - began
            written.set()
        reconcile(write)

    history.told = see
    began = time.perf_counter()
    headers = {"Origin": str(browser.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    answer = await browser.post(f"{path}/approve", data={**form, "comment": ""}, headers=headers)
    answered = time.perf_counter() - began
    if answer.status_code != 303:
        raise RuntimeError(f"the approval was answered with {answer.status_code}: {answer.text[:300]}")
    async with asyncio.timeout(_PATIENCE):
        await written.wait()
    history.told = reconcile
    return took[0] * 1_000, answered * 1_000


async def _log_in(browser: httpx2.AsyncClient, person: str) -> None:
    """As a browser does it: every redirect to its end, and the provider's form on the way."""
    answer = await browser.get("/login?start=1", headers={"Sec-Fetch-Site": "same-origin"})
    while answer.is_redirect:
        target = answer.url.join(answer.headers["location"])
        if "/interaction/" in str(target):
            answer = await browser.post(target, data={"login": person})
        else:
            answer = await browser.get(target)
    answer.raise_for_status()


async def _await_state(copilot: Any, proposal: str, wanted: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        state = ""
        while state != wanted:
            await asyncio.sleep(0.05)
            state = (await copilot.call_tool("proposal_get", {"proposal": proposal})).structured_content["state"]


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder
