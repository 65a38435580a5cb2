"""Argo CD's objects in a real API server, seen through the tree as `serve` sees them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from arborgate.tools.argocd.source import ArgoCD
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.kubernetes.reflector import USUAL
from arborgate.tools.kubernetes.source import Clusters, connect
from arborgate.tools.tree import AppId, AppTree, Health, Owned, ParentBy
from tests.parts.kube import Identity, KubeApi
from tests.tools.kubernetes.stand_in import items, run_stand_in, status
from tests.tools.tree.world import draw

pytestmark = pytest.mark.anyio

ENVIRONMENTS = Environments((EnvironmentRule(name="staging", projects=("default",)),))
QUICK = replace(USUAL, watch=1, grace=0.5, connect=1, last_retry=0.2, relist=0.05)
ARGO = "argoproj.io/v1alpha1"


@asynccontextmanager
async def _watching(
    clients: Mapping[str, ApiClient],
    *,
    namespaces: Mapping[str, Sequence[str]] | None = None,
    workloads: Sequence[str] = (),
    ownership: Mapping[str, Owned] | None = None,
) -> AsyncIterator[tuple[ArgoCD, AppTree]]:
    clusters, tree = Clusters(clients), AppTree(ENVIRONMENTS)
    argocd = ArgoCD(
        clusters, tree, ENVIRONMENTS, ownership or {}, namespaces=namespaces, workloads=workloads, timings=QUICK
    )
    task = asyncio.create_task(argocd.run())
    try:
        yield argocd, tree
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await clusters.close()


@pytest.fixture
async def serve(kube_api: KubeApi) -> ApiClient:
    return await connect("sandbox", kube_api.kubeconfig(Identity.SERVE), "")


async def _until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def _application(name: str, namespace: str, **status_fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": ARGO,
        "kind": "Application",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "project": "default",
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "web"},
            "source": {"repoURL": "https://git.example/apps.git", "path": name},
        },
        **({"status": status_fields} if status_fields else {}),
    }


async def test_a_change_in_the_cluster_is_in_the_tree_within_250_ms(
    kube_api: KubeApi, kube_namespace: str, serve: ApiClient
) -> None:
    async with _watching({"sandbox": serve}, ownership={"web": Owned(entity="component:default/web")}) as (
        argocd,
        tree,
    ):
        assert await argocd.wait_synced(20)
        web = AppId("sandbox", kube_namespace, "web")
        made = await asyncio.to_thread(kube_api.apply, _application("web", kube_namespace))
        await _until(lambda: tree.get(web), seconds=0.25)
        node = tree.get(web)
        assert node is not None
        assert (node.app.environment, node.app.owned.entity) == ("staging", "component:default/web")

        await asyncio.to_thread(
            kube_api.apply,
            _application("web", kube_namespace, health={"status": "Degraded"}, sync={"status": "Synced"}),
        )
        await _until(lambda: node.app.health is Health.DEGRADED, seconds=0.25)
        await asyncio.to_thread(kube_api.call, "DELETE", kube_api.find_path(made))
        await _until(lambda: tree.get(web) is None, seconds=0.25)
        fresh = tree.freshness("sandbox")
        assert not fresh.stale
        assert int(fresh.resource_version) > int(made["metadata"]["resourceVersion"])


async def test_parents_children_projects_and_sets_are_linked(
    kube_api: KubeApi, kube_namespace: str, serve: ApiClient
) -> None:
    listed = {"group": "argoproj.io", "version": "v1alpha1", "kind": "Application", "name": "web", "status": "Synced"}
    resources = [{**listed, "namespace": kube_namespace}]
    kube_api.apply(
        _application(
            "root", kube_namespace, resources=resources, health={"status": "Healthy"}, sync={"status": "Synced"}
        )
    )
    kube_api.apply(_application("web", kube_namespace))
    window = {"kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "applications": ["*"]}
    place = {"name": "shop", "namespace": kube_namespace}
    kube_api.apply({"apiVersion": ARGO, "kind": "AppProject", "metadata": place, "spec": {"syncWindows": [window]}})
    kube_api.apply(
        {
            "apiVersion": ARGO,
            "kind": "ApplicationSet",
            "metadata": {"name": "fleet", "namespace": kube_namespace},
            "spec": {
                "generators": [],
                "template": {
                    "metadata": {"name": "x"},
                    "spec": {
                        "project": "default",
                        "destination": {},
                        "source": {"repoURL": "https://git.example/a.git"},
                    },
                },
            },
        }
    )
    async with _watching({"sandbox": serve}) as (argocd, tree):
        assert await argocd.wait_synced(20)
        node = tree.get(AppId("sandbox", kube_namespace, "web"))
        assert node is not None
        assert (node.parent, node.parent_by) == (AppId("sandbox", kube_namespace, "root"), ParentBy.PARENT_STATUS)
        project = argocd.project("sandbox", kube_namespace, "shop")
        assert project is not None
        assert project.sync_windows[0].kind == "deny"
        assert argocd.app_set("sandbox", kube_namespace, "fleet") is not None


async def test_workloads_and_the_warnings_about_their_pods_are_at_hand(
    kube_api: KubeApi, kube_namespace: str, serve: ApiClient
) -> None:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    kube_api.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": kube_namespace},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": pod},
        }
    )
    async with _watching({"sandbox": serve}, workloads=["sandbox"]) as (argocd, _):
        assert await argocd.wait_synced(20)
        workload = argocd.workload("sandbox", "Deployment", kube_namespace, "web")
        assert workload is not None
        assert (workload.desired, workload.ready, workload.images) == (2, 0, ("web:1",))
        for kind in ("Warning", "Normal"):
            about = {"kind": "Pod", "namespace": kube_namespace, "name": "web-6d4cf56db6-x2x9z"}
            kube_api.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": f"web.{kind.lower()}", "namespace": kube_namespace},
                    "involvedObject": about,
                    "type": kind,
                    "reason": kind,
                    "message": "it happened",
                    "lastTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            )
        await _until(lambda: argocd.events("sandbox", "Deployment", kube_namespace, "web"))
        events = argocd.events("sandbox", "Deployment", kube_namespace, "web")
        assert [(event.reason, event.message) for event in events] == [("Warning", "it happened")]


async def test_only_the_configured_namespaces_are_watched(
    kube_api: KubeApi, kube_namespace: str, serve: ApiClient
) -> None:
    with kube_api.fresh_namespace() as other:
        for namespace in (kube_namespace, other):
            kube_api.apply(_application("web", namespace))
        async with _watching({"sandbox": serve}, namespaces={"sandbox": [kube_namespace]}) as (argocd, tree):
            assert await argocd.wait_synced(20)
            assert [node.app.id.namespace for node in tree.nodes()] == [kube_namespace]
            assert {status.namespace for status in argocd.statuses()} == {kube_namespace}


async def test_a_cluster_that_is_away_does_not_disturb_the_others(
    kube_api: KubeApi, kube_namespace: str, serve: ApiClient
) -> None:
    kube_api.apply(_application("web", kube_namespace))
    away = ApiClient(Configuration(host="http://127.0.0.1:9"))
    async with _watching({"away": away, "sandbox": serve}) as (argocd, tree):
        await _until(lambda: tree.get(AppId("sandbox", kube_namespace, "web")))
        assert not await argocd.wait_synced(0.1)
        await _until(lambda: all(status.error for status in argocd.statuses() if status.cluster == "away"))
        by_cluster = {status.cluster: (status.synced, status.error) for status in argocd.statuses()}
        assert by_cluster["away"] == (False, "ClientConnectorError")
        await _until(lambda: all(status.synced for status in argocd.statuses() if status.cluster == "sandbox"))
        assert (tree.freshness("away").stale, tree.freshness("sandbox").stale) == (True, False)


async def test_a_tree_goes_on_answering_while_its_cluster_is_away(
    kube_api: KubeApi, kube_namespace: str, serve: ApiClient
) -> None:
    kube_api.apply(_application("web", kube_namespace))
    async with _watching({"sandbox": serve}) as (argocd, tree):
        assert await argocd.wait_synced(20)
        await asyncio.to_thread(kube_api.stop)
        await _until(lambda: all(status.error for status in argocd.statuses()))
        assert tree.get(AppId("sandbox", kube_namespace, "web")) is not None
        age = tree.freshness("sandbox").age_seconds
        await _until(lambda: tree.freshness("sandbox").age_seconds > age)
        await asyncio.to_thread(kube_api.start)
        await asyncio.to_thread(kube_api.apply, _application("after", kube_namespace))
        await _until(lambda: tree.get(AppId("sandbox", kube_namespace, "after")))


async def test_a_cluster_is_stale_while_one_of_its_namespaces_is_silent() -> None:
    async def refuse_two(request: web.Request) -> web.StreamResponse:
        return await (status(403) if request.path.endswith("/two/applications") else items("a"))(request)

    async with run_stand_in() as server:
        server.lists = [refuse_two] * 100
        async with _watching({"alpha": server.client()}, namespaces={"alpha": ["one", "two"]}) as (argocd, tree):
            await _until(lambda: [each.synced for each in argocd.statuses()] == [True, False, True, True, True, True])
            assert tree.freshness("alpha").stale
            server.lists.clear()
            assert await argocd.wait_synced(20)
            assert not tree.freshness("alpha").stale


def test_the_cluster_of_an_apps_workloads_is_its_own_or_a_configured_one() -> None:
    client = ApiClient(Configuration(host="http://127.0.0.1:9"))
    argocd = ArgoCD(Clusters({"alpha": client, "far": client}), AppTree(ENVIRONMENTS), ENVIRONMENTS, {})
    here = draw("web")
    assert argocd.cluster_of(here) == "alpha"
    assert argocd.cluster_of(replace(here, destination_cluster="far")) == "far"
    assert argocd.cluster_of(replace(here, destination_cluster="https://unknown.example")) is None
