"""Whether a change has worked yet: judged by what the app, and the workload that was changed, say of themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from ..tools.change import Change, Check, JsonObject, fields_digest
from ..tools.cuts import shorten
from ..tools.diff import list_fields
from .git_checks import is_commit, waits_for_argo

_FAILED_OPERATIONS = ("Error", "Failed")
_BROKEN = ("Degraded", "Missing")
_REPLICAS: Mapping[str, tuple[str, str]] = {
    "DaemonSet": ("updatedNumberScheduled", "numberAvailable"),
    "Deployment": ("updatedReplicas", "availableReplicas"),
    "StatefulSet": ("updatedReplicas", "readyReplicas"),
}


class Progress(StrEnum):
    """How far a change that was applied has come."""

    DONE = "done"
    FAILED = "failed"
    WAITING = "waiting"


def judge_progress(change: Change, seen: str, app: JsonObject, target: JsonObject) -> tuple[Progress, str]:
    """How far it has come, and what it waits for or why it failed. `seen` is the `operation_digest` of the
    target from before."""
    if waits_for_argo(change, app, target):
        return Progress.WAITING, "Argo CD has not taken the commit up yet."
    return _first_open(
        _judge_operation(change.check, seen, app) if _is_seen_on(change) else (Progress.DONE, ""),
        _judge_workload(change, target),
        _judge_app(change, app),
    )


def judge_lasting(change: Change, app: JsonObject, target: JsonObject) -> tuple[Progress, str]:
    """Whether a change that had worked still does: `FAILED` when it broke, `WAITING` while it moves. Later operations
    and what Git says meanwhile are not about it."""
    return _first_open(_judge_workload(change, target), _judge_health(change.check, app, broken=_BROKEN))


def operation_digest(app: JsonObject) -> str:
    """What the app says of its last operation, as a digest: another digest, another operation (or its progress)."""
    return fields_digest(app, ("/status/operationState",))


def writes_operation(patch: JsonObject) -> bool:
    """Whether a patch of an Application starts an operation, which Argo CD takes off the object when it is done."""
    return "operation" in patch


def _first_open(*judged: tuple[Progress, str]) -> tuple[Progress, str]:
    for wanted in (Progress.FAILED, Progress.WAITING):
        for progress, message in judged:
            if progress is wanted:
                return progress, message
    return Progress.DONE, ""


def _judge_operation(check: Check, seen: str, app: JsonObject) -> tuple[Progress, str]:
    """An operation that was there before the change, or still is asked for, says nothing about this one."""
    state = _status(app).get("operationState") or {}
    ours = operation_digest(app) != seen
    if ours and not app.get("operation") and state.get("phase") in _FAILED_OPERATIONS:
        return (
            Progress.FAILED,
            f"The operation ended as {state['phase']}: {shorten(str(state.get('message', '')), 500)}",
        )
    if check.operation and not (ours and not app.get("operation") and state.get("phase") == "Succeeded"):
        return Progress.WAITING, "The operation has not ended."
    return Progress.DONE, ""


def _judge_app(change: Change, app: JsonObject) -> tuple[Progress, str]:
    status, check = _status(app), change.check
    compared = (status.get("sync") or {}).get("comparedTo") or {}
    spec = app.get("spec") or {}
    for name in ("source", "sources"):
        # Until Argo CD has compared with the spec as it is now, its status is about the one before.
        if _writes_spec(change) and check.health and name in compared and compared[name] != spec.get(name):
            return Progress.WAITING, "Argo CD has not looked at the change yet."
    sync = (status.get("sync") or {}).get("status", "")
    if check.sync and sync != check.sync:
        return Progress.WAITING, f"The app is {sync or 'of unknown sync status'}, not {check.sync}."
    return _judge_health(check, app)


def _judge_health(check: Check, app: JsonObject, broken: Collection[str] = ()) -> tuple[Progress, str]:
    """An app may well be Degraded until a change has worked; afterwards that is one of the states that are `broken`."""
    health = (_status(app).get("health") or {}).get("status", "")
    if not check.health or health == check.health:
        return Progress.DONE, ""
    progress = Progress.FAILED if health in broken else Progress.WAITING
    return progress, f"The app is {health or 'of unknown health'}, not {check.health}."


def _judge_workload(change: Change, target: JsonObject) -> tuple[Progress, str]:
    """A workload whose controller does not say which generation it has seen is judged by its app alone."""
    status, kind = _status(target), change.target.kind
    if kind == "Application" or "observedGeneration" not in status:
        return Progress.DONE, ""
    if int(status["observedGeneration"]) < int(target["metadata"].get("generation", 0)):
        return Progress.WAITING, f"{kind} {change.target.name} has not taken the change up yet."
    for condition in status.get("conditions") or ():
        if condition.get("reason") == "ProgressDeadlineExceeded":
            return Progress.FAILED, f"{kind} {change.target.name} makes no progress."
    if kind == "Rollout" and status.get("phase") != "Healthy":
        failed = status.get("phase") == "Degraded"
        message = f"Rollout {change.target.name} is {status.get('phase', 'of unknown phase')}."
        return (Progress.FAILED if failed else Progress.WAITING), message
    if kind in _REPLICAS:
        wanted = status.get("desiredNumberScheduled", 0) if kind == "DaemonSet" else target["spec"].get("replicas", 1)
        there = min(status.get(name, 0) for name in _REPLICAS[kind])
        if there < wanted:
            return Progress.WAITING, f"{kind} {change.target.name} has {there} of {wanted} new pods."
    return Progress.DONE, ""


def _is_seen_on(change: Change) -> bool:
    """Whether `seen` is of the app's own operations: what is read before a change of a workload, or a commit, has none, so
    one that failed long ago would pass for ours."""
    return change.target.kind == "Application" and not is_commit(change)


def _writes_spec(change: Change) -> bool:
    return change.target.kind == "Application" and any(one.startswith("/spec/") for one in list_fields(change.patch))


def _status(obj: JsonObject) -> Mapping[str, Any]:
    return obj.get("status") or {}
