"""What Argo CD and the workload controllers would do in the sandbox cluster: syncs, rollouts, self-healing.

It runs no container. Whether an image works is written in the sample world, so the same change always ends the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ...tools.app import Health
from ...tools.change import JsonObject
from .manifests import (
    Json,
    Phase,
    choose_image,
    describe_application,
    describe_source,
    describe_state,
    describe_static,
    describe_unresolved,
    describe_warning,
    describe_workload,
    list_resource,
    say_health,
)
from .store import APPLICATION, APPLICATION_SET, EVENT, Store, write_time
from .world import HEAD, NAMESPACE, Missing, Planned, Release, Syncing, World, commit_of

IDLE_SECONDS = 3_600.0
HISTORY = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: from a difference to the sync that ends it, of a sync, of a rollout, between two warnings."""

    notice: float = 0.6
    sync: float = 0.8
    rollout: float = 1.2
    warning: float = 120.0


@dataclass(slots=True)
class Course:
    """Where one app is: what is deployed of it, and what happens to it next (times of the clock, 0 for never)."""

    app: Planned
    spec: Json
    source: Json
    revision: str
    image: str = ""
    phase: Phase = Phase.RUNNING
    history: list[Json] = field(default_factory=list)
    operation: Json = field(default_factory=dict)
    since: float = 0.0
    warned: int = 0
    tried: str = ""
    ends_at: float = 0.0
    heals_at: float = 0.0
    settles_at: float = 0.0
    warns_at: float = 0.0

    def due(self) -> Iterable[float]:
        return (at for at in (self.ends_at, self.heals_at, self.settles_at, self.warns_at) if at)


