"""A reflector: keeps what one kind has in a cluster by list + watch, through everything that can happen in between."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import orjson
from aiohttp import ClientPayloadError, ClientResponse, ClientTimeout
from kubernetes.aio.client import ApiClient

from ..change import JsonObject
from .source import FAULTS, collection_path, fetch

log = logging.getLogger(__name__)

PAGE = 500
SLICE = 100
"""How many objects are parsed before other work gets its turn: a large list must not hold up the calls."""

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one event: ten times what etcd stores as one object."""

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Watched:
    """One kind in one place: `api` is the apiVersion, no namespace means all."""

    api: str
    plural: str
    namespace: str = ""
    field_selector: str = ""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. A watch lasts `watch`, then it is taken up where it ended: each time the cluster proves itself alive,
    and a connection that died silently is noticed `grace` later. All waits are drawn from half to the whole."""

    watch: float = 30.0
    grace: float = 5.0
    list: float = 30.0
    connect: float = 5.0
    first_retry: float = 0.25
    last_retry: float = 10.0
    absent: float = 300.0
    relist: float = 1.0


USUAL = Timings()


class Sink(Protocol[T_contra]):
    """Where the objects go. All are called on the event loop's thread and must not block it."""

    def replace(self, items: Sequence[T_contra]) -> None:
        """After a list: exactly these are there."""

    def put(self, item: T_contra) -> None: ...

    def remove(self, item: T_contra) -> None: ...

    def heard(self, resource_version: str, at: float) -> None:
        """The cluster gave a sign of life; `at` is seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class ReflectorStatus:
    """How one reflector is. `synced`: it holds a whole list (maybe an old one). `absent`: the cluster has no such kind.

    `heard_at` is of the monotonic clock, None before the first sign of life. `error` is the class of the last failure,
    or its HTTP status, and empty while all is well.
    """

    cluster: str
    plural: str
    namespace: str
    synced: bool
    absent: bool
    heard_at: float | None
    error: str


class _Answered(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, retry_after: float = 0.0) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after = retry_after


class Reflector(Generic[T]):
    """Lists, then watches, for as long as it is run. It never raises: what goes wrong is in its status, and retried."""

    def __init__(
        self,
        client: ApiClient,
        cluster: str,
        watched: Watched,
        parse: Callable[[JsonObject], T],
        sink: Sink[T],
        *,
        timings: Timings = USUAL,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._watched = watched
        self._parse = parse
        self._sink = sink
        self._timings = timings
        self._monotonic = monotonic
        self._path = collection_path(watched.api, watched.plural, watched.namespace)
        self._version = ""
        self._failures = 0
        self._heard_at: float | None = None
        self._absent = False
        self._error = ""
        self.synced = asyncio.Event()

    def status(self) -> ReflectorStatus:
        return ReflectorStatus(
            cluster=self._cluster,
            plural=self._watched.plural,
            namespace=self._watched.namespace,
            synced=self.synced.is_set(),
            absent=self._absent,
            heard_at=self._heard_at,
            error=self._error,
        )

    async def run(self) -> NoReturn:
        """Runs until it is cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except _Answered as answered:
                await self._recover(answered)
            except FAULTS as error:
                await self._back_off(type(error).__name__)
            except Exception as error:
                # A fault of ours must not end the watch of this kind, nor of others; the list heals what it broke.
                log.exception("%s of %s could not be taken in", self._watched.plural, self._cluster)
                self._version = ""
                await self._back_off(type(error).__name__)

    async def _list(self) -> None:
        items: list[T] = []
        proceed, version = "", ""
        while True:
            query = [("limit", str(PAGE)), *self._selector()]
            if proceed:
                query.append(("continue", proceed))
            limit = ClientTimeout(total=self._timings.list, connect=self._timings.connect)
            async with self._open(query, limit) as response:
                page = orjson.loads(await response.read())
            found, metadata = page.get("items") or [], page.get("metadata") or {}
            for start in range(0, len(found), SLICE):
                items.extend(self._parse_all(found[start : start + SLICE]))
                await asyncio.sleep(0)
            proceed, version = metadata.get("continue") or "", metadata.get("resourceVersion") or ""
            if not proceed:
                break
        self._sink.replace(items)
        self._version = version
        self._absent = False
        self._hear()
        self.synced.set()

    async def _watch(self) -> None:
        seconds = self._timings.watch
        query = [
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(max(round(_jitter(seconds)), 1))),
            *self._selector(),
        ]
        # The server ends the watch after `seconds` at most; silence for longer means that nobody is there.
        limit = ClientTimeout(total=None, connect=self._timings.connect, sock_read=seconds + self._timings.grace)
        began, events = self._monotonic(), 0
        async with self._open(query, limit) as response:
            self._hear()
            async for line in _read_lines(response):
                self._take(orjson.loads(line))
                events += 1
                if events % SLICE == 0:
                    await asyncio.sleep(0)
        if not events and self._monotonic() - began < self._timings.first_retry:
            raise ClientPayloadError("the watch ended as soon as it began")
        self._failures = 0
        self._hear()

    def _take(self, event: dict[str, Any]) -> None:
        kind, raw = event.get("type"), event.get("object")
        if not isinstance(raw, dict):
            raise ValueError("a watch event without an object")
        if kind == "ERROR":
            raise _Answered(code if isinstance(code := raw.get("code"), int) else 500)
        if kind == "DELETED":
            for item in self._parse_all([raw]):
                self._sink.remove(item)
        elif kind in ("ADDED", "MODIFIED"):
            for item in self._parse_all([raw]):
                self._sink.put(item)
        metadata = raw.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if isinstance(version, str) and version:
            self._version = version
        self._failures = 0
        self._hear()

    def _parse_all(self, found: Sequence[JsonObject]) -> list[T]:
        """The objects that can be understood; one that can't is left out, and told to the operators."""
        items: list[T] = []
        for raw in found:
            try:
                items.append(self._parse(raw))
            except ValueError:
                log.warning("one of %s of %s is left out: it can't be read", self._watched.plural, self._cluster)
        return items

    async def _recover(self, answered: _Answered) -> None:
        if answered.status == 404:
            await self._await_kind()
        elif answered.status == 410 and self._version:
            # Gone: what we know is too old to go on from. Replicas must not all list at the same moment.
            self._version = ""
            await asyncio.sleep(_jitter(self._wait(self._timings.relist)))
        else:
            if answered.status == 504:
                # Our version may be ahead of a cluster that was restored from a backup; only a list tells.
                self._version = ""
            await self._back_off(str(answered), answered.retry_after)

    async def _await_kind(self) -> None:
        """The kind is not installed: that is no fault. It is looked for again, ever more rarely."""
        if not self._absent:
            self._absent = True
            self._failures = 0
            self._version = ""
            self._sink.replace([])
        self._hear()
        self.synced.set()
        await asyncio.sleep(_jitter(self._wait(self._timings.relist, self._timings.absent)))

    async def _back_off(self, error: str, at_least: float = 0.0) -> None:
        if error != self._error:
            log.warning("%s of %s can't be watched at the moment: %s", self._watched.plural, self._cluster, error)
        self._error = error
        await asyncio.sleep(max(_jitter(self._wait(self._timings.first_retry)), min(at_least, 60.0)))

    def _wait(self, first: float, last: float | None = None) -> float:
        """How long to wait this time: twice as long after each failure in a row."""
        wait = min(first * 2.0 ** min(self._failures, 20), last or self._timings.last_retry)
        self._failures += 1
        return wait

    def _hear(self) -> None:
        if self._error:
            log.info("%s of %s can be watched again", self._watched.plural, self._cluster)
        self._heard_at = self._monotonic()
        self._error = ""
        self._sink.heard(self._version, self._heard_at)

    def _selector(self) -> list[tuple[str, str]]:
        return [("fieldSelector", self._watched.field_selector)] if self._watched.field_selector else []

    @asynccontextmanager
    async def _open(self, query: Sequence[tuple[str, str]], limit: ClientTimeout) -> AsyncIterator[ClientResponse]:
        """A successful answer; it is closed, not drained, when left early. Raises `_Answered` for any other."""
        async with await fetch(self._client, self._path, query, limit=limit) as response:
            if response.status != 200:
                after = response.headers.get("Retry-After", "")
                raise _Answered(response.status, float(after) if after.isdecimal() else 0.0)
            yield response


async def _read_lines(response: ClientResponse) -> AsyncIterator[bytes]:
    """The lines of an answer as they come. Raises ValueError for one that is too long to be an event."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in lines:
                if line:
                    yield line
        elif len(rest) > LINE_LIMIT:
            raise ValueError("a watch event is too long")


def _jitter(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, keeps no secret
