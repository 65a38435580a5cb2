"""The app tree: environment > parent app > child app > workload, held in memory and read by every call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ..policies.model import Resource, ResourceType
from .environments import UNASSIGNED, Environments


class AppId(NamedTuple):
    """What names an app across clusters; written `cluster/namespace/name`."""

    cluster: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.name}"


class Health(StrEnum):
    """Argo CD's health of an app or resource, worst first."""

    DEGRADED = "Degraded"
    MISSING = "Missing"
    UNKNOWN = "Unknown"
    PROGRESSING = "Progressing"
    SUSPENDED = "Suspended"
    HEALTHY = "Healthy"


class Sync(StrEnum):
    """Argo CD's sync status."""

    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"
    SYNCED = "Synced"


class ParentBy(StrEnum):
    """How an app's parent was found, in the order of precedence."""

    TRACKING_ID = "tracking_id"
    INSTANCE_LABEL = "instance_label"
    PARENT_STATUS = "parent_status"
    APPLICATION_SET = "application_set"


class FindingKind(StrEnum):
    """The traps of the app-of-apps pattern, and the faults of a tree."""

    CYCLE = "cycle"
    FINALIZER_BLOCKS = "finalizer_blocks"
    HEALTHY_PARENT_MISSING_CHILD = "healthy_parent_missing_child"
    SELF_HEAL_WILL_UNDO = "self_heal_will_undo"
    TWO_PARENTS = "two_parents"
    UNTRACKED = "untracked"
    WAVES_ORDER_NOTHING = "waves_order_nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about an app that a status does not say: what, in our words, and the way out."""

    kind: FindingKind
    message: str
    way_out: str


@dataclass(frozen=True, slots=True)
class AppSource:
    """One source of an app (Argo CD `spec.source`)."""

    repo: str
    path: str
    chart: str
    target_revision: str
    images: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Deployed:
    """One entry of an app's history. `at` is RFC 3339 as Argo CD wrote it; `revision` a commit or chart version."""

    id: int
    revision: str
    at: str
    by: str
    source: AppSource | None = None


@dataclass(frozen=True, slots=True)
class Managed:
    """One object that an app manages (Argo CD `status.resources`)."""

    group: str
    version: str
    kind: str
    namespace: str
    name: str
    sync: str
    health: str
    message: str
    wave: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of an app. `message` is untrusted."""

    type: str
    message: str
    at: str


@dataclass(frozen=True, slots=True)
class Owned:
    """What an app owns elsewhere, from its `arborgate.dev/` annotations or from settings (settings win).

    `redis` holds key prefixes as `source:prefix` (the source's name from settings)."""

    redis: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    entity: str = ""
    documents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class App:
    """One Argo CD Application, parsed once when it changes. All free text in it is untrusted."""

    id: AppId
    uid: str
    resource_version: str
    project: str
    labels: Mapping[str, str]
    wave: int
    sources: tuple[AppSource, ...]
    destination_cluster: str
    destination_namespace: str
    automated: bool
    self_heal: bool
    prune: bool
    health: Health
    health_message: str
    sync: Sync
    revision: str
    images: tuple[str, ...]
    conditions: tuple[Condition, ...]
    operation_phase: str
    operation_message: str
    operation_at: str
    history: tuple[Deployed, ...]
    managed: tuple[Managed, ...]
    reconciled_at: str
    created_at: str
    deleting_since: str
    finalizers: tuple[str, ...]
    owned: Owned
    environment: str
    tracking_id: str
    instance: str
    owner_set: str
    source_type: str = ""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How current an answer is: seconds since the cluster's watch last proved itself alive, and its resource version."""

    cluster: str
    resource_version: str
    age_seconds: float
    stale: bool


@dataclass(slots=True)
class Node:
    """An app in its place: parent, children (sorted by name), and the deepest failing descendant (itself included)."""

    app: App
    resource: Resource
    parent: AppId | None = None
    parent_by: ParentBy | None = None
    children: tuple[AppId, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


class AppTree:
    """The index. A watcher writes (`put`, `remove`, `replace`, `heard`), calls read; both on the event loop's thread."""

    def __init__(self, environments: Environments, *, stale_after: float = 60.0) -> None: ...

    # Written by the watchers.

    def put(self, app: App) -> None:
        """Adds or replaces one app, and relinks what that moves."""

    def remove(self, app_id: AppId) -> None: ...

    def replace(self, cluster: str, apps: Iterable[App]) -> None:
        """After a list: the cluster has exactly these."""

    def heard(self, cluster: str, resource_version: str, at: float) -> None:
        """The watch of this cluster is alive (list, event or bookmark); `at` is seconds of the monotonic clock."""

    # Read by calls.

    def get(self, app_id: AppId) -> Node | None: ...

    def named(self, name: str) -> Sequence[Node]:
        """All apps that the text can mean: `cluster/namespace/name`, `namespace/name` or `name`."""
        ...

    def nodes(self) -> Sequence[Node]:
        """All apps, worst first (health, then sync, then environment strictness, then id). Not to be changed."""
        ...

    def roots(self) -> Sequence[Node]: ...

    def children(self, node: Node) -> Sequence[Node]: ...

    def descendants(self, node: Node) -> Sequence[Node]:
        """Everything under the node, parents before children, without the node; cycles are cut."""
        ...

    def deepest_failing(self, node: Node) -> Node | None:
        """The failing app furthest down from the node (itself included), or None when all is well."""
        ...

    def resource(self, app_id: AppId) -> Resource:
        """The app as a policy resource. One that is not (or no longer) in the tree is in `unassigned`, hence strict."""
        ...

    def freshness(self, cluster: str) -> Freshness: ...

    @property
    def generation(self) -> int:
        """Grows with every change; what was computed for one generation holds until the next."""
        ...


def app_resource(app: App, parents: tuple[Resource, ...]) -> Resource:
    """An app as a policy resource: in its parent app (if any) and in its environment."""
    return Resource(
        ResourceType.APP,
        str(app.id),
        parents,
        (
            ("cluster", app.id.cluster),
            ("environment", app.environment),
            ("labels", tuple(sorted(f"{key}={value}" for key, value in app.labels.items()))),
            ("name", app.id.name),
            ("namespace", app.id.namespace),
            ("project", app.project),
        ),
    )
