"""What a change claims to be: all that is planned here is what its kind says, and going back is found again."""

from typing import Any

import pytest

from arborgate.server.verification import _check_fields
from arborgate.tools.argocd.changes import plan_rollback, plan_set_image, plan_set_revision, plan_sync
from arborgate.tools.plan import Plan
from arborgate.tools.risk import Factor
from arborgate.tools.rollouts.changes import plan_restart, plan_scale, workload_target
from arborgate.tools.rollouts.claims import find_downgrades, find_excess
from arborgate.tools.tree import AppId, Node
from tests.tools.rollouts.applications import (
    CLUSTER,
    COMMIT,
    HELM,
    KUSTOMIZE,
    OLDER,
    make_application,
    make_tree,
    make_workload,
)

BARE: dict[str, Any] = {"repoURL": "https://git.example.org/shop.git", "path": "api", "targetRevision": "1.2.0"}
RUNS = {"summary": {"images": ["registry.example.org/shop/api:1.4.2", "registry.example.org/shop/proxy:2.0.0"]}}
API = "registry.example.org/shop/api"


def read(live: dict[str, Any]) -> Node:
    node = make_tree(live).get(AppId(CLUSTER, "argocd", live["metadata"]["name"]))
    assert node is not None
    return node


def image(live: dict[str, Any], name: str, source: int = 0, parameter: str = "") -> Plan:
    return plan_set_image(read(live), live, image=name, source=source, parameter=parameter)


KUSTOM = make_application(source=KUSTOMIZE, status=RUNS)
CHART = make_application(source=HELM, status=RUNS)
PLAIN = make_application(source=BARE, status={**RUNS, "sourceType": "Kustomize"})
PLAIN_CHART = make_application(source={**BARE, "chart": "api"}, status=RUNS)
BOTH = make_application(sources=[HELM, KUSTOMIZE], status=RUNS)
PLANS: list[tuple[dict[str, Any], Plan]] = [
    *((live, plan_sync(read(live), live)) for live in (KUSTOM, CHART, BOTH)),
    *(
        (live, plan_sync(read(live), live, revision=revision))
        for live in (KUSTOM,)
        for revision in (OLDER, COMMIT, "x")
    ),
    (KUSTOM, plan_rollback(read(KUSTOM), KUSTOM, history_id=1)),
    *((KUSTOM, image(KUSTOM, f"{API}:{tag}")) for tag in ("1.4.1", "1.4.3")),
    *((CHART, image(CHART, f"{API}:{tag}")) for tag in ("1.4.1", "1.4.3")),
    *((PLAIN, image(PLAIN, f"{API}:{tag}")) for tag in ("1.4.1", "1.4.3")),
    *((PLAIN_CHART, image(PLAIN_CHART, f"{API}:{tag}", parameter="image")) for tag in ("1.4.3",)),
    *((BOTH, image(BOTH, f"{API}:{tag}", source)) for tag in ("1.4.1", "1.4.3") for source in (1, 2)),
    *((live, plan_set_revision(read(live), live, revision=to)) for live in (CHART, PLAIN) for to in ("1.1.0", "2.0.0")),
    *((BOTH, plan_set_revision(read(BOTH), BOTH, revision=to, source=1)) for to in ("1.8.0", "2.0.0")),
]


@pytest.mark.parametrize(("live", "plan"), PLANS, ids=[plan.change.summary for _, plan in PLANS])
def test_what_is_planned_is_what_its_kind_says_and_its_downgrades_are_found_again(
    live: dict[str, Any], plan: Plan
) -> None:
    node = read(live)

    assert find_excess(plan.change, node.app) == ""
    assert find_downgrades([plan.change], {plan.change.target.app: node}) == [
        risk for risk in plan.risks if risk.factor is Factor.DOWNGRADE
    ]
    _check_fields(plan.change)


def test_both_ways_to_go_are_among_the_plans() -> None:
    assert {any(risk.factor is Factor.DOWNGRADE for risk in plan.risks) for _, plan in PLANS} == {True, False}


def test_what_is_planned_for_a_workload_is_what_its_kind_says() -> None:
    node, live = read(KUSTOM), make_workload("Deployment", "api")
    target = workload_target(node, "Deployment/api", (CLUSTER,))

    for plan in (plan_scale(node, target, live, replicas=7), plan_restart(node, target, live, now=1e9)):
        assert find_excess(plan.change, node.app) == ""
