"""A stand-in for Argo CD's application controller, which no registry offers as a part: it runs operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.installation import Installation

Outcome = Callable[[dict[str, Any]], dict[str, Any]]
"""From an Application whose operation runs to the status that Argo CD would give it."""


def succeed(app: dict[str, Any]) -> dict[str, Any]:
    return _ended(app, "Succeeded", "Healthy")


def fail(app: dict[str, Any]) -> dict[str, Any]:
    return _ended(app, "Failed", "Degraded")


@asynccontextmanager
async def controlling(installation: Installation, *, outcome: Outcome = succeed) -> AsyncIterator[list[str]]:
    """Runs each operation that appears, in the way Argo CD does: off the object, into its status. Yields the names of
    the apps whose operations it ran, in order."""
    ran: list[str] = []
    task = asyncio.create_task(_control(installation, outcome, ran))
    try:
        yield ran
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _control(installation: Installation, outcome: Outcome, ran: list[str]) -> None:
    collection = installation.path("").rstrip("/")
    while True:
        answer = await asyncio.to_thread(installation.kube.call, "GET", collection)
        for app in answer["items"]:
            if "operation" in app:
                name = app["metadata"]["name"]
                ran.append(name)
                patch = {"operation": None, "status": outcome(app)}
                await asyncio.to_thread(installation.patch_app, name, patch)
        await asyncio.sleep(0.05)


def _ended(app: dict[str, Any], phase: str, health: str) -> dict[str, Any]:
    sync = app["operation"]["sync"]
    status = app.get("status", {})
    return {
        "operationState": {
            "operation": app["operation"],
            "phase": phase,
            "message": f"the operation ended as {phase}",
            "startedAt": "2026-11-20T10:00:00Z",
            "finishedAt": "2026-11-20T10:00:01Z",
        },
        "health": {"status": health},
        "sync": {**status.get("sync", {}), "status": "Synced", "revision": sync.get("revision", "")},
    }
