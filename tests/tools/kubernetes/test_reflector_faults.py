"""The reflector against a stand-in server: every fault that list and watch can meet, produced on demand."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from arborgate.tools.change import JsonObject
from arborgate.tools.kubernetes.fields import read_name
from arborgate.tools.kubernetes.reflector import Reflector, Timings, Watched
from arborgate.tools.kubernetes.source import Clusters
from tests.tools.kubernetes.stand_in import (
    GONE,
    StandIn,
    bookmark,
    event,
    items,
    run_stand_in,
    status,
    stream,
)

pytestmark = pytest.mark.anyio

QUICK = Timings(watch=30, grace=1, list=5, connect=2, first_retry=0.01, last_retry=0.1, absent=0.1, relist=0.01)


class Held:
    """What a reflector has told: the names that are there, and the signs of life."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.replaced: list[list[str]] = []
        self.versions: list[str] = []
        self.breaks = False
        self._changed = asyncio.Event()

    def replace(self, items: Sequence[str]) -> None:
        self.names = set(items)
        self.replaced.append(list(items))
        self._changed.set()

    def put(self, item: str) -> None:
        if self.breaks:
            self.breaks = False
            raise RuntimeError("a fault of the sink's own")
        self.names.add(item)
        self._changed.set()

    def remove(self, item: str) -> None:
        self.names.discard(item)
        self._changed.set()

    def heard(self, resource_version: str, at: float) -> None:
        self.versions.append(resource_version)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def _parse(raw: JsonObject) -> str:
    name = read_name(raw["metadata"])
    if name == "unreadable":
        raise ValueError(name)
    return name


@asynccontextmanager
async def _reflecting(
    server: StandIn, timings: Timings = QUICK, token: str = ""
) -> AsyncIterator[tuple[Held, Reflector[str]]]:
    held, clusters = Held(), Clusters({"alpha": server.client(token)})
    things = Watched("example.io/v1", "things")
    reflector = Reflector(clusters.client("alpha"), "alpha", things, _parse, held, timings=timings)
    task = asyncio.create_task(reflector.run())
    try:
        yield held, reflector
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await clusters.close()


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with run_stand_in() as stand_in:
        yield stand_in


async def test_a_list_of_several_pages_is_one_list(server: StandIn) -> None:
    server.lists = [items("a", "b", proceed="next"), items("c", version="7")]
    async with _reflecting(server) as (held, reflector):
        await held.until(lambda: len(server.watched_from) == 1 and bool(held.versions))
        assert held.replaced == [["a", "b", "c"]]
        assert [query.get("continue") for query in server.asked[:2]] == [None, "next"]
        assert server.asked[0]["limit"] == "500"
        assert server.watched_from == ["7"]
        assert reflector.status().synced


async def test_events_are_taken_in_however_the_network_cuts_them(server: StandIn) -> None:
    server.lists = [items("a", "b")]
    events = [
        event("ADDED", "c", "2"),
        event("MODIFIED", "c", "3"),
        event("DELETED", "a", "4"),
        event("ADDED", "d", "5"),
    ]
    server.watches = [stream(*events, pieces=37, then=server.hold)]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: held.names == {"b", "c", "d"})


async def test_a_watch_that_ended_is_taken_up_at_the_last_bookmark_without_a_list(server: StandIn) -> None:
    server.watches = [stream(event("ADDED", "a", "5"), bookmark("20"))]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: len(server.watched_from) == 2 and held.versions[-1] == "20")
        assert server.watched_from == ["1", "20"]
        assert server.asked[1]["allowWatchBookmarks"] == "true"
        assert server.listed == 1
        assert held.names == {"a"}


async def test_a_connection_that_breaks_off_is_taken_up_at_the_last_event(server: StandIn) -> None:
    server.watches = [stream(event("ADDED", "a", "5"), cut=True), stream(event("ADDED", "b", "6"), then=server.hold)]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: held.names == {"a", "b"})
        assert server.watched_from == ["1", "5"]
        assert server.listed == 1


@pytest.mark.parametrize("how", ["event", "status"])
async def test_a_version_that_is_gone_leads_to_a_new_list(server: StandIn, how: str) -> None:
    server.lists = [items("a", "b"), items("b", "c", version="50")]
    server.watches = [stream(GONE) if how == "event" else status(410)]
    async with _reflecting(server) as (held, reflector):
        await held.until(lambda: len(server.watched_from) == 2 and held.versions[-1] == "50")
        assert held.names == {"b", "c"}
        assert server.watched_from == ["1", "50"]
        assert reflector.status().error == ""


