"""The world that is measured: 2,000 Applications of 20 resources each as an app of apps, on a real API server."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httpx2
from tests.parts.kube import Identity, KubeApi

NAMESPACE: Final = "argocd"
COLLECTION: Final = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/applications"
TEAMS: Final = 40
RESOURCES: Final = 20

_KINDS: Final = (
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("batch", "v1", "CronJob"),
)
_WITH_HEALTH: Final = frozenset({"Deployment", "Service", "Ingress", "CronJob"})

Json = dict[str, Any]


def build_world(count: int) -> Iterator[Json]:
    """The Applications: one root, `TEAMS` parents under it, the rest under those. The same ones every time."""
    yield _build("platform", 0, parent="", children=[f"team-{team:02}" for team in range(TEAMS)])
    names: dict[int, list[str]] = {team: [] for team in range(TEAMS)}
    for number in range(count - TEAMS - 1):
        names[number % TEAMS].append(name_app(number))
    for team, below in names.items():
        yield _build(f"team-{team:02}", team, parent="platform", children=below)
    for number in range(count - TEAMS - 1):
        yield _build(name_app(number), number, parent=f"team-{number % TEAMS:02}", children=())


def name_app(number: int) -> str:
    """The name of the leaf with this number."""
    return f"team-{number % TEAMS:02}-service-{number:04}"


def make_status_patch(mark: str) -> Json:
    """A merge patch as Argo CD's controller would send it: the app turned unhealthy, with `mark` as its message."""
    return {"status": {"health": {"status": "Degraded", "message": mark}}}


def _build(name: str, number: int, *, parent: str, children: Sequence[str]) -> Json:
    failing, drifted = number % 33 == 7, number % 20 == 3
    commit = hashlib.sha1(name.encode()).hexdigest()
    managed = [_child(child) for child in children] or [_resource(name, index, failing) for index in range(RESOURCES)]
    source = {"repoURL": f"https://git.example/{name}.git", "path": "deploy/overlays/live", "targetRevision": "main"}
    tracking = {"argocd.argoproj.io/tracking-id": f"{parent}:argoproj.io/Application:{NAMESPACE}/{name}"}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"env": ("production", "staging", "development")[number % 3], "team": f"team-{number % TEAMS}"},
            "annotations": {**(tracking if parent else {}), "arborgate.dev/redis": f"main:{name}:"},
        },
        "spec": {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": name},
            "syncPolicy": {"automated": {"prune": True}, "syncOptions": ["CreateNamespace=true"]},
        },
        "status": {
            "health": {"status": "Degraded", "message": "0 of 3 replicas are ready: the probe was refused"}
            if failing
            else {"status": "Healthy"},
            "sync": {
                "status": "OutOfSync" if drifted else "Synced",
                "revision": commit,
                "comparedTo": {"source": source, "destination": {"namespace": name}},
            },
            "summary": {"images": [f"registry.example/{name}/api:1.{number}.0", f"registry.example/{name}/job:1.2.3"]},
            "history": [
                {
                    "id": entry,
                    "revision": commit,
                    "deployedAt": f"2025-11-{10 + entry:02}T08:00:00Z",
                    "deployStartedAt": f"2025-11-{10 + entry:02}T07:59:00Z",
                    "source": source,
                }
                for entry in range(3)
            ],
            "operationState": {
                "phase": "Succeeded",
                "message": "successfully synced (all tasks run)",
                "startedAt": "2025-11-12T07:59:00Z",
                "finishedAt": "2025-11-12T08:00:00Z",
                "operation": {"sync": {"revision": commit}},
            },
            "reconciledAt": "2025-11-22T08:00:00Z",
            "resources": managed,
            "sourceType": "Kustomize",
        },
    }


def _child(name: str) -> Json:
    place = {"namespace": NAMESPACE, "name": name}
    return {"group": "argoproj.io", "version": "v1alpha1", "kind": "Application", "status": "Synced", **place}


def _resource(app: str, index: int, failing: bool) -> Json:
    group, version, kind = _KINDS[index % len(_KINDS)]
    resource: Json = {
        "version": version,
        "kind": kind,
        "namespace": app,
        "name": f"{app}-{index}",
        "status": "Synced",
    }
    if group:
        resource["group"] = group
    if kind in _WITH_HEALTH:
        resource["health"] = {"status": "Degraded" if failing and index == 0 else "Healthy"}
    return resource


def fill(api: KubeApi, count: int) -> None:
    """Creates the world on the API server."""
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    asyncio.run(_create(api, list(build_world(count))))


async def _create(api: KubeApi, manifests: Sequence[Json]) -> None:
    waiting = iter(manifests)
    async with httpx2.AsyncClient(
        base_url=api.url,
        verify=ssl.create_default_context(cafile=api.ca_file),
        trust_env=False,
        headers={"Authorization": f"Bearer {api.token(Identity.ADMIN)}"},
        timeout=30,
    ) as client:

        async def work() -> None:
            for manifest in waiting:
                (await client.post(COLLECTION, json=manifest)).raise_for_status()

        await asyncio.gather(*(work() for _ in range(8)))
