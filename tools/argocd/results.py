"""What the app tools answer: small rows, each made from one part of the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from .. import cuts
from ..promotion.story import Rung
from ..times import read_time
from ..tool import Identity, Result, Untrusted
from ..tree import AppSource, Deployed, FindingKind, Freshness, Health, Managed, Node, ParentBy, Sync
from .sight import Sight

_TEXT = 600
_REASON = 100
_ABOUT = 8
_CONDITIONS = 5
_HEALTHS = frozenset(Health)
_SYNCS = frozenset(Sync)
_FINE = frozenset({"", "Running", "Succeeded"})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fresh(_Part):
    cluster: str
    version: str
    age_seconds: float
    stale: bool = Field(description="older than the platform allows: the live state may differ")


class AppRow(_Part):
    app: str
    environment: str
    project: Untrusted
    health: Health
    sync: Sync
    message: Untrusted | None = None
    failing_below: str | None = Field(default=None, description="deepest failing app under this one")


class AppList(Result):
    total: int
    health: dict[str, int]
    apps: list[AppRow]
    fresh: list[Fresh]
    cursor: str | None = Field(default=None, description="of the next page")


class TreeRow(_Part):
    depth: int
    app: str
    environment: str
    health: Health
    sync: Sync
    folded: int | None = Field(default=None, description="children not shown")
    failing_below: str | None = Field(default=None, description="deepest failing app in what is not shown")


class TreeRows(Result):
    rows: list[TreeRow] = Field(description="parents before children")
    fresh: list[Fresh]


class Source(_Part):
    repo: Untrusted
    path: Untrusted | None = None
    chart: Untrusted | None = None
    target_revision: Untrusted
    images: list[Untrusted]
    parameters: dict[str, Untrusted]


class Happening(_Part):
    """A condition, an operation or an event."""

    type: Untrusted
    message: Untrusted | None = None
    at: str


class Deploy(_Part):
    id: int = Field(description="for a rollback")
    revision: Untrusted
    at: str
    by: Untrusted | None = None


class ManagedRow(_Part):
    kind: Untrusted
    name: Untrusted
    sync: str
    health: str | None = None
    message: Untrusted | None = None


class Resources(_Part):
    total: int
    health: dict[str, int]
    out_of_sync: int
    shown: list[ManagedRow]


class Owns(_Part):
    redis: list[Untrusted] = Field(description="source:prefix")
    routes: list[Untrusted]
    entity: Untrusted | None = None
    documents: list[Untrusted]


class Children(_Part):
    total: int
    health: dict[str, int]
    failing: list[str]


class Problem(_Part):
    app: str
    kind: FindingKind
    message: str
    way_out: str
    about: list[str] | None = Field(default=None, description="other apps concerned")


Automation = Literal["prune", "self_heal", "sync"]


class AppDetail(Result):
    app: str
    environment: str
    project: Untrusted
    labels: dict[str, Untrusted]
    health: Health
    message: Untrusted | None = None
    sync: Sync
    revision: Untrusted
    automated: list[Automation]
    wave: int
    destination: Untrusted
    sources: list[Source]
    images: list[Untrusted]
    conditions: list[Happening]
    operation: Happening | None = None
    history: list[Deploy] = Field(description="newest first")
    resources: Resources
    owns: Owns
    parent: str | None = None
    parent_by: ParentBy | None = None
    children: Children
    deepest_failing: str | None = None
    findings: list[Problem]
    deleting_since: str | None = None
    promoted: Identity | None = None
    elsewhere: list[Rung] = Field(description="the same in other environments")
    fresh: Fresh


class WorkloadRow(_Part):
    kind: str
    name: str
    replicas: int
    ready: int
    message: Untrusted | None = None


class Failure(_Part):
    app: str
    path: list[str] = Field(description="from the asked app down")
    environment: str
    health: Health
    sync: Sync
    message: Untrusted | None = None
    operation: Happening | None = None
    conditions: list[Happening]
    resources: list[ManagedRow]
    workloads: list[WorkloadRow]
    events: list[Happening]
    last_deploy: Deploy | None = None


class NextCall(_Part):
    tool: str
    arguments: dict[str, JsonValue]
    why: str


class Diagnosis(Result):
    app: str
    verdict: str
    health: Health
    sync: Sync
    failing: list[Failure] = Field(description="deepest first; what is above them fails because of them")
    findings: list[Problem]
    next: list[NextCall]
    fresh: list[Fresh]


def fresh(freshness: Freshness) -> Fresh:
    return Fresh(
        cluster=freshness.cluster,
        version=freshness.resource_version,
        age_seconds=round(freshness.age_seconds, 1),
        stale=freshness.stale,
    )


def shorten(text: str, length: int = _TEXT) -> str | None:
    """The text in at most that many characters; None when there is none."""
    return cuts.shorten(text.strip(), length) or None


def show_moment(text: str) -> str:
    """A time as a system outside wrote it; nothing where it wrote something else into that place."""
    return text if read_time(text) is not None else ""


def summarise(sight: Sight, node: Node) -> str | None:
    """The first thing an app says about what is wrong with it, in short."""
    app = node.app
    said = [app.health_message, *(condition.message for condition in app.conditions)]
    if app.operation_phase not in _FINE:
        said.append(app.operation_message)
    return next((short for text in said if (short := shorten(sight.quote(node, text), _REASON))), None)


def count_health(nodes: Iterable[Node]) -> dict[str, int]:
    """How many of each health, worst first; only those that occur."""
    counts = Counter(node.app.health for node in nodes)
    return {health: counts[health] for health in Health if counts[health]}


@lru_cache(maxsize=8_192)
def show_source(source: AppSource) -> Source:
    """Made once, as nothing in it depends on who asks; so are deploys."""
    return Source(
        repo=source.repo,
        path=source.path or None,
        chart=source.chart or None,
        target_revision=source.target_revision,
        images=list(source.images),
        parameters=dict(source.parameters),
    )


def show_conditions(sight: Sight, node: Node) -> list[Happening]:
    return [
        Happening(
            type=condition.type, message=shorten(sight.quote(node, condition.message)), at=show_moment(condition.at)
        )
        for condition in node.app.conditions[:_CONDITIONS]
    ]


def show_operation(sight: Sight, node: Node) -> Happening | None:
    app = node.app
    if not app.operation_phase:
        return None
    message = shorten(sight.quote(node, app.operation_message))
    return Happening(type=app.operation_phase, message=message, at=show_moment(app.operation_at))


@lru_cache(maxsize=16_384)
def show_deploy(deployed: Deployed) -> Deploy:
    return Deploy(id=deployed.id, revision=deployed.revision, at=show_moment(deployed.at), by=deployed.by or None)


def show_managed(managed: Managed) -> ManagedRow:
    name = f"{managed.namespace}/{managed.name}" if managed.namespace else managed.name
    kind = f"{managed.kind}.{managed.group}" if managed.group else managed.kind
    return ManagedRow(
        kind=kind,
        name=name,
        sync=managed.sync if managed.sync in _SYNCS else Sync.UNKNOWN,
        health=(managed.health if managed.health in _HEALTHS else Health.UNKNOWN) if managed.health else None,
        message=shorten(managed.message, 300),
    )


def show_findings(sight: Sight, node: Node) -> list[Problem]:
    app = str(node.app.id)
    return [
        Problem(
            app=app,
            kind=finding.kind,
            message=finding.message,
            way_out=finding.way_out,
            about=[str(each) for each in finding.apps[:_ABOUT]] or None,
        )
        for finding in sight.findings(node)
    ]
