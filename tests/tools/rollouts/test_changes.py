"""What a restart and a scale plan, on which workloads, and when self-heal would undo them."""

from typing import Any

import pytest

from arborgate.policies.errors import Invalid, Refused
from arborgate.tools.risk import Factor
from arborgate.tools.rollouts.changes import ignores_replicas, plan_restart, plan_scale, workload_target
from tests.tools.rollouts.applications import (
    CLUSTER,
    SELF_HEAL,
    make_application,
    make_managed,
    make_node,
    make_workload,
)

NOW = 1_795_593_600.0


def target_of(text: str, **application: Any) -> Any:
    return workload_target(make_node(make_application(**application)), text, (CLUSTER, "elsewhere"))


@pytest.mark.parametrize("text", ["Deployment/api", "Deployment/shop/api"])
def test_a_workload_of_the_app_is_found_by_kind_and_name(text: str) -> None:
    target = target_of(text)
    assert (target.cluster, target.api, target.kind, target.namespace, target.name) == (
        CLUSTER,
        "apps/v1",
        "Deployment",
        "shop",
        "api",
    )
    assert target.app == f"{CLUSTER}/argocd/api"


@pytest.mark.parametrize("text", ["Deployment/other", "deployment/api", "ConfigMap/api", "api", "Deployment/other/api"])
def test_what_the_app_does_not_manage_can_not_be_named(text: str) -> None:
    with pytest.raises(Invalid) as invalid:
        target_of(text)
    assert invalid.value.field == "workload"
    assert "Deployment/shop/api" in (invalid.value.hint or "")


def test_two_workloads_of_one_name_are_told_apart_by_namespace() -> None:
    twins = [make_managed("Deployment", "api"), {**make_managed("Deployment", "api"), "namespace": "other"}]
    with pytest.raises(Invalid, match="2 workloads") as invalid:
        target_of("Deployment/api", status={"resources": twins})
    assert invalid.value.hint == "Give one of: Deployment/shop/api, Deployment/other/api."
    assert target_of("Deployment/other/api", status={"resources": twins}).namespace == "other"


def test_a_workload_is_in_the_cluster_that_the_app_deploys_to() -> None:
    there = {"destination": {"name": "elsewhere", "server": None}}
    assert target_of("Deployment/api", spec=there).cluster == "elsewhere"
    with pytest.raises(Refused, match="does not read"):
        target_of("Deployment/api", spec={"destination": {"server": "https://far.example.org"}})


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_restart_marks_the_pod_template_with_the_time_of_the_plan(kind: str) -> None:
    node = make_node(make_application(policy=SELF_HEAL, wave=2))
    name = {"Deployment": "api", "StatefulSet": "api-queue", "DaemonSet": "api-agent"}[kind]
    target = workload_target(node, f"{kind}/{name}", (CLUSTER,))
    change = plan_restart(node, target, make_workload(kind, name), now=NOW).change
    annotations = {"kubectl.kubernetes.io/restartedAt": "2026-11-25T08:00:00Z"}
    assert change.patch == {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    assert change.precondition.fields == ("/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt",)
    assert change.undo is None
    assert change.undo_note
    assert change.wave == 2


def test_a_rollout_is_restarted_in_its_own_way() -> None:
    node = make_node(make_application())
    target = workload_target(node, "Rollout/api-canary", (CLUSTER,))
    change = plan_restart(node, target, make_workload("Rollout", "api-canary"), now=NOW).change
    assert change.patch == {"spec": {"restartAt": "2026-11-25T08:00:00Z"}}


def test_a_scale_says_from_what_to_what_and_goes_back() -> None:
    node = make_node(make_application())
    target = workload_target(node, "Deployment/api", (CLUSTER,))
    plan = plan_scale(node, target, make_workload("Deployment", "api"), replicas=5)
    assert plan.change.patch == {"spec": {"replicas": 5}}
    assert plan.change.undo == {"spec": {"replicas": 2}}
    assert plan.change.summary.startswith("Scale Deployment api of api from 2 to 5 replicas; an autoscaler")
    assert plan.risks == ()


@pytest.mark.parametrize(
    "pod",
    [
        {"containers": [{"env": [{"name": "DB", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}]}]},
        {"containers": [{"envFrom": [{"secretRef": {"name": "db"}}]}]},
        {"volumes": [{"name": "tls", "secret": {"secretName": "tls"}}]},
        {"volumes": [{"name": "all", "projected": {"sources": [{"secret": {"name": "tls"}}]}}]},
        {"imagePullSecrets": [{"name": "registry"}]},
        None,
    ],
)
def test_a_restart_that_takes_up_secrets_is_a_risk(pod: dict[str, Any] | None) -> None:
    node = make_node(make_application())
    live = make_workload("Deployment", "api")
    if pod:
        live["spec"]["template"]["spec"] = pod
    plan = plan_restart(node, workload_target(node, "Deployment/api", (CLUSTER,)), live, now=NOW)
    assert [risk.factor for risk in plan.risks] == ([Factor.SECRETS_TOUCHED] if pod else [])


@pytest.mark.parametrize("replicas", [-1, 1_001, 2])
def test_a_number_of_replicas_that_makes_no_sense_is_named(replicas: int) -> None:
    node = make_node(make_application())
    target = workload_target(node, "Deployment/api", (CLUSTER,))
    with pytest.raises(Invalid) as invalid:
        plan_scale(node, target, make_workload("Deployment", "api"), replicas=replicas)
    assert invalid.value.field == "replicas"


def test_a_daemon_set_is_not_scaled() -> None:
    node = make_node(make_application())
    target = workload_target(node, "DaemonSet/api-agent", (CLUSTER,))
    with pytest.raises(Refused, match="once per node"):
        plan_scale(node, target, make_workload("DaemonSet", "api-agent"), replicas=1)


@pytest.mark.parametrize(
    ("rule", "ignored"),
    [
        ({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}, True),
        ({"group": "apps", "kind": "*", "jqPathExpressions": [".spec.replicas"]}, True),
        ({"group": "apps", "kind": "Deployment", "name": "other", "jsonPointers": ["/spec/replicas"]}, False),
        ({"group": "apps", "kind": "Deployment", "namespace": "other", "jsonPointers": ["/spec/replicas"]}, False),
        ({"group": "apps", "kind": "StatefulSet", "jsonPointers": ["/spec/replicas"]}, False),
        ({"kind": "Deployment", "jsonPointers": ["/spec/replicas"]}, False),
        ({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/template"]}, False),
    ],
)
def test_a_self_healing_app_is_scaled_only_where_argocd_ignores_the_replicas(rule: Any, ignored: bool) -> None:
    application = make_application(policy=SELF_HEAL, spec={"ignoreDifferences": [rule]})
    node = make_node(application)
    target = workload_target(node, "Deployment/api", (CLUSTER,))
    live = make_workload("Deployment", "api")
    assert ignores_replicas(application, target) is ignored
    assert plan_scale(node, target, live, replicas=3, ignored=True).change.patch
    with pytest.raises(Refused, match="self-heals"):
        plan_scale(node, target, live, replicas=3)
