"""Applications and workloads as the API server has them, and their place in a tree."""

from copy import deepcopy
from typing import Any

from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.change import merge
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.tree import AppTree, Node

Json = dict[str, Any]

CLUSTER = "sandbox"
COMMIT = "3f2c1ab0d4e5f60718293a4b5c6d7e8f90a1b2c3"
OLDER = "0a1b2c3d4e5f60718293a4b5c6d7e8f903f2c1ab"
KUSTOMIZE: Json = {
    "repoURL": "https://git.example.org/shop.git",
    "path": "api",
    "targetRevision": "main",
    "kustomize": {"images": ["api=registry.example.org/shop/api:1.4.2", "registry.example.org/shop/proxy:2.0.0"]},
}
HELM: Json = {
    "repoURL": "https://charts.example.org",
    "chart": "api",
    "targetRevision": "1.9.0",
    "helm": {
        "parameters": [{"name": "image.tag", "value": "1.4.2"}, {"name": "replicas", "value": "2"}],
        "valuesObject": {"image": {"repository": "registry.example.org/shop/api"}},
    },
}
AUTOMATED: Json = {"automated": {}}
SELF_HEAL: Json = {"automated": {"selfHeal": True}}

ENVIRONMENTS = Environments(
    (
        EnvironmentRule(name="production", strict=True, labels={"env": "prod"}),
        EnvironmentRule(name="staging", labels={"env": "staging"}),
    )
)


def make_application(
    name: str = "api",
    *,
    namespace: str = "argocd",
    source: Json | None = None,
    sources: list[Json] | None = None,
    policy: Json | None = None,
    env: str = "staging",
    wave: int = 0,
    owner_set: str = "",
    spec: Json | None = None,
    status: Json | None = None,
) -> Json:
    """An Argo CD Application, Synced and Healthy, with two history entries; `spec` and `status` are merged in."""
    described: Json = {"sources": sources} if sources else {"source": deepcopy(source or KUSTOMIZE)}
    kinds = ["Helm" if one.get("chart") or one.get("helm") else "Kustomize" for one in sources or [source or KUSTOMIZE]]
    several: Json = {"sourceTypes": kinds} if sources else {"sourceType": kinds[0]}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "labels": {"env": env},
            "annotations": {"argocd.argoproj.io/sync-wave": str(wave)},
            **(
                {"ownerReferences": [{"apiVersion": "v1", "kind": "ApplicationSet", "name": owner_set, "uid": "u"}]}
                if owner_set
                else {}
            ),
        },
        "spec": merge(
            {
                "project": "default",
                "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
                **described,
                **({"syncPolicy": policy} if policy else {}),
            },
            spec or {},
        ),
        "status": merge(
            {
                **several,
                "health": {"status": "Healthy"},
                "sync": {
                    "status": "Synced",
                    "comparedTo": {"destination": {}, **described},
                    **({"revisions": [COMMIT] * len(sources)} if sources else {"revision": COMMIT}),
                },
                "summary": {"images": ["registry.example.org/shop/api:1.4.2", "registry.example.org/shop/proxy:2.0.0"]},
                "history": [make_entry(1, OLDER, described), make_entry(2, COMMIT, described)],
                "resources": [
                    make_managed("Deployment", name),
                    make_managed("StatefulSet", f"{name}-queue"),
                    make_managed("DaemonSet", f"{name}-agent"),
                    make_managed("Rollout", f"{name}-canary", group="argoproj.io", version="v1alpha1"),
                    make_managed("ConfigMap", name, group="", version="v1"),
                ],
            },
            status or {},
        ),
    }


def make_entry(number: int, revision: str, described: Json) -> Json:
    several = "sources" in described
    return {
        "id": number,
        "deployedAt": f"2026-11-0{number}T08:00:00Z",
        **({"revisions": [revision] * len(described["sources"])} if several else {"revision": revision}),
        **deepcopy(described),
    }


def make_managed(kind: str, name: str, *, group: str = "apps", version: str = "v1") -> Json:
    return {"group": group, "version": version, "kind": kind, "namespace": "shop", "name": name, "status": "Synced"}


def make_workload(kind: str, name: str, *, namespace: str = "shop", replicas: int = 2) -> Json:
    """A Deployment, StatefulSet, DaemonSet or Rollout that the API server accepts."""
    labels = {"app": name}
    spec: Json = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "registry.example.org/shop/api:1.4.2"}]},
        },
    }
    if kind != "DaemonSet":
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = name
    if kind == "Rollout":
        spec["strategy"] = {"canary": {}}
    return {
        "apiVersion": "argoproj.io/v1alpha1" if kind == "Rollout" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "7"},
        "spec": spec,
    }


def make_tree(*applications: Json) -> AppTree:
    """The tree of one cluster that has exactly these."""
    tree = AppTree(ENVIRONMENTS)
    parser = AppParser(CLUSTER, ENVIRONMENTS, {})
    tree.replace(CLUSTER, [parser.parse(raw) for raw in applications])
    return tree


def make_node(application: Json) -> Node:
    """The application's node in a tree of its own."""
    (node,) = make_tree(application).nodes()
    return node
