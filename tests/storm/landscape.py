"""The apps that the storm goes over, and a controller that rolls out what is written to them, or fails to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from arborgate.tools.change import Change
from arborgate.tools.kubernetes.fields import read_object, read_text
from tests.installation import Installation
from tests.parts.kube import MERGE_PATCH, Identity, KubeApi
from tests.parts.process import wait_until

from .history import History, Write

STARVED, FORBIDDEN, BROKEN = 13, 17, "broken"
"""Replicas that never become available, replicas that admission refuses unless asked for a dry run, and how revisions
begin that fail to sync."""

SOURCE = {"repoURL": "https://git.example.com/shop.git", "path": "app", "targetRevision": "main"}

Json = dict[str, Any]


def build(installation: Installation, apps: int) -> list[str]:
    """So many apps in three waves, each with a Deployment of its name; the names."""
    names = [f"app-{number:03}" for number in range(apps)]
    for number, name in enumerate(names):
        installation.kube.apply(_describe_deployment(name, installation.namespace))
        installation.add_app(
            name,
            metadata={"annotations": {"argocd.argoproj.io/sync-wave": str(number % 3)}},
            status={
                "resources": [_describe_resource(name, installation.namespace)],
                "history": [{"id": 1, "revision": "b" * 40, "deployedAt": "2026-11-19T10:00:00Z", "source": SOURCE}],
            },
        )
    return names


def forbid(kube: KubeApi, namespace: str) -> None:
    """Lets admission refuse `FORBIDDEN` replicas in this namespace, but in dry runs."""
    name = f"storm-{namespace}"
    selected = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    dry = "has(request.dryRun) && request.dryRun"
    kube.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"namespaceSelector": selected, "resourceRules": [rule]},
                "validations": [
                    {"expression": f"({dry}) || object.spec.replicas != {FORBIDDEN}", "message": "unlucky"}
                ],
            },
        }
    )
    kube.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }
    )
    probe = kube.find_path(kube.apply(_describe_deployment("probe", namespace)))

    def refused() -> bool:
        patch = {"spec": {"replicas": FORBIDDEN}}
        if kube.request("PATCH", probe, patch, content_type=MERGE_PATCH).status_code == 422:
            return True
        kube.call("PATCH", probe, {"spec": {"replicas": 1}}, content_type=MERGE_PATCH)
        return False

    wait_until(refused, "admission refuses")


def permit(kube: KubeApi, namespace: str) -> None:
    """Takes `forbid` back."""
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        kube.request("DELETE", f"/apis/admissionregistration.k8s.io/v1/{kind}/storm-{namespace}")


def is_doomed(change: Change) -> bool:
    """Whether the change is one of those that fail on purpose."""
    replicas = read_object(change.patch, "spec").get("replicas")
    revision = read_text(read_object(read_object(change.patch, "operation"), "sync"), "revision")
    return replicas in (STARVED, FORBIDDEN) or revision.startswith(BROKEN)


def mend(installation: Installation, changes: Sequence[Change]) -> None:
    """What the person does who sees to changes that were not undone: pods that get nowhere would fail whatever comes
    next to their Deployment. Raises `httpx2.HTTPError` while the API server is away."""
    for change in changes:
        if change.target.kind == "Deployment" and is_doomed(change):
            path = _deployment_path(installation, change.target.name)
            if installation.kube.call("GET", path)["spec"]["replicas"] == STARVED:
                installation.kube.call("PATCH", path, {"spec": {"replicas": 1}}, content_type=MERGE_PATCH)


class Controller:
    """What Argo CD and the Deployment controller would do about each write, tried until the API server takes it."""

    def __init__(self, installation: Installation, client: httpx2.AsyncClient) -> None:
        self._installation = installation
        self._client = client
        self._waiting: dict[tuple[str, str], None] = {}
        self._more = asyncio.Event()

    def hear(self, write: Write) -> None:
        self._waiting[write.kind, write.name] = None
        self._more.set()

    async def run(self) -> None:
        while True:
            while self._waiting:
                kind, name = next(iter(self._waiting))
                del self._waiting[kind, name]
                try:
                    await self._reconcile(kind, name)
                except httpx2.HTTPError:
                    self._waiting[kind, name] = None
                    await asyncio.sleep(0.05)
            self._more.clear()
            await self._more.wait()

    async def _reconcile(self, kind: str, name: str) -> None:
        path = self._installation.path(name)
        if kind == "Deployment":
            path = _deployment_path(self._installation, name)
        answer = await self._client.get(path)
        if answer.status_code == 404:
            return
        live = answer.raise_for_status().json()
        patch = _roll_out(live) if kind == "Deployment" else _run_operation(live)
        if not patch:
            return
        patch |= {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}}
        written = await self._client.patch(
            f"{path}/status" if kind == "Deployment" else path, json=patch, headers={"Content-Type": MERGE_PATCH}
        )
        written.raise_for_status()


@asynccontextmanager
async def controlling(installation: Installation, history: History) -> AsyncIterator[None]:
    """Runs a controller that hears of writes by the history."""
    kube = installation.kube
    async with httpx2.AsyncClient(
        base_url=kube.url,
        verify=ssl.create_default_context(cafile=kube.ca_file),
        trust_env=False,
        headers={"Authorization": f"Bearer {kube.token(Identity.ADMIN)}"},
        timeout=10,
    ) as client:
        controller = Controller(installation, client)
        history.told = controller.hear
        task = asyncio.create_task(controller.run())
        try:
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _deployment_path(installation: Installation, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{installation.namespace}/deployments/{name}"


def _roll_out(live: Json) -> Json:
    """The status that follows a Deployment's spec; `STARVED` pods get nowhere."""
    generation, replicas = live["metadata"]["generation"], live["spec"]["replicas"]
    if (live.get("status") or {}).get("observedGeneration") == generation:
        return {}
    there, conditions = replicas, list[Mapping[str, str]]()
    if replicas == STARVED:
        there = 0
        conditions = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    counts: Json = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), there)
    return {"status": {**counts, "observedGeneration": generation, "conditions": conditions}}


def _run_operation(live: Json) -> Json:
    """What an Application looks like once its operation has ended and its spec was compared with."""
    source, status = live["spec"]["source"], live["status"]
    compared = {"status": "Synced", "comparedTo": {"source": source, "destination": live["spec"]["destination"]}}
    if operation := live.get("operation"):
        revision = operation["sync"].get("revision", "")
        failed = revision.startswith(BROKEN)
        ended = {
            "operation": operation,
            "phase": "Failed" if failed else "Succeeded",
            "message": "one or more objects failed to apply" if failed else "successfully synced",
            "startedAt": "2026-11-20T10:00:00Z",
            "finishedAt": "2026-11-20T10:00:01Z",
            "retryCount": int((status.get("operationState") or {}).get("retryCount", 0)) + 1,
        }
        return {"operation": None, "status": {"operationState": ended, "sync": {**compared, "revision": revision}}}
    if (status.get("sync") or {}).get("comparedTo", {}).get("source") != source:
        return {"status": {"sync": {**status["sync"], **compared}}}
    return {}


def _describe_deployment(name: str, namespace: str) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
            },
        },
    }


def _describe_resource(name: str, namespace: str) -> Json:
    return {
        "group": "apps",
        "version": "v1",
        "kind": "Deployment",
        "namespace": namespace,
        "name": name,
        "status": "Synced",
    }