async def test_a_page_token_that_expired_starts_the_list_over(server: StandIn) -> None:
    server.lists = [items("a", proceed="next"), status(410), items("b", proceed="next"), items("c")]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: bool(held.replaced))
        assert held.replaced == [["b", "c"]]


async def test_a_cluster_that_went_back_in_time_is_listed_anew(server: StandIn) -> None:
    """After a restore from a backup the API server answers 504 to a version that it has not reached."""
    server.lists = [items("a", version="900"), items("b", version="40")]
    server.watches = [status(504)]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: held.names == {"b"})


async def test_a_connection_that_died_silently_is_noticed(server: StandIn) -> None:
    timings = replace(QUICK, watch=0.05, grace=0.05)
    async with _reflecting(server, timings) as (held, _):
        await held.until(lambda: len(server.watched_from) >= 3)
        assert server.listed == 1


async def test_a_list_that_never_comes_is_given_up_and_asked_for_again(server: StandIn) -> None:
    server.lists = [server.never_answer, items("a")]
    async with _reflecting(server, replace(QUICK, list=0.05)) as (held, _):
        await held.until(lambda: held.names == {"a"})


async def test_a_kind_that_is_not_installed_is_absent_and_no_error(server: StandIn) -> None:
    server.lists = [status(404), status(404), items("a")]
    async with _reflecting(server) as (held, reflector):
        await asyncio.wait_for(reflector.synced.wait(), 10)
        assert (reflector.status().absent, reflector.status().error) == (True, "")
        await held.until(lambda: held.names == {"a"})
        assert not reflector.status().absent


async def test_a_kind_that_is_uninstalled_leaves_nothing(server: StandIn) -> None:
    server.lists = [items("a"), status(404)]
    server.watches = [status(404)]
    async with _reflecting(server) as (held, reflector):
        await held.until(lambda: len(held.replaced) == 2)
        assert held.names == set()
        assert reflector.status().absent


async def test_a_refusal_is_in_the_status_until_it_ends(server: StandIn) -> None:
    server.lists = [status(403), status(403), server.never_answer]
    async with _reflecting(server) as (held, reflector):
        await server.until(lambda: server.listed == 3)
        assert (reflector.status().error, reflector.status().synced) == ("HTTP 403", False)
        server.released.set()
        await held.until(lambda: reflector.status().synced)
        assert reflector.status().error == ""


async def test_a_server_that_asks_for_a_pause_gets_it(server: StandIn) -> None:
    server.lists = [status(429, {"Retry-After": "1"}), items("a")]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: held.names == {"a"})
        assert server.times[1] - server.times[0] >= 1.0


async def test_a_watch_that_ends_as_soon_as_it_begins_is_retried_ever_more_slowly(server: StandIn) -> None:
    server.watches = [stream()] * 5
    async with _reflecting(server, replace(QUICK, first_retry=0.04, last_retry=10)) as (held, _):
        await held.until(lambda: len(server.watched_from) == 6 and held.versions[-1] == "1")
    times = server.times[1:7]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(wait >= 0.02 * 2**failures for failures, wait in enumerate(waits))


async def test_an_object_that_cannot_be_read_does_not_hide_the_others(
    server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    server.lists = [items("a", "unreadable", "b")]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: bool(held.replaced))
        assert held.names == {"a", "b"}
    assert "one of things of alpha is left out" in caplog.text


async def test_an_answer_that_is_not_json_is_retried(server: StandIn) -> None:
    server.watches = [stream(event("ADDED", "a", "2"), {"type": "ADDED"})]
    server.lists = [items("z")]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: len(server.watched_from) == 2)
        assert held.names == {"a", "z"}


async def test_a_fault_while_taking_in_is_logged_and_healed_by_a_list(
    server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    server.lists = [items("a"), items("a", "b")]
    server.watches = [stream(event("ADDED", "b", "2"), then=server.hold)]
    async with _reflecting(server) as (held, _):
        await held.until(lambda: bool(held.replaced))
        held.breaks = True
        await held.until(lambda: held.names == {"a", "b"})
        assert server.listed == 2
    assert "a fault of the sink's own" in caplog.text


async def test_no_credential_is_ever_logged(server: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.lists = [status(401), status(500), items("a")]
    async with _reflecting(server, token="planted-for-this-test") as (held, _):
        await held.until(lambda: held.names == {"a"})
    assert "HTTP 401" in caplog.text
    assert "planted-for-this-test" not in caplog.text
