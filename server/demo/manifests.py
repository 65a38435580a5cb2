"""The sample world's objects as a cluster with Argo CD holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from ...tools.app import Health
from ...tools.argocd.images import split_image
from ...tools.change import JsonObject
from .store import (
    APP_PROJECT,
    APPLICATION_SET,
    ARGO,
    NAMESPACE,
    ROLLOUT,
    Kind,
    write_time,
)
from .world import HEAD, Planned, Syncing, World
from .world import NAMESPACE as ARGOCD

HERE = "https://kubernetes.default.svc"

Json = dict[str, Any]

_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_LOGGED = "\x1b[31mlast log line:\x1b[0m"
_AVAILABLE = {True: "MinimumReplicasAvailable", False: "MinimumReplicasUnavailable"}


class Phase(StrEnum):
    """How a workload is."""

    FAILING = "failing"
    ROLLING = "rolling"
    RUNNING = "running"

    @property
    def health(self) -> Health:
        return {"failing": Health.DEGRADED, "rolling": Health.PROGRESSING, "running": Health.HEALTHY}[self]


def describe_static(world: World) -> Iterator[tuple[Kind, Json]]:
    """Namespaces, projects and sets: what nothing in the demo changes."""
    for namespace in sorted({app.namespace for app in world.apps.values()}):
        yield NAMESPACE, {"metadata": {"name": namespace}, "status": {"phase": "Active"}}
    for team in sorted({app.team for app in world.apps.values()}):
        yield APP_PROJECT, _describe_project(world, team)
    for name in sorted({app.generated_by for app in world.apps.values() if app.generated_by}):
        yield APPLICATION_SET, _describe_set(world, name)


def describe_application(world: World, app: Planned) -> Json:
    """An Application as Git (or its set) has it: metadata and spec, no status."""
    labels = {"team": app.team}
    if app.environment:
        labels["environment"] = app.environment
    metadata: Json = {"name": app.name, "namespace": ARGOCD, "labels": labels, "annotations": _annotate(app)}
    if app.generated_by:
        owner = {"apiVersion": ARGO, "kind": "ApplicationSet", "name": app.generated_by, "controller": True, "uid": ""}
        metadata["ownerReferences"] = [owner]
    return {"metadata": metadata, "spec": _describe_spec(world, app)}


def describe_source(world: World, app: Planned) -> Json:
    """Where an app's manifests come from."""
    if app.chart is not None:
        tag = {"name": "image.tag", "value": app.releases[-1].version}
        return {
            "repoURL": app.chart.repository,
            "chart": app.chart.name,
            "targetRevision": app.releases[-1].version,
            "helm": {"parameters": [{"name": "image.repository", "value": app.chart.image}, tag]},
        }
    return {"repoURL": world.repository, "path": app.path, "targetRevision": HEAD}


