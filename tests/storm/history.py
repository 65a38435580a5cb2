"""Every write of some objects as the API server's own store has kept it: what an applier did twice can't hide in it."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import httpx2
import orjson

from arborgate.tools.kubernetes.changes import MARK
from arborgate.tools.proposal import Proposal
from tests.parts.kube import KubeApi

PREFIXES = {"Application": "/registry/argoproj.io/applications", "Deployment": "/registry/deployments"}
_MARK = re.compile(re.escape(MARK.encode()) + rb"\x12(.)", re.DOTALL)
"""The annotation in a stored Deployment, which is protobuf: its name, the tag of its value, the value's length."""


_MOMENT = 10.0
"""Seconds that a plan may be older than its proposal: as long as a call may take, and some for a slow machine."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write of one object: the mark it then had, and whether it then asked for an operation. `at` is when it was heard
    of, in seconds since the epoch."""

    kind: str
    name: str
    mark: str
    operation: bool
    at: float


@dataclass
class History:
    """The writes so far, in the order in which the store took them. `told` gets each as it comes."""

    writes: list[Write] = field(default_factory=list)
    told: Callable[[Write], None] = lambda _: None

    def count_marks(self) -> Counter[str]:
        """How often each mark came to be on an object that had another one, or none, before."""
        return Counter(mark for each in self._by_object() for mark, _ in groupby(one.mark for one in each) if mark)

    def count_operations(self) -> Counter[str]:
        """How often an operation came to be on an object under each mark."""
        found: Counter[str] = Counter()
        for each in self._by_object():
            before = False
            for write in each:
                found[write.mark] += write.operation and not before
                before = write.operation
        return found

    def was_changed_for_another(self, proposal: Proposal) -> bool:
        """Whether a target of the proposal was written for another one, at most a moment before it was proposed."""
        content = proposal.content
        targets = {(change.target.kind, change.target.name) for change in content.changes}
        return any(
            (one.kind, one.name) in targets
            and one.mark.partition("/")[0] not in ("", content.id)
            and content.created_at - _MOMENT <= one.at <= proposal.state_at + _MOMENT
            for one in self.writes
        )

    def take(self, kind: str, stored: dict[str, Any]) -> None:
        """One event of the store's watch."""
        name = base64.b64decode(stored["key"]).rpartition(b"/")[2].decode()
        value = base64.b64decode(stored.get("value", ""))
        mark, operation = _read_json(value) if kind == "Application" else (_read_protobuf(value), False)
        write = Write(kind, name, mark, operation, time.time())
        self.writes.append(write)
        self.told(write)

    def _by_object(self) -> Iterator[list[Write]]:
        for _, each in groupby(sorted(self.writes, key=_name), key=_name):
            yield list(each)


@asynccontextmanager
async def following(kube: KubeApi, namespace: str) -> AsyncIterator[History]:
    """The history of a namespace's Applications and Deployments from now on, whatever becomes of the API server."""
    history = History()
    timeout = httpx2.Timeout(5.0, read=None)
    async with httpx2.AsyncClient(base_url=kube.store_url, trust_env=False, timeout=timeout) as client:
        begun = [asyncio.Event() for _ in PREFIXES]
        tasks = [
            asyncio.create_task(_follow(client, kind, f"{prefix}/{namespace}/", history, ready))
            for (kind, prefix), ready in zip(PREFIXES.items(), begun, strict=True)
        ]
        try:
            async with asyncio.timeout(10):
                await asyncio.gather(*(ready.wait() for ready in begun))
            yield history
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(client: httpx2.AsyncClient, kind: str, prefix: str, history: History, ready: asyncio.Event) -> None:
    """By etcd's own watch: the API server's ends with it, and does not tell what was before its next start."""
    first = prefix.encode()
    asked = {"key": first, "range_end": first[:-1] + bytes([first[-1] + 1])}
    request = {name: base64.b64encode(value).decode() for name, value in asked.items()}
    body = {"create_request": {**request, "filters": ["NODELETE"]}}
    async with client.stream("POST", "/v3/watch", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            result = orjson.loads(line)["result"]
            ready.set()
            for event in result.get("events", ()):
                history.take(kind, event["kv"])
    raise AssertionError("the store has ended its watch")


def _read_json(value: bytes) -> tuple[str, bool]:
    stored = orjson.loads(value)
    return str((stored["metadata"].get("annotations") or {}).get(MARK, "")), "operation" in stored


def _read_protobuf(value: bytes) -> str:
    found = _MARK.search(value)
    return value[found.end() : found.end() + found[1][0]].decode() if found else ""


def _name(write: Write) -> tuple[str, str]:
    return write.kind, write.name