class Reconciler:
    """Fills the store with the sample world, and moves it on. `settled` is told when an app runs or fails anew."""

    def __init__(
        self,
        world: World,
        store: Store,
        *,
        pace: Pace = Pace(),
        clock: Callable[[], float] = time.time,
        settled: Callable[[str, bool], None] = lambda _app, _running: None,
    ) -> None:
        self._world = world
        self._store = store
        self._pace = pace
        self._clock = clock
        self._settled = settled
        self._courses = {app.name: self._begin(app) for app in world.apps.values()}
        self._populate()

    async def run(self) -> None:
        """Reconciles whatever changes, until it is cancelled."""
        while True:
            now = self._clock()
            due = self.step(now)
            await self._store.wait(due - now)

    def step(self, now: float) -> float:
        """Does all that can be done at this time; returns when there is more to do, should nothing else happen."""
        version = -1
        while version != self._store.version:
            version = self._store.version
            for course in self._courses.values():
                self._advance(course, now)
        due = [at for course in self._courses.values() for at in course.due()]
        return min(due, default=now + IDLE_SECONDS)

    def _begin(self, app: Planned) -> Course:
        source, now = describe_source(self._world, app), self._clock()
        spec = describe_application(self._world, app)["spec"]
        if not app.releases:
            course = Course(app, spec, source, commit_of(app.path, "1"))
            self._record(course, source, course.revision, now - 700 * 3_600, "automated")
        else:
            course = Course(app, spec, source, app.current.revision, app.current.image)
            for release in app.releases[: app.deployed]:
                self._record(course, source, release.revision, now - release.hours_ago * 3_600, release.by)
        if app.missing:
            course.operation = {**course.operation, "phase": "Failed", "message": _refuse(app.missing)}
            course.tried = self._drift(course)
        if app.faults.get(course.image):
            course.phase, course.warns_at, course.warned = Phase.FAILING, now, 11
        course.since = now - (app.current.hours_ago * 3_600 if app.releases else 700 * 3_600)
        return course

    def _populate(self) -> None:
        for kind, obj in describe_static(self._world):
            self._store.put(kind, obj)
        for course in self._courses.values():
            manifest = describe_application(self._world, course.app)
            created = write_time(_at(self._clock() - 720 * 3_600))
            self._store.put(
                APPLICATION, {**manifest, "metadata": {**manifest["metadata"], "creationTimestamp": created}}
            )
            if course.app.releases:
                workload = self._store.put(course.app.kind, describe_workload(course.app, course.image))
                self._report(course, workload)
        self.step(self._clock())

    def _advance(self, course: Course, now: float) -> None:
        live = self._store.get(APPLICATION, NAMESPACE, course.app.name)
        if live is None:
            return
        if live.get("operation") and not course.ends_at:
            self._start(course, live, now)
        elif course.ends_at and now >= course.ends_at:
            self._end(course, live, now)
        if course.app.releases:
            self._watch_workload(course, now)
        self._heal(course, now)
        self._show(course)

    # Operations.

    def _start(self, course: Course, live: JsonObject, now: float) -> None:
        course.ends_at = now + self._pace.sync
        course.operation = {
            "operation": live["operation"],
            "phase": "Running",
            "message": "waiting for completion of the sync",
            "startedAt": write_time(_at(now)),
        }

    def _end(self, course: Course, live: JsonObject, now: float) -> None:
        course.ends_at = 0.0
        operation = course.operation["operation"]
        sync = operation.get("sync") or {}
        source = sync.get("source") or live["spec"]["source"]
        by = operation.get("initiatedBy") or {}
        revision = sync.get("revision") or source.get("targetRevision") or HEAD
        refused = self._deploy_children(course, revision) if not course.app.releases else ""
        release = course.app.release(revision)
        if release is not None:
            self._deploy(course, source, release, now)
        elif course.app.releases:
            refused = f"ComparisonError: unable to resolve {revision!r} to a commit SHA"
        if not refused:
            at = course.revision if release is None else release.revision
            self._record(course, source, at, now, "automated" if by.get("automated") else str(by.get("username", "")))
        course.operation = {
            **course.operation,
            "operation": operation,
            "phase": "Failed" if refused else "Succeeded",
            "message": refused or "successfully synced (all tasks run)",
            "finishedAt": write_time(_at(now)),
        }
        self._store.patch(APPLICATION, NAMESPACE, course.app.name, {"operation": None})

    def _deploy(self, course: Course, source: Json, release: Release, now: float) -> None:
        app, image = course.app, choose_image(source, release.image)
        course.source, course.revision = source, release.revision
        workload = self._store.get(app.kind, app.namespace, app.name)
        wanted = describe_workload(app, image)["spec"]
        if workload is not None and (course.image, workload["spec"]["replicas"]) != (image, app.replicas):
            patch = {"spec": {"replicas": app.replicas, "template": {"spec": wanted["template"]["spec"]}}}
            self._store.patch(app.kind, app.namespace, app.name, patch)
            course.image = image
            self._roll(course, now)

    def _deploy_children(self, course: Course, revision: str) -> str:
        """Puts the children back as Git has them; returns why it could not, if so."""
        if revision not in (HEAD, "HEAD", course.revision):
            return f"ComparisonError: unable to resolve {revision!r} to a commit SHA"
        for child in self._world.children(course.app.name):
            self._restore(child)
        course.tried = self._drift(course)
        return _refuse(course.app.missing) if course.app.missing else ""

    def _restore(self, app: Planned) -> None:
        live = self._store.get(APPLICATION, NAMESPACE, app.name)
        if live is not None:
            self._store.put(APPLICATION, {**live, "spec": self._courses[app.name].spec})

    def _record(self, course: Course, source: Json, revision: str, at: float, by: str) -> None:
        last = course.history[-1]["id"] + 1 if course.history else 0
        entry = {
            "id": last,
            "revision": revision,
            "source": source,
            "deployedAt": write_time(_at(at)),
            "deployStartedAt": write_time(_at(at - self._pace.sync)),
            "initiatedBy": {"automated": True} if by == "automated" else {"username": by},
        }
        course.history = [*course.history, entry][-HISTORY:]
        course.operation = {
            **(course.operation or {"phase": "Succeeded", "message": "successfully synced (all tasks run)"}),
            "startedAt": entry["deployStartedAt"],
            "finishedAt": entry["deployedAt"],
            "syncResult": {"revision": revision, "source": source},
        }

    # Workloads.

    def _watch_workload(self, course: Course, now: float) -> None:
        app = course.app
        workload = self._store.get(app.kind, app.namespace, app.name)
        if workload is None:
            return
        seen = int((workload.get("status") or {}).get("observedGeneration", 0))
        if seen != workload["metadata"]["generation"]:
            self._roll(course, now)
        if course.settles_at and now >= course.settles_at:
            self._settle(course, now)
        if course.warns_at and now >= course.warns_at:
            self._warn(course, now)

    def _roll(self, course: Course, now: float) -> None:
        course.phase, course.since = Phase.ROLLING, now
        course.settles_at, course.warns_at = now + self._pace.rollout, 0.0
        self._report(course)

    def _settle(self, course: Course, now: float) -> None:
        course.settles_at, course.since = 0.0, now
        failing = bool(self._says(course))
        course.phase = Phase.FAILING if failing else Phase.RUNNING
        course.warns_at = now if failing else 0.0
        self._report(course)
        self._settled(course.app.name, not failing)

    def _says(self, course: Course) -> str:
        """What the image says as it fails; empty when it works."""
        if not self._world.pulls(course.image):
            return f"Failed to pull image {course.image!r}: not found"
        return course.app.faults.get(course.image, "")

    def _warn(self, course: Course, now: float) -> None:
        course.warned += 1
        course.warns_at = now + self._pace.warning
        warning = describe_warning(course.app, course.image, self._says(course), course.warned, _at(now))
        self._store.put(EVENT, warning)

    def _report(self, course: Course, workload: JsonObject | None = None) -> None:
        app = course.app
        workload = workload or self._store.get(app.kind, app.namespace, app.name)
        if workload is not None:
            status = describe_state(app, workload, course.phase, _at(course.since))
            self._store.put(app.kind, {**workload, "status": status})

    # What differs from Git, and who ends the difference.

    def _heal(self, course: Course, now: float) -> None:
        app = course.app
        live = self._store.get(APPLICATION, NAMESPACE, app.name)
        drift = self._drift(course)
        if live is None or course.ends_at or live.get("operation") or not drift or not self._heals(course, drift):
            course.heals_at = 0.0
        elif not course.heals_at:
            course.heals_at = now + self._pace.notice
        elif now >= course.heals_at:
            course.heals_at, course.tried = 0.0, drift
            if app.generated_by and live["spec"] != course.spec:
                self._restore(app)
                return
            operation = {"initiatedBy": {"automated": True}, "sync": {"prune": True}, "retry": {"limit": 5}}
            self._store.patch(APPLICATION, NAMESPACE, app.name, {"operation": operation})

    def _heals(self, course: Course, drift: str) -> bool:
        """Whether somebody ends this difference: not twice in the same way, as a failed sync is not repeated."""
        app = course.app
        if app.generated_by and drift.startswith("spec"):
            return True
        if drift == course.tried or app.syncing is Syncing.MANUAL:
            return False
        return app.syncing is Syncing.SELF_HEAL or drift.startswith("revision")

    def _drift(self, course: Course) -> str:
        """What differs, in a word that changes with the difference; empty when nothing does."""
        app = course.app
        live = self._store.get(APPLICATION, NAMESPACE, app.name)
        if live is None:
            return "missing" if app.missing else ""
        if not app.releases:
            drifted = ", ".join(self._drifted(course).values())
            return f"children {drifted}" if drifted else "missing" if app.missing else ""
        if app.generated_by and live["spec"] != course.spec:
            return f"spec {live['metadata']['generation']}"
        release = app.release(live["spec"]["source"].get("targetRevision", HEAD))
        if release is None:
            return ""
        wanted = (release.revision, choose_image(live["spec"]["source"], release.image))
        if wanted != (course.revision, course.image):
            return f"revision {wanted}"
        return "" if self._is_scaled_as_planned(course) else "replicas"

    def _drifted(self, course: Course) -> dict[str, str]:
        """The children whose live spec differs from the one in Git, each with its generation."""
        found = {}
        for child in self._world.children(course.app.name):
            live = self._store.get(APPLICATION, NAMESPACE, child.name)
            if live is not None and live["spec"] != self._courses[child.name].spec:
                found[child.name] = f"{child.name} {live['metadata']['generation']}"
        return found

    def _is_scaled_as_planned(self, course: Course) -> bool:
        app = course.app
        workload = self._store.get(app.kind, app.namespace, app.name)
        return workload is not None and workload["spec"].get("replicas") == app.replicas

    # The status that all of it adds up to.

    def _show(self, course: Course) -> None:
        app = course.app
        live = self._store.get(APPLICATION, NAMESPACE, app.name)
        if live is None:
            return
        source = live["spec"]["source"]
        release = app.release(source.get("targetRevision", HEAD))
        known = release is not None or not app.releases
        drift = self._drift(course)
        health = course.phase.health if app.releases else Health.HEALTHY
        status: Json = {
            "controllerNamespace": NAMESPACE,
            "sourceType": "Helm" if app.chart else "Kustomize" if app.releases else "Directory",
            "sync": {
                "status": ("OutOfSync" if drift else "Synced") if known else "Unknown",
                "revision": release.revision if release else course.revision,
                "comparedTo": {"source": source, "destination": live["spec"]["destination"]},
            },
            "health": {"status": str(health), "lastTransitionTime": write_time(_at(course.since))},
            "history": course.history,
            "operationState": course.operation,
            "resources": list(self._list_resources(course, drift)),
            "summary": {"images": [course.image] if course.image else []},
            "conditions": [] if known else [describe_unresolved(source, _at(self._clock()))],
            "reconciledAt": write_time(_at(self._clock())),
        }
        before = live.get("status") or {}
        if {**status, "reconciledAt": ""} != {**before, "reconciledAt": ""}:
            self._store.put(APPLICATION, {**live, "status": status})

    def _list_resources(self, course: Course, drift: str) -> Iterable[Json]:
        app = course.app
        if app.releases:
            entry = list_resource(app.kind, app.namespace, app.name, synced=not drift)
            health: Json = {"status": str(course.phase.health)}
            if message := say_health(app, course.phase, app.replicas):
                health["message"] = message
            yield entry | {"health": health}
            return
        drifted = self._drifted(course)
        for child in self._world.children(app.name):
            yield list_resource(APPLICATION, NAMESPACE, child.name, synced=child.name not in drifted, wave=child.wave)
        for missing in app.missing:
            yield list_resource(APPLICATION, NAMESPACE, missing.name, synced=False, wave=missing.wave)
        for name in app.generates:
            yield list_resource(APPLICATION_SET, NAMESPACE, name, synced=True)


def _refuse(missing: Iterable[Missing]) -> str:
    return "one or more objects failed to apply, reason: " + "; ".join(one.message for one in missing)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
