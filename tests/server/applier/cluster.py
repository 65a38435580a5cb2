"""A stand-in for a cluster with Argo CD in it: objects in memory, and a controller that answers each patch at once."""

import copy
from collections.abc import Callable
from typing import Any

from arborgate.policies.errors import Refused, Stale, Unavailable
from arborgate.tools.change import Attribution, Heed, JsonObject, Rehearsed, Target, heed_nobody, merge

APPLICATION = "argoproj.io/v1alpha1"
Key = tuple[str, str, str]


class StandInCluster:
    """Reads, dry-runs and patches like the real one (which the contract tests of the cluster writer run against).

    `patched` are the patches that took effect, in order. `refuses`, `breaks` and `hangs` name objects whose patches are
    turned down, apps that become Degraded by one, and apps whose operations do not end. `before_patch` is called with
    each patch that is about to be tried."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.attributed: list[Attribution] = []
        self.patched: list[tuple[str, JsonObject]] = []
        self.refuses: set[str] = set()
        self.breaks: set[str] = set()
        self.hangs: set[str] = set()
        self.answers = True
        self.before_patch: Callable[[Target], None] = lambda _: None
        self._version = 100

    def add(self, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        metadata.setdefault("uid", f"uid-{obj['kind']}-{metadata['name']}")
        metadata.setdefault("generation", 1)
        self._store(obj)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return next(obj for (one, _, other), obj in self.objects.items() if (one, other) == (kind, name))

    def edit(self, kind: str, name: str, patch: JsonObject) -> None:
        """What somebody else does to an object."""
        self._store(merge(self.get(kind, name), patch))

    async def read(self, target: Target) -> JsonObject | None:
        self._require_answers()
        return copy.deepcopy(self.objects.get(_key(target)))

    async def rehearse(self, target: Target, patch: JsonObject) -> Rehearsed:
        self._require_answers()
        assert patch
        if target.name in self.refuses:
            return Rehearsed(ok=False, refusal="admission webhook says no")
        return Rehearsed(ok=True, warnings=("spec.old is deprecated",))

    async def apply(
        self,
        target: Target,
        patch: JsonObject,
        resource_version: str,
        attribution: Attribution,
        heed: Heed = heed_nobody,  # nothing is waited for
    ) -> JsonObject:
        self._require_answers()
        self.attributed.append(attribution)
        self.before_patch(target)
        obj = self.objects[_key(target)]
        if obj["metadata"]["resourceVersion"] != resource_version:
            raise Stale("the object has been modified")
        if target.name in self.refuses:
            raise Refused("admission webhook says no")
        self.patched.append((target.name, {key: value for key, value in patch.items() if key != "metadata"}))
        changed = merge(obj, patch)
        changed["metadata"] = {**changed["metadata"], "generation": obj["metadata"]["generation"] + 1}
        answer = self._store(changed)
        self._reconcile(target.kind, target.name)
        return answer

    def _reconcile(self, kind: str, name: str) -> None:
        obj = self.get(kind, name)
        status = dict(obj.get("status") or {})
        if kind == "Deployment":
            replicas = obj["spec"]["replicas"]
            status |= {"observedGeneration": obj["metadata"]["generation"]}
            status |= {"updatedReplicas": replicas, "availableReplicas": replicas}
        else:
            if name in self.hangs:
                status["operationState"] = {"operation": obj.get("operation"), "phase": "Running"}
            elif operation := obj.pop("operation", None):
                status["operationState"] = {"operation": operation, "phase": "Succeeded", "startedAt": self._version}
            status["sync"] = {**status["sync"], "comparedTo": {"source": obj["spec"]["source"]}}
        self._store({**obj, "status": status})
        app = self.get("Application", name)
        health = {"status": "Degraded" if name in self.breaks else "Healthy"}
        self._store({**app, "status": {**app["status"], "health": health}})

    def _store(self, obj: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self._version)}
        stored = {**obj, "metadata": metadata}
        self.objects[(obj["kind"], metadata["namespace"], metadata["name"])] = stored
        return copy.deepcopy(stored)

    def _require_answers(self) -> None:
        if not self.answers:
            raise Unavailable("The cluster main does not answer.")


def make_app(name: str, *, wave: int, environment: str) -> dict[str, Any]:
    """An Application that syncs by hand and manages one Deployment of its name."""
    source = {"repoURL": "https://git.example/shop", "path": name, "targetRevision": "v1"}
    return {
        "apiVersion": APPLICATION,
        "kind": "Application",
        "metadata": {
            "name": name,
            "namespace": "argocd",
            "labels": {"env": environment},
            "annotations": {"argocd.argoproj.io/sync-wave": str(wave)},
        },
        "spec": {
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
        },
        "status": {
            "health": {"status": "Healthy"},
            "sync": {"status": "Synced", "revision": "a" * 40, "comparedTo": {"source": source}},
            "history": [{"id": 1, "revision": "b" * 40, "source": source}],
            "resources": [
                {
                    "group": "apps",
                    "version": "v1",
                    "kind": "Deployment",
                    "namespace": "shop",
                    "name": name,
                    "status": "Synced",
                }
            ],
        },
    }


def make_deployment(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1},
    }


def _key(target: Target) -> Key:
    return (target.kind, target.namespace, target.name)
