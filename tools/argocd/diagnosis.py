"""What is wrong at or below an app: the deepest failures, what changed last, and what to look at next."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ...policies.model import Action
from ..budget import ANSWER, ASKED
from ..change import ChangeKind
from ..kubernetes.workloads import Workload
from ..paging import Sized
from ..text import is_plain
from ..times import read_time
from ..tool import Context
from ..tree import App, Health, Node, Sync
from .detail import AppName, failing_resources, newest_first
from .find import find_app
from .results import (
    Diagnosis,
    Failure,
    Happening,
    NextCall,
    WorkloadRow,
    count_health,
    fresh,
    shorten,
    show_conditions,
    show_deploy,
    show_findings,
    show_managed,
    show_moment,
    show_operation,
)
from .sight import Sight
from .source import ArgoCD

_FAILURES = 4
_FINDINGS = 10
_RESOURCES = 5
_NEXT = 8
_WORKLOADS = 4
_EVENTS = 5
_EVENT_TEXT = 300


class AppDiagnoseParams(Sized):
    app: AppName


async def diagnose_app(ctx: Context, params: AppDiagnoseParams) -> Diagnosis:
    node = find_app(ctx, params.app)
    sight = Sight(ctx)
    below = sight.below(node)
    failing = sight.failing(node)
    argocd = ctx.sources.get(ArgoCD)
    times = ANSWER.times(params)
    shown = [(each, _show_failure(sight, argocd, node, each)) for each in failing[: _FAILURES * times]]
    findings = [problem for each in (node, *below) for problem in show_findings(sight, each)]
    return Diagnosis(
        app=str(node.app.id),
        verdict=_judge(node, below, failing),
        health=node.app.health,
        sync=node.app.sync,
        failing=[failure for _, failure in shown],
        findings=findings[: _FINDINGS * times],
        next=_suggest(ctx, node, shown)[:_NEXT],
        fresh=[fresh(each) for each in sight.freshness([node, *below])],
        cut=_say_cut(params, len(failing) - len(shown), len(findings) - _FINDINGS * times),
    )


def _judge(node: Node, below: Sequence[Node], failing: Sequence[Node]) -> str:
    """One sentence of ours; it names apps by id, and quotes nothing."""
    apps = f"{len(below)} apps" if len(below) > 1 else "1 app"
    where = f"{node.app.id} and the {apps} below it" if below else str(node.app.id)
    if failing:
        broken = sum(each.app.failing for each in (node, *below))
        return f"{broken} failing of {where}; the deepest is {failing[0].app.id}."
    counts = count_health([node, *below])
    unrest = [f"{count} {health}" for health, count in counts.items() if health != Health.HEALTHY]
    drifted = sum(each.app.sync is Sync.OUT_OF_SYNC for each in (node, *below))
    unrest += [f"{drifted} OutOfSync"] if drifted else []
    return f"Nothing is failing in {where}" + (f", but {', '.join(unrest)}." if unrest else ".")


def _show_failure(sight: Sight, argocd: ArgoCD | None, top: Node, node: Node) -> Failure:
    app = node.app
    deploys = newest_first(app)
    workloads, events = _observe(argocd, app) if argocd else ([], [])
    return Failure(
        app=str(app.id),
        path=[str(each.app.id) for each in sight.path(top, node)],
        environment=app.environment,
        health=app.health,
        sync=app.sync,
        message=shorten(sight.quote(node, app.health_message)),
        operation=show_operation(sight, node),
        conditions=show_conditions(sight, node),
        resources=[show_managed(each) for each in failing_resources(sight.managed(node))[:_RESOURCES]],
        workloads=workloads,
        events=events,
        last_deploy=show_deploy(deploys[0]) if deploys else None,
    )


def _observe(argocd: ArgoCD, app: App) -> tuple[list[WorkloadRow], list[Happening]]:
    """The app's workloads, those short of ready pods first, and the newest warnings about them."""
    cluster = argocd.cluster_of(app)
    if cluster is None:
        return [], []
    places = [(cluster, each.kind, each.namespace or app.destination_namespace, each.name) for each in app.managed]
    workloads = [found for place in places if (found := argocd.workload(*place)) is not None]
    workloads.sort(key=lambda workload: (workload.ready >= workload.desired, workload.kind, workload.name))
    events = [
        event
        for workload in workloads
        for event in argocd.events(cluster, workload.kind, workload.namespace, workload.name)
    ]
    events.sort(key=lambda event: event.seconds, reverse=True)
    return [_show_workload(workload) for workload in workloads[:_WORKLOADS]], [
        Happening(type=event.reason, message=shorten(event.message, _EVENT_TEXT), at=show_moment(event.at))
        for event in events[:_EVENTS]
    ]


