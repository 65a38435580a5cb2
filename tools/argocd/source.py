"""Feeds the app tree from Argo CD: every configured cluster, listed and watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ..app import App, Owned
from ..environments import Environments
from ..kubernetes.reflector import USUAL, Reflector, ReflectorStatus, Sink, Timings, Watched
from ..kubernetes.source import Clusters
from ..kubernetes.workloads import (
    WarningEvent,
    Warnings,
    Workload,
    Workloads,
    parse_warning,
    parse_workload,
)
from ..lineage import ARGO
from ..tree import IN_CLUSTER, AppTree
from .parse import AppParser, AppSet, Project, parse_app_set, parse_project

ARGO_API = f"{ARGO}/v1alpha1"
WORKLOADS = (
    ("DaemonSet", Watched("apps/v1", "daemonsets")),
    ("Deployment", Watched("apps/v1", "deployments")),
    ("Rollout", Watched(ARGO_API, "rollouts")),
    ("StatefulSet", Watched("apps/v1", "statefulsets")),
)
WARNINGS = Watched("v1", "events", field_selector="type=Warning")

T = TypeVar("T", Project, AppSet)


class ArgoCD:
    """The reader of Argo CD's objects in all clusters, and of the workloads and warnings beside them.

    `namespaces` says per cluster where Applications live (none: everywhere), `workloads` in which clusters workloads
    and warnings are watched too. Nothing is read before `run`.
    """

    def __init__(
        self,
        clusters: Clusters,
        tree: AppTree,
        environments: Environments,
        ownership: Mapping[str, Owned],
        *,
        namespaces: Mapping[str, Sequence[str]] | None = None,
        workloads: Collection[str] = (),
        timings: Timings = USUAL,
    ) -> None:
        self._names = tuple(clusters.names)
        self._workloads = Workloads()
        self._warnings = Warnings()
        self._projects: dict[tuple[str, str, str], Project] = {}
        self._app_sets: dict[tuple[str, str, str], AppSet] = {}
        self._reflectors: list[Reflector[Any]] = []
        for name in self._names:
            watch = partial(self._watch, clusters, name, timings)
            places = tuple((namespaces or {}).get(name, ()))
            if places:
                tree.watch_only(name, places)
            parser, alive = AppParser(name, environments, ownership), _Alive(tree, name, places or ("",))
            for place in places or ("",):
                watch(Watched(ARGO_API, "applications", place), parser.parse, _AppSink(tree, alive, place, name))
                watch(
                    Watched(ARGO_API, "applicationsets", place),
                    partial(parse_app_set, name),
                    _Shelf(self._app_sets, name, place),
                )
                watch(
                    Watched(ARGO_API, "appprojects", place),
                    partial(parse_project, name),
                    _Shelf(self._projects, name, place),
                )
            if name in workloads:
                for kind, watched in WORKLOADS:
                    watch(watched, partial(parse_workload, name, kind), _WorkloadSink(self._workloads, name, kind))
                watch(WARNINGS, parse_warning, _WarningSink(self._warnings, name))

    async def run(self) -> None:
        """Watches until it is cancelled. A cluster that is away is tried again; the others are not disturbed."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())

    async def wait_synced(self, timeout: float) -> bool:
        """Whether every kind of every cluster was listed once, or found not to be installed, within these seconds."""
        try:
            async with asyncio.timeout(timeout):
                for reflector in self._reflectors:
                    await reflector.synced.wait()
        except TimeoutError:
            return False
        return True

    def statuses(self) -> Sequence[ReflectorStatus]:
        """How each watch is, by cluster, kind and namespace."""
        return sorted(
            (reflector.status() for reflector in self._reflectors),
            key=lambda status: (status.cluster, status.plural, status.namespace),
        )

    def cluster_of(self, app: App) -> str | None:
        """The configured cluster that the app's workloads run in, or None when that one is not read."""
        if app.destination_cluster in ("", IN_CLUSTER, app.id.cluster):
            return app.id.cluster
        return app.destination_cluster if app.destination_cluster in self._names else None

    def workload(self, cluster: str, kind: str, namespace: str, name: str) -> Workload | None:
        return self._workloads.get(cluster, kind, namespace, name)

    def events(self, cluster: str, kind: str, namespace: str, name: str) -> Sequence[WarningEvent]:
        """The last hour's warnings about a workload and about the pods and replica sets made for it, newest first."""
        return self._warnings.about(cluster, kind, namespace, name)

    def project(self, cluster: str, namespace: str, name: str) -> Project | None:
        """The AppProject of that name; it lives in the namespace of Argo CD's controller."""
        return self._projects.get((cluster, namespace, name))

    def app_set(self, cluster: str, namespace: str, name: str) -> AppSet | None:
        return self._app_sets.get((cluster, namespace, name))

    def _watch(
        self,
        clusters: Clusters,
        cluster: str,
        timings: Timings,
        watched: Watched,
        parse: Callable[[Mapping[str, Any]], Any],
        sink: Sink[Any],
    ) -> None:
        self._reflectors.append(Reflector(clusters.client(cluster), cluster, watched, parse, sink, timings=timings))


