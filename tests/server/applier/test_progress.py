"""When a change counts as done, as failed, or as still on its way."""

from typing import Any

import pytest

from arborgate.server.progress import Progress, judge_progress, operation_digest
from arborgate.tools.change import Change, ChangeKind, Check, JsonObject, Precondition, Target

SOURCE = {"repoURL": "https://git.example/shop", "targetRevision": "v2"}


def make_change(kind: str = "Application", patch: JsonObject | None = None, **check: Any) -> Change:
    return Change(
        kind=ChangeKind.SYNC,
        target=Target(app="m/a/x", cluster="m", api="apps/v1", kind=kind, namespace="n", name="x"),
        summary="",
        precondition=Precondition(uid="u", resource_version="1", fields=(), digest=""),
        patch=patch or {"operation": {}},
        diff="",
        undo=None,
        check=Check(app="m/a/x", **check),
    )


def make_app(health: str = "Healthy", **status: Any) -> dict[str, Any]:
    return {"spec": {"source": SOURCE}, "status": {"health": {"status": health}, **status}}


SYNC = make_change(operation=True)
REVISION = make_change(patch={"spec": {"source": {"targetRevision": "v2"}}}, sync="Synced")
BEFORE = operation_digest(make_app(operationState={"phase": "Succeeded", "startedAt": "1"}))
APP_CASES: tuple[tuple[str, Change, dict[str, Any], Progress], ...] = (
    ("healthy", make_change(), make_app(), Progress.DONE),
    ("progressing", make_change(), make_app("Progressing"), Progress.WAITING),
    ("degraded may still recover", make_change(), make_app("Degraded"), Progress.WAITING),
    ("no status at all", make_change(), {"spec": {}}, Progress.WAITING),
    ("health is not asked for", make_change(health=""), make_app("Degraded"), Progress.DONE),
    (
        "only the last operation is there",
        SYNC,
        make_app(operationState={"phase": "Succeeded", "startedAt": "1"}),
        Progress.WAITING,
    ),
    (
        "the operation still runs",
        SYNC,
        {**make_app(operationState={"phase": "Running", "startedAt": "2"}), "operation": {"sync": {}}},
        Progress.WAITING,
    ),
    (
        "the operation succeeded",
        SYNC,
        make_app(operationState={"phase": "Succeeded", "startedAt": "2"}),
        Progress.DONE,
    ),
    (
        "the operation failed",
        SYNC,
        make_app(operationState={"phase": "Failed", "startedAt": "2", "message": "hook"}),
        Progress.FAILED,
    ),
    (
        "compared with the old revision",
        REVISION,
        make_app(sync={"status": "Synced", "comparedTo": {"source": {**SOURCE, "targetRevision": "v1"}}}),
        Progress.WAITING,
    ),
    (
        "compared with the new revision",
        REVISION,
        make_app(sync={"status": "Synced", "comparedTo": {"source": SOURCE}}),
        Progress.DONE,
    ),
    (
        "not synced yet",
        REVISION,
        make_app(sync={"status": "OutOfSync", "comparedTo": {"source": SOURCE}}),
        Progress.WAITING,
    ),
)


@pytest.mark.parametrize(("change", "app", "progress"), [case[1:] for case in APP_CASES], ids=[c[0] for c in APP_CASES])
def test_an_app_is_judged_by_its_own_words_about_this_change(
    change: Change, app: dict[str, Any], progress: Progress
) -> None:
    assert judge_progress(change, BEFORE, app, app)[0] is progress


def test_an_operation_that_had_failed_before_says_nothing_about_a_change() -> None:
    failed = make_app(operationState={"phase": "Failed", "startedAt": "1", "message": "hook"})
    live = make_workload(observedGeneration=5, updatedReplicas=2, availableReplicas=2)
    scaled = make_change("Deployment", {"spec": {"replicas": 2}})
    assert judge_progress(make_change(), operation_digest(failed), failed, failed)[0] is Progress.DONE
    assert judge_progress(scaled, operation_digest(live), failed, live)[0] is Progress.DONE


def make_workload(replicas: int = 2, **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 5}, "spec": {"replicas": replicas}, "status": status}


WORKLOAD_CASES: tuple[tuple[str, str, dict[str, Any], Progress], ...] = (
    (
        "not taken up",
        "Deployment",
        make_workload(observedGeneration=4, updatedReplicas=2, availableReplicas=2),
        Progress.WAITING,
    ),
    (
        "old pods are still there",
        "Deployment",
        make_workload(observedGeneration=5, updatedReplicas=1, availableReplicas=2),
        Progress.WAITING,
    ),
    (
        "new pods are not available",
        "Deployment",
        make_workload(observedGeneration=5, updatedReplicas=2),
        Progress.WAITING,
    ),
    ("done", "Deployment", make_workload(observedGeneration=5, updatedReplicas=2, availableReplicas=2), Progress.DONE),
    ("scaled to nothing", "Deployment", make_workload(0, observedGeneration=5), Progress.DONE),
    (
        "no progress",
        "Deployment",
        make_workload(observedGeneration=5, conditions=[{"reason": "ProgressDeadlineExceeded"}]),
        Progress.FAILED,
    ),
    ("done", "StatefulSet", make_workload(observedGeneration=5, updatedReplicas=2, readyReplicas=2), Progress.DONE),
    (
        "some nodes lack it",
        "DaemonSet",
        make_workload(observedGeneration=5, desiredNumberScheduled=3, updatedNumberScheduled=2, numberAvailable=3),
        Progress.WAITING,
    ),
    ("its generation is a text", "Rollout", make_workload(observedGeneration="5", phase="Healthy"), Progress.DONE),
    ("paused", "Rollout", make_workload(observedGeneration="5", phase="Paused"), Progress.WAITING),
    ("degraded", "Rollout", make_workload(observedGeneration="5", phase="Degraded"), Progress.FAILED),
    ("its controller says nothing", "Deployment", make_workload(), Progress.DONE),
)


@pytest.mark.parametrize(
    ("kind", "workload", "progress"),
    [case[1:] for case in WORKLOAD_CASES],
    ids=[f"{c[1]}: {c[0]}" for c in WORKLOAD_CASES],
)
def test_a_workload_is_done_when_all_its_pods_are_new_and_available(
    kind: str, workload: dict[str, Any], progress: Progress
) -> None:
    change = make_change(kind, {"spec": {"replicas": 2}})
    assert judge_progress(change, BEFORE, make_app(), workload)[0] is progress