def _show_workload(workload: Workload) -> WorkloadRow:
    # A condition like Available complains when it is False, one like ReplicaFailure when it is True.
    complaints = (
        condition.message
        for condition in workload.conditions
        if condition.status == ("True" if condition.type.endswith("Failure") else "False")
    )
    return WorkloadRow(
        kind=workload.kind,
        name=f"{workload.namespace}/{workload.name}",
        replicas=workload.desired,
        ready=workload.ready,
        message=shorten(next(complaints, ""), _EVENT_TEXT),
    )


def _suggest(ctx: Context, top: Node, failures: Sequence[tuple[Node, Failure]]) -> list[NextCall]:
    """Calls that the caller may make, those about the deepest failure first."""
    calls = []
    for node, failure in failures:
        app = str(node.app.id)
        if node is not top:
            calls.append(_next("app_get", "Its spec, history and all unhealthy resources.", app=app))
        if (rollback := _suggest_rollback(ctx, node, failure)) is not None:
            calls.append(rollback)
        if node.app.owned.redis and ctx.policy.could(Action.REDIS_LIST):
            calls.append(_next("redis_keys", "The state it keeps in Redis.", app=app))
        if ctx.policy.could(Action.PROPOSAL_LIST):
            calls.append(_next("proposal_list", "What was proposed and applied here.", app=app))
    return calls


def _suggest_rollback(ctx: Context, node: Node, failure: Failure) -> NextCall | None:
    """The way back to the revision before, when the failure began after the last deploy and the change would last."""
    app, deploys = node.app, newest_first(node.app)
    earlier = next((deploy for deploy in deploys if deploy.revision != deploys[0].revision), None)
    if earlier is None or not is_plain(earlier.revision) or not _began_after(failure, deploys[0].at):
        return None
    change: dict[str, JsonValue] = {"app": str(app.id), "kind": ChangeKind.ROLLBACK, "history_id": earlier.id}
    if app.automated:
        # Argo CD undoes a rollback of an app that syncs by itself, and whoever keeps its spec undoes any other way.
        if app.owner_set or ctx.tree.undone_by(node) is not None:
            return None
        change = {"app": str(app.id), "kind": ChangeKind.SET_REVISION, "revision": earlier.revision}
    if not ctx.policy.decide(Action.ROLLOUT_PROPOSE, node.resource).allowed:
        return None
    why = f"It fails since deploy {deploys[0].id}; deploy {earlier.id} ran another revision. Give your evidence as reason."
    return NextCall(tool="rollout_propose", arguments={"changes": [change]}, why=why)


def _began_after(failure: Failure, deployed_at: str) -> bool:
    """Whether no sign of the failure is older than the deploy; signs without a time say nothing."""
    deployed = read_time(deployed_at)
    signs = [read_time(sign.at) for sign in (*failure.conditions, *failure.events)]
    return deployed is not None and all(sign is None or sign >= deployed for sign in signs)


def _next(tool: str, why: str, **arguments: JsonValue) -> NextCall:
    return NextCall(tool=tool, arguments=arguments, why=why)


def _say_cut(params: AppDiagnoseParams, failures: int, findings: int) -> str | None:
    told = [f"{count} {what}" for count, what in ((failures, "failing apps"), (findings, "findings")) if count > 0]
    more = f", or {ASKED} up to {ANSWER.most}" if ANSWER.leaves_room(params) else ""
    return f"Left out: {' and '.join(told)}; app_diagnose of an app further down tells them{more}." if told else None
