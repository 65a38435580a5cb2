"""The reflector against a real API server, as `serve` and under its role."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from arborgate.tools.change import JsonObject
from arborgate.tools.kubernetes.fields import read_name
from arborgate.tools.kubernetes.reflector import USUAL, Reflector, Watched
from arborgate.tools.kubernetes.source import Clusters, connect
from tests.parts.kube import Identity, KubeApi

pytestmark = pytest.mark.anyio

QUICK = replace(USUAL, watch=1, grace=0.5, connect=1, last_retry=0.5, relist=0.05)


class Held:
    """The names that are there now."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = 0
        self._changed = asyncio.Event()

    def replace(self, items: Sequence[str]) -> None:
        self.names = set(items)
        self.lists += 1
        self._changed.set()

    def put(self, item: str) -> None:
        self.names.add(item)
        self._changed.set()

    def remove(self, item: str) -> None:
        self.names.discard(item)
        self._changed.set()

    def heard(self, resource_version: str, at: float) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool], *, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def _running(reflector: Reflector[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(reflector.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def clusters(kube_api: KubeApi) -> AsyncIterator[Clusters]:
    found = Clusters({"sandbox": await connect("sandbox", kube_api.kubeconfig(Identity.SERVE), "")})
    yield found
    await found.close()


def _build(clusters: Clusters, held: Held, plural: str, namespace: str) -> Reflector[str]:
    def parse(raw: JsonObject) -> str:
        return read_name(raw["metadata"])

    watched = Watched("argoproj.io/v1alpha1", plural, namespace)
    return Reflector(clusters.client("sandbox"), "sandbox", watched, parse, held, timings=QUICK)


def _application(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "project": "default",
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "web"},
            "source": {"repoURL": "https://git.example/apps.git", "path": name},
        },
    }


async def test_what_is_there_is_listed_and_what_happens_is_seen(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    kube_api.apply(_application("one", kube_namespace))
    held = Held()
    async with _running(_build(clusters, held, "applications", kube_namespace)):
        await held.until(lambda: held.names == {"one"})
        made = await asyncio.to_thread(kube_api.apply, _application("two", kube_namespace))
        await held.until(lambda: held.names == {"one", "two"}, seconds=0.25)
        await asyncio.to_thread(kube_api.call, "DELETE", kube_api.find_path(made))
        await held.until(lambda: held.names == {"one"}, seconds=0.25)
        assert held.lists == 1


async def test_a_watch_is_taken_up_again_and_again_without_a_list(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    held = Held()
    reflector = _build(clusters, held, "applications", kube_namespace)
    async with _running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 20)
        began = reflector.status().heard_at or 0
        await held.until(lambda: (reflector.status().heard_at or 0) > began + 2 * QUICK.watch)
        await asyncio.to_thread(kube_api.apply, _application("one", kube_namespace))
        await held.until(lambda: held.names == {"one"})
        assert held.lists == 1


async def test_a_server_that_went_away_is_found_again(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    held = Held()
    reflector = _build(clusters, held, "applications", kube_namespace)
    async with _running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 20)
        await asyncio.to_thread(kube_api.stop)
        await asyncio.to_thread(kube_api.start)
        await asyncio.to_thread(kube_api.apply, _application("after", kube_namespace))
        await held.until(lambda: held.names == {"after"})
        assert reflector.status().error == ""


async def test_a_server_that_freezes_is_noticed_and_found_again(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    held = Held()
    reflector = _build(clusters, held, "applications", kube_namespace)
    async with _running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 20)
        kube_api.pause()
        async with asyncio.timeout(20):
            while not reflector.status().error:
                await asyncio.sleep(0.01)
        kube_api.resume()
        await asyncio.to_thread(kube_api.apply, _application("after", kube_namespace))
        await held.until(lambda: held.names == {"after"})


async def test_history_that_is_compacted_away_leads_to_a_new_list(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    held = Held()
    reflector = _build(clusters, held, "applications", kube_namespace)
    kube_api.apply(_application("before", kube_namespace))
    async with _running(reflector):
        await held.until(lambda: held.names == {"before"})
    # What happens now is missed, forgotten by etcd, and after a restart also by the server's own cache.
    made = kube_api.apply(_application("missed", kube_namespace))
    kube_api.call("DELETE", kube_api.find_path(_application("before", kube_namespace)))
    assert made["metadata"]["name"] == "missed"
    kube_api.forget_history()
    kube_api.stop()
    kube_api.start()
    async with _running(reflector):
        await held.until(lambda: held.names == {"missed"})
        assert held.lists == 2


async def test_a_kind_that_the_cluster_does_not_have_is_absent(kube_api: KubeApi, kube_namespace: str) -> None:
    clusters = Clusters({"sandbox": await connect("sandbox", kube_api.kubeconfig(Identity.ADMIN), "")})
    reflector = _build(clusters, Held(), "workflows", kube_namespace)
    async with _running(reflector):
        await asyncio.wait_for(reflector.synced.wait(), 20)
        assert (reflector.status().absent, reflector.status().error) == (True, "")
    await clusters.close()
