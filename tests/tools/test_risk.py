"""Risk: each factor is found where it is, nowhere else, and the weights add up as they are told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.tools.argocd.changes import plan_rollback, plan_set_revision, plan_sync
from arborgate.tools.change import Change
from arborgate.tools.risk import HIGH_FROM, WEIGHTS, Factor, Risk, RiskFactor, find_factors, rate, weigh
from arborgate.tools.rollouts.changes import plan_scale, workload_target
from arborgate.tools.tree import AppId, Node
from tests.tools.rollouts.applications import (
    CLUSTER,
    ENVIRONMENTS,
    HELM,
    make_application,
    make_managed,
    make_tree,
    make_workload,
)

CHILDREN = [make_application(f"child-{number}") for number in range(4)]
for child in CHILDREN:
    name = child["metadata"]["name"]
    tracked = f"root:argoproj.io/Application:argocd/{name}"
    child["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = tracked
KEEPING = make_application(
    "keeping", status={"resources": [make_managed("SealedSecret", "db", group="bitnami.com", version="v1alpha1")]}
)
LIVE = {
    each["metadata"]["name"]: each
    for each in (
        make_application("api"),
        make_application("prod", env="prod"),
        make_application("stray", env="none"),
        make_application("root"),
        KEEPING,
        *CHILDREN,
    )
}
TREE = make_tree(*LIVE.values())


def node(name: str) -> Node:
    found = TREE.get(AppId(CLUSTER, "argocd", name))
    assert found is not None
    return found


def sync(name: str) -> Change:
    return plan_sync(node(name), LIVE[name]).change


def scale(name: str, replicas: int) -> Change:
    target = workload_target(node(name), f"Deployment/{name}", (CLUSTER,))
    return plan_scale(node(name), target, make_workload("Deployment", name), replicas=replicas).change


def found(*changes: Change) -> dict[Factor, str]:
    return {each.factor: each.why for each in find_factors(changes, TREE, ENVIRONMENTS)}


def test_what_is_ordinary_is_no_risk() -> None:
    assert found(sync("api"), scale("child-0", 5)) == {}


def test_a_strict_environment_is_a_risk_and_none_is_one_too() -> None:
    assert found(sync("prod")) == {Factor.STRICT_ENVIRONMENT: "The environment production is strict."}
    assert found(sync("stray")) == {Factor.STRICT_ENVIRONMENT: "The environment unassigned is strict."}


def test_apps_below_count_where_the_app_itself_is_changed() -> None:
    children = [f"child-{number}" for number in range(4)]
    assert found(*map(sync, children[:3])) == {}
    assert found(*map(sync, children)) == {Factor.MANY_APPS: "It changes 4 apps."}
    assert found(sync("root")) == {Factor.MANY_APPS: "With what is below, it reaches more than 3 apps."}
    assert found(scale("root", 5)) == {}


def test_what_stops_running_is_named() -> None:
    assert found(scale("api", 0)) == {Factor.REPLICAS_TO_ZERO: "Deployment api of api stops running."}


def test_a_rollback_is_a_downgrade() -> None:
    assert found(plan_rollback(node("api"), LIVE["api"], history_id=1).change).keys() == {Factor.DOWNGRADE}


@pytest.mark.parametrize("kind", ["sync", "revision"])
def test_deploying_an_app_with_secrets_touches_them(kind: str) -> None:
    live = LIVE["keeping"]
    change = sync("keeping") if kind == "sync" else plan_set_revision(node("keeping"), live, revision="v9").change
    assert found(change) == {Factor.SECRETS_TOUCHED: "Secrets are among what keeping deploys."}


@pytest.mark.parametrize(
    ("patch", "undo", "touches"),
    [
        ({"helm": {"valuesObject": {"auth": {"existingSecret": "db"}}}}, {}, True),
        ({"helm": {"parameters": [{"name": "image.pullSecrets[0].name", "value": "r"}]}}, {}, True),
        ({"helm": {"parameters": [{"name": "image.tag", "value": "1"}]}}, {}, False),
        # A list goes as a whole: what was there before is not touched.
        (
            {"helm": {"parameters": [{"name": "auth.existingSecret", "value": "db"}, {"name": "tag", "value": "2"}]}},
            {"helm": {"parameters": [{"name": "auth.existingSecret", "value": "db"}]}},
            False,
        ),
        (
            {"helm": {"parameters": [{"name": "auth.existingSecret", "value": "other"}]}},
            {"helm": {"parameters": [{"name": "auth.existingSecret", "value": "db"}]}},
            True,
        ),
    ],
)
def test_naming_another_secret_is_a_risk(patch: dict[str, Any], undo: dict[str, Any], touches: bool) -> None:
    planned = plan_set_revision(node("api"), make_application(source=HELM), revision="2.0.0").change
    change = planned.model_copy(update={"patch": {"spec": {"source": patch}}, "undo": {"spec": {"source": undo}}})
    assert (Factor.SECRETS_TOUCHED in found(change)) is touches


def test_every_factor_has_a_weight_and_only_some_are_high_alone() -> None:
    assert set(WEIGHTS) == set(Factor)
    assert {factor for factor in Factor if rate([RiskFactor.of(factor, "")]) is Risk.HIGH} == {
        Factor.DOWNGRADE,
        Factor.MANY_APPS,
        Factor.REPLICAS_TO_ZERO,
        Factor.STRICT_ENVIRONMENT,
    }


def test_a_weight_in_a_proposal_is_not_what_counts() -> None:
    light = RiskFactor(factor=Factor.STRICT_ENVIRONMENT, weight=0, why="")
    assert rate([light]) is Risk.HIGH


@given(st.lists(st.tuples(st.sampled_from(Factor), st.text(max_size=3))))
def test_the_weights_of_what_was_found_add_up_each_factor_once(drawn: list[tuple[Factor, str]]) -> None:
    factors = [RiskFactor.of(factor, why) for factor, why in drawn]
    assert weigh(factors) == sum(WEIGHTS[factor] for factor in {factor for factor, _ in drawn})
    assert (rate(factors) is Risk.HIGH) == (weigh(factors) >= HIGH_FROM)