def describe_workload(app: Planned, image: str) -> Json:
    """The Deployment, StatefulSet or Rollout of an app: metadata and spec."""
    labels = {"app.kubernetes.io/name": app.name}
    container = {"name": "main", "image": image, "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}
    return {
        "metadata": {
            "name": app.name,
            "namespace": app.namespace,
            "labels": labels,
            "annotations": _track(app.name, app),
        },
        "spec": {
            "replicas": app.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def describe_state(app: Planned, workload: JsonObject, phase: Phase, at: datetime) -> Json:
    """The status of a workload: its controller has seen it as it is now."""
    metadata, replicas = workload["metadata"], int(workload["spec"].get("replicas", 1))
    running = phase is Phase.RUNNING
    ready = replicas if running else 0
    status: Json = {
        "observedGeneration": metadata["generation"],
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [
            _condition("Available", running, _AVAILABLE[running], "", at),
            _condition(
                "Progressing",
                phase is not Phase.FAILING,
                "ProgressDeadlineExceeded" if phase is Phase.FAILING else "NewReplicaSetAvailable",
                say_health(app, phase, replicas),
                at,
            ),
        ],
    }
    if app.kind is ROLLOUT:
        status |= {"observedGeneration": str(metadata["generation"]), "phase": str(phase.health)}
    return status


def say_health(app: Planned, phase: Phase, replicas: int) -> str:
    """What Argo CD says of a workload's health; empty when it is well."""
    if phase is Phase.FAILING:
        return f'{app.kind.name} "{app.name}" exceeded its progress deadline'
    if phase is Phase.ROLLING:
        return f"Waiting for rollout to finish: 0 of {replicas} updated replicas are available..."
    return ""


def describe_warning(app: Planned, image: str, says: str, count: int, at: datetime) -> Json:
    """The warning that a pod of the app does not stay up. What it quotes is as wild as real log lines are."""
    pod = f"{app.name}-{_hash(image, 9)}-{_hash(app.name, 5)}"
    return {
        "metadata": {"name": f"{pod}.{_hash(image + app.name, 8)}", "namespace": app.namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": app.namespace, "name": pod},
        "type": "Warning",
        "reason": "BackOff",
        "message": f"Back-off restarting failed container main in pod {pod}; {_LOGGED} {says}",
        "count": count,
        "lastTimestamp": write_time(at),
        "source": {"component": "kubelet"},
    }


def list_resource(kind: Kind, namespace: str, name: str, *, synced: bool, wave: int = 0) -> Json:
    """One entry of an Application's `status.resources`, without health."""
    api, _, version = kind.api.rpartition("/")
    entry: Json = {"version": version, "kind": kind.name, "namespace": namespace, "name": name}
    entry["status"] = "Synced" if synced else "OutOfSync"
    return entry | ({"group": api} if api else {}) | ({"syncWave": wave} if wave else {})


def choose_image(source: JsonObject, image: str) -> str:
    """The image that a source runs: Git's, unless a Kustomize override or a Helm parameter says another."""
    name = split_image(image).name
    for text in (source.get("kustomize") or {}).get("images") or ():
        override = split_image(text)
        if name in (override.alias, override.name):
            return str(override).rpartition("=")[2]
    parameters: dict[str, Any] = {
        one["name"]: one["value"] for one in (source.get("helm") or {}).get("parameters") or ()
    }
    repository, tag = parameters.get("image.repository", name), parameters.get("image.tag")
    return f"{repository}:{tag}" if tag else image


def describe_unresolved(source: JsonObject, at: datetime) -> Json:
    """The condition of an app whose target revision Git does not have."""
    message = f"Failed to load target state: unable to resolve {source.get('targetRevision')!r} to a commit SHA"
    return {"type": "ComparisonError", "message": message, "lastTransitionTime": write_time(at)}


def _describe_spec(world: World, app: Planned) -> Json:
    spec: Json = {
        "project": app.team,
        "destination": {"server": HERE, "namespace": app.namespace},
        "source": describe_source(world, app),
        "revisionHistoryLimit": 10,
    }
    if app.syncing is not Syncing.MANUAL:
        spec["syncPolicy"] = {"automated": {"prune": True, "selfHeal": app.syncing is Syncing.SELF_HEAL}}
    return spec


def _annotate(app: Planned) -> Json:
    annotations = _track(app.parent, app, "argoproj.io/Application") if app.parent and not app.generated_by else {}
    if app.wave:
        annotations["argocd.argoproj.io/sync-wave"] = str(app.wave)
    if app.redis:
        annotations["arborgate.dev/redis"] = ",".join(app.redis)
    return annotations


def _track(owner: str, app: Planned, kind: str = "") -> Json:
    """Argo CD's tracking id: which app an object belongs to."""
    namespace = ARGOCD if kind else app.namespace
    kind = kind or f"{app.kind.group}/{app.kind.name}"
    return {"argocd.argoproj.io/tracking-id": f"{owner}:{kind}:{namespace}/{app.name}"}


def _describe_project(world: World, team: str) -> Json:
    namespaces = sorted({app.namespace for app in world.apps.values() if app.team == team})
    return {
        "metadata": {"name": team, "namespace": ARGOCD},
        "spec": {
            "description": f"What team {team} runs.",
            "sourceRepos": ["*"],
            "destinations": [{"server": HERE, "namespace": namespace} for namespace in namespaces],
        },
    }


def _describe_set(world: World, name: str) -> Json:
    members = [app for app in world.apps.values() if app.generated_by == name]
    parent = members[0].parent
    tracking = f"{parent}:argoproj.io/ApplicationSet:{ARGOCD}/{name}"
    return {
        "metadata": {"name": name, "namespace": ARGOCD, "annotations": {"argocd.argoproj.io/tracking-id": tracking}},
        "spec": {
            "generators": [{"list": {"elements": [{"name": app.name} for app in members]}}],
            "template": {"metadata": {"name": "{{.name}}"}, "spec": _describe_spec(world, members[0])},
        },
        "status": {"conditions": []},
    }


def _condition(type_: str, true: bool, reason: str, message: str, at: datetime) -> Json:  # a status
    return {
        "type": type_,
        "status": "True" if true else "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": write_time(at),
    }


def _hash(text: str, length: int) -> str:
    """Letters as Kubernetes appends them to names."""
    return "".join(_SAFE[byte % len(_SAFE)] for byte in hashlib.sha256(text.encode()).digest()[:length])
