"""Looking at what probes ask for: replication in Redis, and which servers an HAProxy's statistics page says are up."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from ..policies.errors import BadConfiguration, Refused, Unavailable
from ..tools.change import Change
from ..tools.probes import HaproxyProbe, Probe, RedisProbe
from ..tools.redis.source import RedisState, open_redis_state
from .applier_settings import HaproxySettings, ProbeSettings
from .settings import Settings

_LONGEST = 8_000_000
"""Bytes of a statistics page: about ten thousand servers."""

_SERVER = "2"
"""What the statistics call a server in their column `type` (HAProxy's management guide, section 9.1)."""


@dataclass(frozen=True, slots=True)
class Page:
    """A statistics page as CSV, and the client that may read it."""

    name: str
    url: str
    client: httpx2.AsyncClient


class Prober:
    """Probes by the applier's own sources and endpoints: content from elsewhere can only name them."""

    def __init__(self, settings: ProbeSettings, redis: RedisState, pages: Mapping[str, Page]) -> None:
        self._settings = settings
        self._redis = redis
        self._pages = pages

    def probes(self, change: Change) -> tuple[Probe, ...]:
        """What the change was approved with, and what these settings ask of its app."""
        return tuple(dict.fromkeys((*change.check.probes, *self._settings.of(change.target.app))))

    def check(self, change: Change) -> None:
        """Raises `Refused` for a probe that could never be looked at from here."""
        for probe in self.probes(change):
            known = self._redis.names if isinstance(probe, RedisProbe) else self._pages
            name = probe.source if isinstance(probe, RedisProbe) else probe.endpoint
            if name not in known:
                raise Refused(f"The applier has no {probe.kind} {name} to probe.")

    async def probe(self, change: Change) -> str:
        """Which probe does not hold, and why; `""` when all do. What does not answer does not hold."""
        for probe in self.probes(change):
            try:
                failing = await (
                    self._probe_redis(probe) if isinstance(probe, RedisProbe) else self._probe_haproxy(probe)
                )
            except (Unavailable, Refused) as error:
                failing = error.message
            if failing:
                return failing
        return ""

    async def _probe_redis(self, probe: RedisProbe) -> str:
        for said in await self._redis.info(probe.source):
            if said.get("role") != "master":
                return f"The Redis {probe.source} is no primary."
            there = sum(_is_near(said.get(f"slave{number}"), probe.lag) for number in range(_count(said)))
            if there < probe.replicas:
                return f"The Redis {probe.source} has {there} of {probe.replicas} replicas."
        return ""

    async def _probe_haproxy(self, probe: HaproxyProbe) -> str:
        page = self._pages.get(probe.endpoint)
        if page is None:
            return f"The applier has no haproxy {probe.endpoint} to probe."
        rows = await _read_statistics(page)
        servers = [row for row in rows if row.get("# pxname") == probe.backend and row.get("type") == _SERVER]
        up = sum((row.get("status") or "").startswith("UP") for row in servers)
        told = f"The backend {probe.backend} of the HAProxy {probe.endpoint}"
        if not servers:
            return f"{told} has no servers."
        return "" if up >= probe.up else f"{told} has {up} of {probe.up} servers up."


@asynccontextmanager
async def open_prober(settings: Settings) -> AsyncIterator[Prober]:
    """Nothing is sent yet. Raises `BadConfiguration` for a file that can't be read."""
    redis = open_redis_state(settings.redis)
    pages: dict[str, Page] = {}
    try:
        for name, endpoint in settings.applier.probes.haproxy.items():
            pages[name] = _open_page(name, endpoint)
        yield Prober(settings.applier.probes, redis, pages)
    finally:
        for page in pages.values():
            await page.client.aclose()
        await redis.close()


def _open_page(name: str, endpoint: HaproxySettings) -> Page:
    try:
        password = endpoint.password_file.read_text(encoding="utf-8").strip() if endpoint.password_file else ""
    except OSError as error:
        raise BadConfiguration(
            f"applier.probes.haproxy.{name}.password_file: can't be read: {error.strerror}"
        ) from error
    client = httpx2.AsyncClient(
        auth=(endpoint.username, password) if endpoint.username else None,
        timeout=endpoint.timeout,
        follow_redirects=False,
        trust_env=False,
    )
    return Page(name, f"{endpoint.url};csv", client)


async def _read_statistics(page: Page) -> Sequence[Mapping[str, Any]]:
    """The rows of the page as CSV; raises `Unavailable`, which names no address."""
    told = f"The statistics of the HAProxy {page.name} can't be read."
    body = bytearray()
    try:
        async with page.client.stream("GET", page.url) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise Unavailable(told, detail=f"HTTP {answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _LONGEST:
                    raise Unavailable(told, detail="the page is too long")
    except (httpx2.HTTPError, OSError) as error:
        raise Unavailable(told, detail=type(error).__name__) from error
    rows = csv.DictReader(body.decode("utf-8", "replace").splitlines())
    if "# pxname" not in (rows.fieldnames or ()):
        raise Unavailable(told, detail="it is no statistics page")
    return list(rows)


def _count(said: Mapping[str, Any]) -> int:
    return min(int(said.get("connected_slaves") or 0), 1_000)


def _is_near(replica: Any, lag: int) -> bool:
    """Whether a replica, as INFO tells of it, is connected and not far behind."""
    return isinstance(replica, Mapping) and replica.get("state") == "online" and int(replica.get("lag", lag + 1)) <= lag
