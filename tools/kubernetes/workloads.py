"""Workloads and the warnings about them: small indexes of what runs, kept current by reflectors."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..change import JsonObject
from .fields import read_name, read_number, read_object, read_objects, read_text

EVENT_SECONDS = 3_600.0
EVENTS_PER_OBJECT = 5
EVENT_OBJECTS = 10_000

# What Kubernetes appends to a workload's name: hashes without vowels, or a StatefulSet's ordinal.
_HASH = "[bcdfghjklmnpqrstvwxz2456789]"
_PART_OF = re.compile(rf"-(?:{_HASH}{{1,10}}(?:-{_HASH}{{5}})?|\d+)")
_PARTS = frozenset({"Pod", "ReplicaSet"})


@dataclass(frozen=True, slots=True)
class WorkloadCondition:
    """One condition of a workload; `message` is untrusted."""

    type: str
    status: str
    reason: str
    message: str
    at: str


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment, StatefulSet, DaemonSet or Rollout. `images` are its containers' in order, init ones first."""

    cluster: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    desired: int
    ready: int
    updated: int
    paused: bool
    images: tuple[str, ...]
    conditions: tuple[WorkloadCondition, ...]


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """One warning about one object, told `count` times, last at `at` (RFC 3339). `message` is untrusted."""

    uid: str
    kind: str
    namespace: str
    name: str
    reason: str
    message: str
    count: int
    at: str
    seconds: float


WorkloadKey = tuple[str, str, str, str]


class Workloads:
    """All workloads by cluster, kind, namespace and name."""

    def __init__(self) -> None:
        self._found: dict[WorkloadKey, Workload] = {}

    def get(self, cluster: str, kind: str, namespace: str, name: str) -> Workload | None:
        return self._found.get((cluster, kind, namespace, name))

    def put(self, workload: Workload) -> None:
        self._found[_key(workload)] = workload

    def remove(self, workload: Workload) -> None:
        self._found.pop(_key(workload), None)

    def replace(self, cluster: str, kind: str, workloads: Sequence[Workload]) -> None:
        """After a list: the cluster has exactly these of this kind."""
        for key in [key for key in self._found if key[:2] == (cluster, kind)]:
            del self._found[key]
        for workload in workloads:
            self.put(workload)


class Warnings:
    """The newest warnings per object, for an hour; a bound on objects holds even when a cluster is all warnings."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._places: OrderedDict[tuple[str, str, str, str], tuple[WarningEvent, ...]] = OrderedDict()
        self._namespaces: dict[tuple[str, str], set[tuple[str, str]]] = {}

    def about(self, cluster: str, kind: str, namespace: str, name: str) -> Sequence[WarningEvent]:
        """The warnings about an object and about the pods and replica sets made for it, newest first."""
        since = self._now() - EVENT_SECONDS
        found: list[WarningEvent] = []
        for other_kind, other in self._namespaces.get((cluster, namespace), ()):
            is_part = other_kind in _PARTS and other.startswith(name) and _PART_OF.fullmatch(other, len(name))
            if (other_kind, other) == (kind, name) or is_part:
                events = self._places[cluster, namespace, other_kind, other]
                found.extend(event for event in events if event.seconds >= since)
        return sorted(found, key=lambda event: (-event.seconds, event.uid))

    def put(self, cluster: str, event: WarningEvent) -> None:
        if event.seconds < self._now() - EVENT_SECONDS:
            return
        place = (cluster, event.namespace, event.kind, event.name)
        others = [each for each in self._places.pop(place, ()) if each.uid != event.uid]
        newest = sorted((*others, event), key=lambda each: -each.seconds)[:EVENTS_PER_OBJECT]
        self._places[place] = tuple(newest)
        self._namespaces.setdefault(place[:2], set()).add(place[2:])
        if len(self._places) > EVENT_OBJECTS:
            self._forget(next(iter(self._places)))
        self._expire()

    def remove(self, cluster: str, event: WarningEvent) -> None:
        place = (cluster, event.namespace, event.kind, event.name)
        if place in self._places:
            left = tuple(each for each in self._places[place] if each.uid != event.uid)
            self._places[place] = left
            if not left:
                self._forget(place)

    def replace(self, cluster: str, events: Sequence[WarningEvent]) -> None:
        """After a list: the cluster has exactly these."""
        for place in [place for place in self._places if place[0] == cluster]:
            self._forget(place)
        for event in sorted(events, key=lambda event: event.seconds):
            self.put(cluster, event)

    def _expire(self) -> None:
        """Forgets the objects at the front whose newest warning is too old; the least recently warned of come first."""
        since = self._now() - EVENT_SECONDS
        while self._places and next(iter(self._places.values()))[0].seconds < since:
            self._forget(next(iter(self._places)))

    def _forget(self, place: tuple[str, str, str, str]) -> None:
        del self._places[place]
        names = self._namespaces[place[:2]]
        names.discard(place[2:])
        if not names:
            del self._namespaces[place[:2]]


def parse_workload(cluster: str, kind: str, raw: JsonObject) -> Workload:
    """One workload from its object; `kind` since the items of a list do not say theirs. Raises ValueError without a
    name."""
    metadata, spec, status = read_object(raw, "metadata"), read_object(raw, "spec"), read_object(raw, "status")
    pod = read_object(read_object(spec, "template"), "spec")
    daemon = kind == "DaemonSet"
    wanted = read_number(status, "desiredNumberScheduled") if daemon else read_number(spec, "replicas", 1)
    return Workload(
        cluster=cluster,
        kind=kind,
        namespace=read_text(metadata, "namespace"),
        name=read_name(metadata),
        uid=read_text(metadata, "uid"),
        resource_version=read_text(metadata, "resourceVersion"),
        desired=wanted,
        ready=read_number(status, "numberReady" if daemon else "readyReplicas"),
        updated=read_number(status, "updatedNumberScheduled" if daemon else "updatedReplicas"),
        paused=spec.get("paused") is True,
        images=tuple(
            read_text(each, "image") for key in ("initContainers", "containers") for each in read_objects(pod, key)
        ),
        conditions=tuple(
            WorkloadCondition(
                read_text(each, "type"),
                read_text(each, "status"),
                read_text(each, "reason"),
                read_text(each, "message"),
                read_text(each, "lastTransitionTime"),
            )
            for each in read_objects(status, "conditions")
        ),
    )


def parse_warning(raw: JsonObject) -> WarningEvent:
    """One core Event; raises ValueError for one without a name or a time."""
    metadata, about, series = (
        read_object(raw, "metadata"),
        read_object(raw, "involvedObject"),
        read_object(raw, "series"),
    )
    at = (
        read_text(series, "lastObservedTime")
        or read_text(raw, "lastTimestamp")
        or read_text(raw, "eventTime")
        or read_text(metadata, "creationTimestamp")
    )
    return WarningEvent(
        uid=read_text(metadata, "uid") or read_name(metadata),
        kind=read_text(about, "kind"),
        namespace=read_text(about, "namespace"),
        name=read_text(about, "name"),
        reason=read_text(raw, "reason"),
        message=read_text(raw, "message"),
        count=max(read_number(series, "count"), read_number(raw, "count"), 1),
        at=at,
        seconds=datetime.fromisoformat(at).timestamp(),
    )


def _key(workload: Workload) -> WorkloadKey:
    return workload.cluster, workload.kind, workload.namespace, workload.name
