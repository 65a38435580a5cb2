"""`arborgate serve` as a process of its own that looks at no cluster: all it has to tell is who is calling."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml
from mcp.client.client import Client

from arborgate.server.chain import read_records
from arborgate.tools.record import Event, Record
from tests.parts.process import Process, find_free_ports
from tests.server.serving import connected

BUSY = {"rate": 10_000, "burst": 10_000, "in_flight": 1_000}
"""Limits that no test reaches by accident."""


@dataclass(frozen=True)
class Seen:
    """What `whoami` said of a call."""

    key: str
    agent: str
    actors: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    itself: bool = False
    binding: str = "bearer"


class Served:
    """One replica on a free port; `identity` is that section of its settings, `public_url` where it is told to be,
    `more` all sections besides."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        issuers: Sequence[Mapping[str, Any]],
        *,
        public_url: str = "",
        more: Mapping[str, Any] | None = None,
        **identity: Any,
    ) -> None:
        (port,) = find_free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.public_url = public_url or self.url
        self.audience = f"{self.public_url}/mcp"
        self._folder = folder
        self._settings = {
            "http": {"port": port, "call_timeout": 5, "public_url": self.public_url},
            **(more or {}),
            "identity": {"issuers": list(issuers), "limits": BUSY, **identity},
            "clusters": [],
            "state": {"url": redis_url, "timeout": 1},
            "record": {"dir": str(folder / "record")},
        }
        self._process: Process | None = None

    @asynccontextmanager
    async def client(self, token: str, era: str = "2026-07-28") -> AsyncIterator[Client]:
        async with connected(self.audience, token, era) as client:
            yield client

    async def ask(self, token: str) -> Seen:
        """Who the token's caller is, as the caller is told."""
        async with self.client(token) as client:
            return await who_am_i(client)

    async def knock(self, token: str, *, proof: str = "") -> httpx2.Response:
        """One bare request with a bearer token, or with a bound one and a proof, whatever its answer is."""
        asked = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        shown = {"Authorization": f"DPoP {token}", "DPoP": proof} if proof else {"Authorization": f"Bearer {token}"}
        accept = {"Accept": "application/json, text/event-stream", **shown}
        async with httpx2.AsyncClient(trust_env=False) as client:
            return await client.post(f"{self.url}/mcp", json=asked, headers=accept)

    def records(self, event: Event) -> list[Record]:
        (log,) = (self._folder / "record").glob("*.jsonl")
        return [record for record, _ in read_records(log) if record.event is event]

    def __enter__(self) -> Self:
        config = self._folder / "serve.yaml"
        config.write_text(yaml.safe_dump(self._settings))
        argv = (sys.executable, "-m", "arborgate.server.cli", "serve", "--config", str(config))
        self._process = Process("serve", argv, self._folder)
        self._process.wait_ready(self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=2, trust_env=False).is_success
        except httpx2.HTTPError:
            return False


async def who_am_i(client: Client) -> Seen:
    result = await client.call_tool("whoami", {})
    assert not result.is_error, result.content
    said: dict[str, Any] = result.structured_content
    actors, groups, roles = (tuple(said[name]) for name in ("actors", "groups", "roles"))
    return Seen(said["key"], said["agent"], actors, groups, roles, said["itself"], said["binding"])
