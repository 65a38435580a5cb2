"""An app: one Argo CD Application as the tree holds it, parsed once when it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class AppId(NamedTuple):
    """What names an app across clusters; written `cluster/namespace/name`."""

    cluster: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.name}" if self.cluster else self.name

    @classmethod
    def parse(cls, text: str) -> AppId:
        """From its written form. Other text becomes an id in no cluster, which no app has; it reads as it was."""
        match text.split("/"):
            case [cluster, namespace, name]:
                return cls(cluster, namespace, name)
            case _:
                return cls("", "", text)


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


class AppSource(NamedTuple):
    """One source of an app (Argo CD `spec.source`)."""

    repo: str
    path: str
    chart: str
    target_revision: str
    images: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    recurse: bool = False


class Deployed(NamedTuple):
    """One entry of an app's history. `at` is RFC 3339 as Argo CD wrote it; `revision` a commit or chart version."""

    id: int
    revision: str
    at: str
    by: str
    source: AppSource | None = None


class Managed(NamedTuple):
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


class Condition(NamedTuple):
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
    controller_namespace: str = ""
    parent_jwks: str = ""

    @property
    def failing(self) -> bool:
        """Whether something is wrong with the app itself: its health, its last operation, or an error condition."""
        return (
            self.health in _FAILING
            or self.operation_phase in _FAILED_PHASES
            or any(condition.type.endswith("Error") for condition in self.conditions)
        )


_FAILING = frozenset({Health.DEGRADED, Health.MISSING, Health.UNKNOWN})
_FAILED_PHASES = frozenset({"Error", "Failed"})