class _Alive:
    """When the applications of a cluster were last heard: as long ago as of the namespace that is silent longest."""

    def __init__(self, tree: AppTree, cluster: str, places: Sequence[str]) -> None:
        self._tree = tree
        self._cluster = cluster
        self._heard: dict[str, float | None] = dict.fromkeys(places)

    def hear(self, place: str, resource_version: str, at: float) -> None:
        self._heard[place] = at
        times = [time for time in self._heard.values() if time is not None]
        if len(times) == len(self._heard):
            self._tree.heard(self._cluster, resource_version, min(times))


@dataclass(frozen=True, slots=True)
class _AppSink:
    tree: AppTree
    alive: _Alive
    place: str
    cluster: str

    def replace(self, items: Sequence[App]) -> None:
        self.tree.replace(self.cluster, items, namespace=self.place)

    def put(self, item: App) -> None:
        self.tree.put(item)

    def remove(self, item: App) -> None:
        self.tree.remove(item.id)

    def heard(self, resource_version: str, at: float) -> None:
        self.alive.hear(self.place, resource_version, at)


class _Silent:
    """Only the applications' own watch says how fresh the tree is."""

    def heard(self, resource_version: str, at: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Shelf(_Silent, Generic[T]):
    """Projects or sets of one cluster, in a mapping by cluster, namespace and name."""

    found: dict[tuple[str, str, str], T]
    cluster: str
    place: str

    def replace(self, items: Sequence[T]) -> None:
        for key in [key for key in self.found if key[0] == self.cluster and self.place in ("", key[1])]:
            del self.found[key]
        for item in items:
            self.put(item)

    def put(self, item: T) -> None:
        self.found[item.cluster, item.namespace, item.name] = item

    def remove(self, item: T) -> None:
        self.found.pop((item.cluster, item.namespace, item.name), None)


@dataclass(frozen=True, slots=True)
class _WorkloadSink(_Silent):
    workloads: Workloads
    cluster: str
    kind: str

    def replace(self, items: Sequence[Workload]) -> None:
        self.workloads.replace(self.cluster, self.kind, items)

    def put(self, item: Workload) -> None:
        self.workloads.put(item)

    def remove(self, item: Workload) -> None:
        self.workloads.remove(item)


@dataclass(frozen=True, slots=True)
class _WarningSink(_Silent):
    warnings: Warnings
    cluster: str

    def replace(self, items: Sequence[WarningEvent]) -> None:
        self.warnings.replace(self.cluster, items)

    def put(self, item: WarningEvent) -> None:
        self.warnings.put(self.cluster, item)

    def remove(self, item: WarningEvent) -> None:
        self.warnings.remove(self.cluster, item)
