"""What is wrong at or below an app: the deepest failures, what changed last, and what to look at next."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from ...policies.model import Action
from ..change import ChangeKind
from ..times import read_time
from ..tool import Context, Params
from ..tree import Node, Sync
from .detail import AppName, failing_resources, newest_first
from .find import find_app
from .results import (
    Diagnosis,
    Failure,
    NextCall,
    count_health,
    fresh,
    shorten,
    show_conditions,
    show_deploy,
    show_findings,
    show_managed,
    show_operation,
)
from .sight import Sight

_FAILURES = 4
_FINDINGS = 10
_RESOURCES = 5
_NEXT = 8


class AppDiagnoseParams(Params):
    app: AppName


async def diagnose_app(ctx: Context, params: AppDiagnoseParams) -> Diagnosis:
    node = find_app(ctx, params.app)
    sight = Sight(ctx)
    below = sight.below(node)
    failing = sight.failing(node)
    shown = [(each, _show_failure(sight, node, each)) for each in failing[:_FAILURES]]
    findings = [problem for each in (node, *below) for problem in show_findings(sight, each)]
    return Diagnosis(
        app=str(node.app.id),
        verdict=_judge(node, below, failing),
        health=node.app.health,
        sync=node.app.sync,
        failing=[failure for _, failure in shown],
        findings=findings[:_FINDINGS],
        next=_suggest(ctx, node, shown)[:_NEXT],
        fresh=[fresh(each) for each in sight.freshness([node, *below])],
        cut=_say_cut(len(failing) - len(shown), len(findings) - _FINDINGS),
    )


def _judge(node: Node, below: Sequence[Node], failing: Sequence[Node]) -> str:
    """One sentence of ours; it names apps by id, and quotes nothing."""
    everything = [node, *below]
    where = f"{node.app.id} and the {len(below)} apps below it" if below else str(node.app.id)
    if failing:
        broken = sum(each.app.failing for each in everything)
        return f"Of {where}, {broken} failing; the cause is deepest at {failing[0].app.id}."
    unrest = [f"{count} {health}" for health, count in count_health(everything).items() if health != "Healthy"]
    drifted = sum(each.app.sync is Sync.OUT_OF_SYNC for each in everything)
    unrest += [f"{drifted} OutOfSync"] if drifted else []
    return f"Nothing is failing in {where}" + (f", but {', '.join(unrest)}." if unrest else ".")


def _show_failure(sight: Sight, top: Node, node: Node) -> Failure:
    app = node.app
    deploys = newest_first(app)
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
        workloads=[],
        events=[],
        last_deploy=show_deploy(deploys[0]) if deploys else None,
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
    if earlier is None or not _began_after(failure, deploys[0].at):
        return None
    change: dict[str, JsonValue] = {"app": str(app.id), "kind": ChangeKind.ROLLBACK, "history_id": earlier.id}
    if app.automated:
        # Argo CD undoes a rollback of an app that syncs by itself, and whoever keeps its spec undoes any other way.
        if app.owner_set or ctx.tree.undone_by(node) is not None:
            return None
        change = {"app": str(app.id), "kind": ChangeKind.SET_REVISION, "revision": earlier.revision}
    if not ctx.policy.decide(Action.ROLLOUT_PROPOSE, node.resource).allowed:
        return None
    why = f"It fails since deploy {deploys[0].id}; deploy {earlier.id} ran another revision. A person approves."
    return NextCall(tool="rollout_propose", arguments={"changes": [change]}, why=why)


def _began_after(failure: Failure, deployed_at: str) -> bool:
    """Whether no sign of the failure is older than the deploy; signs without a time say nothing."""
    deployed = read_time(deployed_at)
    signs = [read_time(sign.at) for sign in (*failure.conditions, *failure.events)]
    return deployed is not None and all(sign is None or sign >= deployed for sign in signs)


def _next(tool: str, why: str, **arguments: JsonValue) -> NextCall:
    return NextCall(tool=tool, arguments=arguments, why=why)


def _say_cut(failures: int, findings: int) -> str | None:
    told = [f"{count} {what}" for count, what in ((failures, "failing apps"), (findings, "findings")) if count > 0]
    return f"Left out: {' and '.join(told)}; app_diagnose of an app further down tells them." if told else None
