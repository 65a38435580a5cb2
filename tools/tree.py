"""The app tree: environment > parent app > child app > workload, held in memory and read by every call."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from ..policies.model import Resource, ResourceType
from .app import App, AppId, AppSource, Condition, Deployed, Health, Managed, Owned, Sync
from .environments import UNASSIGNED, Environments
from .findings import Finding, FindingKind, Situation, find_stuck_time, judge
from .lineage import Lineage, ParentBy

__all__ = [
    "App",
    "AppId",
    "AppSource",
    "AppTree",
    "Condition",
    "Deployed",
    "Finding",
    "FindingKind",
    "Freshness",
    "Health",
    "Managed",
    "Node",
    "Owned",
    "ParentBy",
    "Sync",
    "app_resource",
]

IN_CLUSTER = "in-cluster"
"""What Argo CD calls the cluster it runs in."""

_HEALTH_RANK = {health: rank for rank, health in enumerate(Health)}
_SYNC_RANK = {sync: rank for rank, sync in enumerate(Sync)}

Rank = tuple[int, int, bool, AppId]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How current an answer is: seconds since the cluster's watch last proved itself alive, and its version."""

    cluster: str
    resource_version: str
    age_seconds: float
    stale: bool


@dataclass(slots=True)
class Node:
    """An app in its place: parent, children (sorted by name), and what a status does not say about it."""

    app: App
    resource: Resource
    parent: AppId | None = None
    parent_by: ParentBy | None = None
    children: tuple[AppId, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


class AppTree:
    """The index. A watcher writes (`put`, `remove`, `replace`, `heard`), calls read; both on the event loop's thread.

    A node stays the same object while its app is there. Findings are judged when somebody reads, since a burst of
    changes is read once.
    """

    def __init__(
        self,
        environments: Environments,
        *,
        stale_after: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._environments = environments
        self._stale_after = stale_after
        self._monotonic = monotonic
        self._now = now
        self._started = monotonic()
        self._lineage = Lineage()
        self._nodes: dict[AppId, Node] = {}
        self._named: dict[str, set[AppId]] = {}
        self._clusters: dict[str, set[AppId]] = {}
        self._watched: dict[str, frozenset[str]] = {}
        self._heard: dict[str, tuple[str, float]] = {}
        self._ranks: list[Rank] = []
        self._rank: dict[AppId, Rank] = {}
        self._tracks: dict[str, bool] = {}
        self._unplaced: set[AppId] = set()
        self._unjudged: set[AppId] = set()
        self._deadlines: list[tuple[float, AppId]] = []
        self._generation = 0
        self._sorted: tuple[int, tuple[Node, ...]] = (-1, ())
        self._roots: tuple[int, tuple[Node, ...]] = (-1, ())

    # Written by the watchers.

    def put(self, app: App) -> None:
        """Adds or replaces one app, and relinks what that moves."""
        self._put(app)
        self._settle()

    def remove(self, app_id: AppId) -> None:
        """Forgets one app; its children are roots or find another parent. Nothing when it is not there."""
        if app_id in self._nodes:
            self._remove(app_id)
            self._settle()

    def replace(self, cluster: str, apps: Iterable[App], *, namespace: str = "") -> None:
        """After a list: the cluster, or that namespace of it, has exactly these. What did not change is left alone."""
        gone = {each for each in self._clusters.get(cluster, ()) if not namespace or each.namespace == namespace}
        changed = False
        for app in apps:
            gone.discard(app.id)
            node = self._nodes.get(app.id)
            if node is None or node.app != app:
                self._put(app)
                changed = True
        for app_id in gone:
            self._remove(app_id)
        if changed or gone:
            self._settle()
            self._judge()

    def watch_only(self, cluster: str, namespaces: Collection[str]) -> None:
        """Apps of other namespaces of this cluster are not seen: what is not there is then unknown, not missing."""
        self._watched[cluster] = frozenset(namespaces)

    def heard(self, cluster: str, resource_version: str, at: float) -> None:
        """The watch of this cluster is alive (list, event or bookmark); `at` is seconds of the monotonic clock."""
        self._heard[cluster] = (resource_version, at)

    # Read by calls.

    def get(self, app_id: AppId) -> Node | None:
        self._judge()
        return self._nodes.get(app_id)

    def find(self, app: str) -> Node | None:
        """The app with this id as text."""
        return self.get(AppId.parse(app))

    def named(self, name: str) -> Sequence[Node]:
        """All apps that the text can mean, by id: `cluster/namespace/name`, `namespace/name` or `name`."""
        self._judge()
        *place, last = name.split("/")
        found = (each for each in self._named.get(last, ()) if place == list(each[:2])[2 - len(place) :])
        return [self._nodes[each] for each in sorted(found)] if len(place) <= 2 else []

    def nodes(self) -> Sequence[Node]:
        """All apps, worst first (health, then sync, then environment strictness, then id). Not to be changed."""
        self._judge()
        if self._sorted[0] != self._generation:
            self._sorted = (self._generation, tuple(self._nodes[rank[-1]] for rank in self._ranks))
        return self._sorted[1]

    def roots(self) -> Sequence[Node]:
        """The apps without a parent, by id. Not to be changed."""
        self._judge()
        if self._roots[0] != self._generation:
            roots = sorted(each for each, node in self._nodes.items() if node.parent is None)
            self._roots = (self._generation, tuple(self._nodes[each] for each in roots))
        return self._roots[1]

    def children(self, node: Node) -> Sequence[Node]:
        self._judge()
        return [self._nodes[each] for each in node.children if each in self._nodes]

    def descendants(self, node: Node) -> Sequence[Node]:
        """Everything under the node, parents before children, without the node; cycles are cut."""
        return [each for each, _depth in self._walk(node)][1:]

    def deepest_failing(self, node: Node) -> Node | None:
        """The failing app furthest down from the node (itself included), or None when all is well.

        Of several equally deep, the worst one, then the first by id."""
        failing = [(-depth, self._rank_of(each.app), each) for each, depth in self._walk(node) if each.app.failing]
        return min(failing, key=lambda found: found[:2])[2] if failing else None

    def resource(self, app_id: AppId) -> Resource:
        """The app as a policy resource. One that is not (or no longer) in the tree is in `unassigned`, hence strict."""
        node = self._nodes.get(app_id)
        return node.resource if node else _absent_resource(app_id, self._environments)

    def freshness(self, cluster: str) -> Freshness:
        """How current the cluster's apps are; one that was never heard is as old as this tree, and stale."""
        version, at = self._heard.get(cluster, ("", self._started))
        age = max(self._monotonic() - at, 0.0)
        return Freshness(cluster, version, age, stale=cluster not in self._heard or age > self._stale_after)

    def undone_by(self, node: Node) -> AppId | None:
        """The parent whose self-heal would revert a live change of this app's spec, or None when no parent would."""
        parent = self._nodes.get(node.parent) if node.parent else None
        if parent is None or node.parent_by is ParentBy.APPLICATION_SET:
            return None
        return parent.app.id if parent.app.automated and parent.app.self_heal else None

    @property
    def generation(self) -> int:
        """Grows with every change; what was computed for one generation holds until the next."""
        return self._generation

    # The parts of a change.

    def _put(self, app: App) -> None:
        node = self._nodes.get(app.id)
        if node is None:
            self._nodes[app.id] = Node(app, _absent_resource(app.id, self._environments))
            self._named.setdefault(app.id.name, set()).add(app.id)
            self._clusters.setdefault(app.id.cluster, set()).add(app.id)
        else:
            node.app = app
        self._lineage.put(app)
        self._unplaced.add(app.id)
        self._unjudged.add(app.id)
        self._unjudged.update(self._lineage.claimants(app.id))
        if parent := self._lineage.parent(app.id):
            self._unjudged.add(parent.id)
        self._sort(app.id, self._rank_of(app))
        if (stuck_at := find_stuck_time(app)) is not None:
            heappush(self._deadlines, (stuck_at, app.id))

    def _remove(self, app_id: AppId) -> None:
        del self._nodes[app_id]
        for index, key in ((self._named, app_id.name), (self._clusters, app_id.cluster)):
            index[key].discard(app_id)
            if not index[key]:
                del index[key]
        self._unplaced.discard(app_id)
        self._unjudged.update(self._lineage.claimants(app_id))
        self._lineage.remove(app_id)
        self._sort(app_id, None)

    def _sort(self, app_id: AppId, rank: Rank | None) -> None:
        old = self._rank.pop(app_id, None)
        if old is not None and old != rank:
            del self._ranks[bisect_left(self._ranks, old)]
        if rank is not None:
            self._rank[app_id] = rank
            if old != rank:
                insort(self._ranks, rank)

    def _rank_of(self, app: App) -> Rank:
        strict = self._environments.strict(app.environment)
        return _HEALTH_RANK[app.health], _SYNC_RANK[app.sync], not strict, app.id

    def _settle(self) -> None:
        """Brings the nodes in line with the lineage, and the resources in line with the nodes."""
        self._generation += 1
        for app_id in self._lineage.take_moved():
            node = self._nodes.get(app_id)
            if node is None:
                continue
            node.parent, node.parent_by = self._lineage.parent(app_id) or (None, None)
            node.children = tuple(sorted(self._lineage.children(app_id), key=_by_name))
            self._unplaced.add(app_id)
            self._unjudged.add(app_id)
        for cluster, app_ids in self._clusters.items():
            tracks = self._lineage.tracked(cluster) > 0
            if self._tracks.get(cluster, False) != tracks:
                self._tracks[cluster] = tracks
                self._unjudged |= app_ids
        self._place()

    def _place(self) -> None:
        """Rebuilds the resources that are out of date, parents first; one that changed takes its children along."""
        while self._unplaced:
            path = [next(iter(self._unplaced))]
            while (above := self._nodes[path[-1]].parent) in self._unplaced and above is not None:
                path.append(above)
            for app_id in reversed(path):
                self._unplaced.discard(app_id)
                node = self._nodes[app_id]
                parents = [self._nodes[node.parent].resource] if node.parent else []
                resource = app_resource(node.app, (*parents, self._environments.resource(node.app.environment)))
                if resource != node.resource:
                    node.resource = resource
                    self._unplaced.update(node.children)

    def _judge(self) -> None:
        """Brings the findings in line with everything else, time included."""
        now = self._now()
        while self._deadlines and self._deadlines[0][0] <= now:
            self._unjudged.add(heappop(self._deadlines)[1])
            self._generation += 1
        if not self._unjudged:
            return
        for app_id in self._unjudged:
            if (node := self._nodes.get(app_id)) is not None:
                node.findings = judge(self._describe(node), now)
        self._unjudged.clear()

    def _describe(self, node: Node) -> Situation:
        app, lineage = node.app, self._lineage
        claims = [each for each in lineage.claims(app.id) if each != app.id]
        return Situation(
            app=app,
            has_parent=node.parent is not None,
            children=[
                (child.app, child.parent_by or ParentBy.PARENT_STATUS)
                for child in map(self._nodes.__getitem__, node.children)
            ],
            listed=[self._nodes[each].app for each in claims if each in self._nodes],
            absent=[each for each in claims if each not in self._nodes and self._would_see(app, each)],
            cycle=lineage.cycle(app.id),
            owners=lineage.owners(app.id),
            healers=lineage.drifted(app.id),
            orphaned=node.parent is None and lineage.names_nobody(app.id),
            others_tracked=self._tracks.get(app.id.cluster, False),
        )

    def _would_see(self, parent: App, child: AppId) -> bool:
        """Whether the child would be in the tree if it existed: in the parent's cluster, in a watched namespace."""
        watched = self._watched.get(child.cluster)
        here = parent.destination_cluster in ("", IN_CLUSTER, child.cluster)
        return here and (not watched or child.namespace in watched)

    def _walk(self, node: Node) -> list[tuple[Node, int]]:
        """The node and everything under it with its depth, parents before children."""
        self._judge()
        found: list[tuple[Node, int]] = []
        todo = [(node, 0)]
        while todo:
            each, depth = todo.pop()
            found.append((each, depth))
            todo.extend((self._nodes[child], depth + 1) for child in reversed(each.children) if child in self._nodes)
        return found


def app_resource(app: App, parents: tuple[Resource, ...]) -> Resource:
    """An app as a policy resource: in its parent app (if any) and in its environment."""
    labels = tuple(sorted(f"{key}={value}" for key, value in app.labels.items()))
    return _resource(app.id, parents, app.environment, labels, app.project)


def _absent_resource(app_id: AppId, environments: Environments) -> Resource:
    return _resource(app_id, (environments.resource(UNASSIGNED),), UNASSIGNED, (), "")


def _resource(
    app_id: AppId, parents: tuple[Resource, ...], environment: str, labels: tuple[str, ...], project: str
) -> Resource:
    return Resource(
        ResourceType.APP,
        str(app_id),
        parents,
        (
            ("cluster", app_id.cluster),
            ("environment", environment),
            ("labels", labels),
            ("name", app_id.name),
            ("namespace", app_id.namespace),
            ("project", project),
        ),
    )


def _by_name(app_id: AppId) -> tuple[str, AppId]:
    return app_id.name, app_id
