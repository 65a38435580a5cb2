"""What the sandbox cluster holds: objects under one version counter, and the recent past for those who watch."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from ...tools.change import JsonObject, merge


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: `api` is its apiVersion, `plural` its name in a path."""

    api: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        return self.api.rpartition("/")[0]

    @property
    def qualified(self) -> str:
        """The resource as errors name it: `applications.argoproj.io`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


ARGO, APPS = "argoproj.io/v1alpha1", "apps/v1"
APPLICATION = Kind(ARGO, "Application", "applications")
APPLICATION_SET = Kind(ARGO, "ApplicationSet", "applicationsets")
APP_PROJECT = Kind(ARGO, "AppProject", "appprojects")
DEPLOYMENT = Kind(APPS, "Deployment", "deployments")
EVENT = Kind("v1", "Event", "events")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
POD = Kind("v1", "Pod", "pods")
ROLLOUT = Kind(ARGO, "Rollout", "rollouts")
STATEFUL_SET = Kind(APPS, "StatefulSet", "statefulsets")
KINDS: Sequence[Kind] = (
    APPLICATION,
    APPLICATION_SET,
    APP_PROJECT,
    Kind(APPS, "ControllerRevision", "controllerrevisions"),
    Kind(APPS, "DaemonSet", "daemonsets"),
    DEPLOYMENT,
    EVENT,
    NAMESPACE,
    POD,
    Kind(APPS, "ReplicaSet", "replicasets"),
    ROLLOUT,
    Kind("v1", "Service", "services"),
    STATEFUL_SET,
)


class TooOld(Exception):
    """What happened since that version is no longer known."""


class Happened(StrEnum):
    """What a watch can tell of an object."""

    ADDED = "ADDED"
    DELETED = "DELETED"
    MODIFIED = "MODIFIED"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One thing that happened to an object: what it is now (or was last), and what it was before."""

    version: int
    kind: Kind
    happened: Happened
    object: JsonObject
    before: JsonObject | None


class Store:
    """The objects. They are never changed in place: whoever holds one holds it as it was at its version."""

    def __init__(self, *, remembered: int = 5_000) -> None:
        self.version = 1_000
        self._objects: dict[Kind, dict[tuple[str, str], JsonObject]] = {kind: {} for kind in KINDS}
        self._past: deque[Occurrence] = deque(maxlen=remembered)
        self._known_since = self.version
        self._signal = asyncio.Event()

    def get(self, kind: Kind, namespace: str, name: str) -> JsonObject | None:
        return self._objects[kind].get((namespace, name))

    def select(self, kind: Kind, namespace: str = "") -> list[JsonObject]:
        """The objects of one namespace, or of all when it is empty, in the order of namespace and name."""
        found = self._objects[kind]
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def put(self, kind: Kind, obj: JsonObject) -> JsonObject:
        """Stores a new object, or the next state of one; returns it as stored. The same state again is no change."""
        key = name_of(obj)
        before = self._objects[kind].get(key)
        metadata = dict(obj["metadata"])
        if before is None:
            metadata |= {"generation": 1, "uid": str(uuid.uuid4())}
            metadata.setdefault("creationTimestamp", write_time(datetime.now(UTC)))
        elif merge(obj, {"metadata": {"resourceVersion": before["metadata"]["resourceVersion"]}}) == before:
            return before
        elif obj.get("spec") != before.get("spec"):
            metadata["generation"] = before["metadata"]["generation"] + 1
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        stored = {"apiVersion": kind.api, "kind": kind.name, **obj, "metadata": metadata}
        self._objects[kind][key] = stored
        self._tell(kind, Happened.MODIFIED if before else Happened.ADDED, stored, before)
        return stored

    def patch(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> JsonObject:
        """A JSON merge patch of an object that is there; raises KeyError when it is not."""
        return self.put(kind, merge(self._objects[kind][namespace, name], patch))

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Forgets an object that is there; raises KeyError when it is not."""
        before = self._objects[kind].pop((namespace, name))
        self.version += 1
        last = merge(before, {"metadata": {"resourceVersion": str(self.version)}})
        self._tell(kind, Happened.DELETED, last, before)

    def since(self, kind: Kind, version: int) -> list[Occurrence]:
        """What happened to objects of the kind after that version; raises `TooOld`."""
        if version < self._known_since:
            raise TooOld
        return [one for one in self._past if one.version > version and one.kind is kind]

    def forget(self) -> None:
        """Forgets the past, as a cluster does when it compacts: older versions can't be watched from any more."""
        self._past.clear()
        self.version += 1
        self._known_since = self.version

    async def wait(self, seconds: float) -> None:
        """Returns when anything happens, or after that time."""
        signal = self._signal
        try:
            await asyncio.wait_for(signal.wait(), max(seconds, 0))
        except TimeoutError:
            return

    def wake(self) -> None:
        """Ends every `wait`."""
        self._signal.set()
        self._signal = asyncio.Event()

    def _tell(self, kind: Kind, happened: Happened, obj: JsonObject, before: JsonObject | None) -> None:
        if self._past.maxlen == len(self._past):
            self._known_since = self._past[0].version
        self._past.append(Occurrence(self.version, kind, happened, obj, before))
        self.wake()


def name_of(obj: JsonObject) -> tuple[str, str]:
    """An object's namespace (empty for a kind without) and name."""
    metadata = obj["metadata"]
    return str(metadata.get("namespace", "")), str(metadata["name"])


def write_time(at: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339 in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
