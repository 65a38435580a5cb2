"""A stand-in for Argo CD's application controller where a parent takes its children from Git: it follows the branch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import yaml

from tests.installation import Installation
from tests.parts.git import GitServer


@asynccontextmanager
async def following(
    installation: Installation,
    server: GitServer,
    repository: str,
    manifests: dict[str, str],
    *,
    broken: Collection[str] = (),
) -> AsyncIterator[None]:
    """Keeps the live Applications (paths of their files by name) as the branch says, as a parent that self-heals does. An
    app that runs one of the `broken` images becomes Degraded."""
    task = asyncio.create_task(_follow(installation, server, repository, manifests, broken))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _follow(
    installation: Installation,
    server: GitServer,
    repository: str,
    manifests: dict[str, str],
    broken: Collection[str],
) -> None:
    while True:
        (head, *_) = await asyncio.to_thread(server.log, repository, "%H")
        for name, path in manifests.items():
            text = await asyncio.to_thread(server.read, repository, path)
            written = yaml.safe_load(text)
            spec: dict[str, Any] = written["spec"]
            metadata = {"labels": written["metadata"].get("labels", {})}
            live = await asyncio.to_thread(installation.get_app, name)
            compared = live.get("status", {}).get("sync", {})
            if live["spec"] != spec or compared.get("revision") != head:
                bad = any(image in broken for image in spec["source"]["kustomize"]["images"])
                status = {
                    "sourceType": "Kustomize",
                    "health": {"status": "Degraded" if bad else "Healthy"},
                    "sync": {
                        "status": "Synced",
                        "revision": head,
                        "comparedTo": {"source": spec["source"], "destination": spec["destination"]},
                    },
                }
                await asyncio.to_thread(
                    installation.patch_app, name, {"metadata": metadata, "spec": spec, "status": status}
                )
        await asyncio.sleep(0.1)
