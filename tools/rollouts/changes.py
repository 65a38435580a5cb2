"""Planning changes of an app's workloads: restart and scale.

| change  | app syncs by hand, or automated without self-heal | app self-heals                                |
|---------|---------------------------------------------------|-----------------------------------------------|
| restart | planned                                           | planned: Git does not say when pods started   |
| scale   | planned, holds until Git says another number      | refused: it would be undone, unless Argo CD   |
|         |                                                   | is told to ignore the replicas                |

Whether the app's parent self-heals does not matter here: a parent keeps the Application, not its workloads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from ...policies.errors import Invalid, Refused
from ..change import ChangeKind, Check, JsonObject, Target
from ..plan import Plan, Undo, make_change
from ..risk import Factor, RiskFactor, names_secrets
from ..tree import App, Managed, Node

WORKLOADS = frozenset(
    {
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("argoproj.io/v1alpha1", "Rollout"),
    }
)
"""What can be restarted and (but for a DaemonSet) scaled: apiVersion and kind."""

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
MOST_REPLICAS = 1_000

_HERE = frozenset({"", "in-cluster", "https://kubernetes.default.svc"})
_SHOWN = 8


def workload_target(node: Node, text: str, clusters: Collection[str]) -> Target:
    """The one workload of the app that `Kind/name` or `Kind/namespace/name` means; `clusters` are the known names.

    Only what the app manages can be named. Raises `Invalid` (field `workload`) with the candidates, and `Refused` when
    the app deploys to a cluster that is not configured."""
    app = node.app
    able = [one for one in app.managed if (_api(one), one.kind) in WORKLOADS]
    named = [one for one in able if text in (f"{one.kind}/{one.name}", f"{one.kind}/{one.namespace}/{one.name}")]
    if len(named) != 1:
        known = ", ".join(f"{one.kind}/{one.namespace}/{one.name}" for one in (named or able)[:_SHOWN])
        raise Invalid(
            f"{app.id.name} has {len(named) or 'no'} workloads of this name.",
            field="workload",
            hint=f"Give one of: {known}." if known else "It manages nothing that can be restarted or scaled.",
        )
    (found,) = named
    return Target(
        app=str(app.id),
        cluster=_cluster(app, clusters),
        api=_api(found),
        kind=found.kind,
        namespace=found.namespace or app.destination_namespace,
        name=found.name,
    )


def plan_restart(node: Node, target: Target, live: JsonObject, *, now: float) -> Plan:
    """New pods for every old one, at the workload's own pace; `now` (seconds since the epoch) is part of the patch."""
    time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch: dict[str, Any] = (
        {"spec": {"restartAt": time}}
        if target.kind == "Rollout"
        else {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: time}}}}}
    )
    return Plan(
        make_change(
            ChangeKind.RESTART,
            target,
            live,
            patch,
            summary=f"Restart {target.kind} {target.name} of {node.app.id.name}",
            check=Check(app=target.app),
            wave=node.app.wave,
            undo=Undo(None, "A restart leaves nothing to undo: the pods run what they ran before."),
        ),
        _reading_secrets(node, target, live),
    )


def plan_scale(node: Node, target: Target, live: JsonObject, *, replicas: int, ignored: bool = False) -> Plan:
    """Another number of replicas. `ignored` says that Argo CD ignores the workload's replicas (see `ignores_replicas`).

    Raises `Refused` for a DaemonSet and where self-heal would undo it, `Invalid` naming `replicas`."""
    app = node.app
    if target.kind == "DaemonSet":
        raise Refused("A DaemonSet runs once per node and has no replicas.", field="kind", hint="Use restart.")
    if app.self_heal and not ignored:
        raise Refused(
            f"{app.id.name} self-heals, so Argo CD would undo another number of replicas at once.",
            field="kind",
            hint="Change the replicas in Git and use sync.",
        )
    if not 0 <= replicas <= MOST_REPLICAS:
        raise Invalid(f"{replicas} is not between 0 and {MOST_REPLICAS}.", field="replicas")
    was = live["spec"].get("replicas", 1)
    if was == replicas:
        raise Invalid(f"{target.kind} {target.name} has {was} replicas already.", field="replicas")
    return Plan(
        make_change(
            ChangeKind.SCALE,
            target,
            live,
            {"spec": {"replicas": replicas}},
            summary=f"Scale {target.kind} {target.name} of {app.id.name} from {was} to {replicas} replicas; "
            "an autoscaler, if it has one, may change that again",
            check=Check(app=target.app),
            wave=app.wave,
        )
    )


def _reading_secrets(node: Node, target: Target, live: JsonObject) -> tuple[RiskFactor, ...]:
    """New pods take what Secrets hold now, which may be another thing than what the old ones were started with."""
    if not names_secrets(live["spec"].get("template")):
        return ()
    why = f"New pods of {target.kind} {target.name} of {node.app.id.name} take what its Secrets hold now."
    return (RiskFactor.of(Factor.SECRETS_TOUCHED, why),)


def ignores_replicas(application: JsonObject, target: Target) -> bool:
    """Whether the Application tells Argo CD to leave this workload's replicas alone (`spec.ignoreDifferences`)."""
    return any(_covers(rule, target) for rule in application["spec"].get("ignoreDifferences") or ())


def _covers(rule: Mapping[str, Any], target: Target) -> bool:
    group = target.api.rpartition("/")[0]
    return (
        rule.get("group", "") in (group, "*")
        and rule.get("kind") in (target.kind, "*")
        and rule.get("name", target.name) == target.name
        and rule.get("namespace", target.namespace) == target.namespace
        and (
            "/spec/replicas" in (rule.get("jsonPointers") or ())
            or ".spec.replicas" in (rule.get("jqPathExpressions") or ())
        )
    )


def _api(managed: Managed) -> str:
    return f"{managed.group}/{managed.version}" if managed.group else managed.version


def _cluster(app: App, clusters: Collection[str]) -> str:
    """The configured cluster that the app deploys to. Argo CD calls its own `in-cluster`, whatever we call it."""
    if app.destination_cluster in _HERE:
        return app.id.cluster
    if app.destination_cluster in clusters:
        return app.destination_cluster
    raise Refused(
        f"{app.id.name} deploys to a cluster that this Arborgate does not read.",
        field="app",
        hint="Ask the platform team to add it to the settings under the name that Argo CD has for it.",
    )
