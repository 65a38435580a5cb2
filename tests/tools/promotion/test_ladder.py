"""The ladder: which environment comes next, which app is which on another rung, and what may cross."""

import pytest
from pydantic import ValidationError

from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.promotion.ladder import PromotionSettings, find_counterparts, names_environment
from arborgate.tools.tree import App, AppId, AppTree, Node
from tests.tools.world import CLUSTER, make_app

PATH = ("dev", "staging", "production")
LADDER = PromotionSettings(path=PATH, shared_parameters=("feature.*", "*.level", "db.host"))
ENVIRONMENTS = Environments(
    [EnvironmentRule(name=name, strict=name == "production", labels={"env": name}) for name in PATH]
)


def app(name: str, env: str, cluster: str = CLUSTER) -> App:
    made = make_app(name, env=env, environment=env)
    return make_app(name, env=env, environment=env, id=AppId(cluster, made.id.namespace, name))


def tree_of(*apps: App) -> AppTree:
    tree = AppTree(ENVIRONMENTS)
    for each in apps:
        tree.put(each)
    return tree


def find(tree: AppTree, name: str, environment: str) -> Node:
    return next(node for node in tree.named(name) if node.app.environment == environment)


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ("shop-web-staging", "shop-web"),
        ("shop-web-staging", "shop-web-production"),
        ("shop-web-staging", "shop-web-prod"),
        ("shop-web-stg", "shop-web-live"),
        ("staging-shop-web", "production-shop-web"),
        ("staging-shop-web", "shop-web"),
        ("shop-staging-web", "shop-production-web"),
        ("shop-web", "shop-web-production"),
        ("shop-web", "prod-shop-web"),
    ],
)
def test_names_tell_which_app_is_which_in_another_environment(below: str, above: str) -> None:
    tree = tree_of(app(below, "staging"), app(above, "production"), app("shop-cart", "production"))
    found = find_counterparts(find(tree, below, "staging"), "production", tree, LADDER)
    assert [node.app.id.name for node in found] == [above]


def test_the_same_name_in_another_cluster_is_the_same_component() -> None:
    tree = tree_of(app("shop-web", "staging", "eu-staging"), app("shop-web", "production", "eu-1"))
    found = find_counterparts(find(tree, "shop-web", "staging"), "production", tree, LADDER)
    assert [str(node.app.id) for node in found] == ["eu-1/argocd/shop-web"]


def test_what_merely_resembles_it_is_another_component() -> None:
    others = ("shop-web-canary", "shop-webs", "web", "shop-web-admin-production", "prod")
    tree = tree_of(app("shop-web-staging", "staging"), *(app(name, "production") for name in others))
    assert not find_counterparts(find(tree, "shop-web-staging", "staging"), "production", tree, LADDER)


def test_settings_say_which_app_is_which_where_names_do_not() -> None:
    named = LADDER.model_copy(update={"components": {"web": {"staging": "blue", "production": "main/argocd/green"}}})
    tree = tree_of(app("blue", "staging"), app("green", "production"), app("blue-production", "production"))
    found = find_counterparts(find(tree, "blue", "staging"), "production", tree, named)
    assert [node.app.id.name for node in found] == ["green"]


def test_a_setting_reaches_no_app_of_another_environment() -> None:
    named = LADDER.model_copy(update={"components": {"web": {"staging": "blue", "production": "green"}}})
    tree = tree_of(app("blue", "staging"), app("green", "dev"))
    assert not find_counterparts(find(tree, "blue", "staging"), "production", tree, named)


def test_each_environment_leads_to_the_next_and_the_last_to_none() -> None:
    assert [LADDER.above(name) for name in (*PATH, "unassigned")] == ["staging", "production", "", ""]
    assert [LADDER.below(name) for name in (*PATH, "unassigned")] == ["", "dev", "staging", ""]


@pytest.mark.parametrize("name", ["feature.dark_mode", "log.level", "FEATURE.x"])
def test_shared_parameters_cross(name: str) -> None:
    assert LADDER.shares(name)


@pytest.mark.parametrize("name", ["db.host", "feature.apiUrl", "feature.secretName", "feature.replicas", "log", "x"])
def test_local_parameters_never_cross_whatever_is_shared(name: str) -> None:
    assert not LADDER.shares(name)


@pytest.mark.parametrize(
    ("value", "spoken"),
    [
        ("db.staging.example.com", "staging"),
        ("shop-stg", "staging"),
        ("https://x/PROD/y", "production"),
        ("devices", ""),
        ("stagingly", ""),
        ("", ""),
    ],
)
def test_a_value_that_speaks_of_an_environment_is_known_by_its_words(value: str, spoken: str) -> None:
    assert names_environment(value, PATH) == spoken


@pytest.mark.parametrize(
    "settings",
    [
        {"path": ["dev"]},
        {"path": ["dev", "dev"]},
        {"path": ["dev", "staging"], "components": {"web": {"production": "web"}}},
        {"paths": ["dev", "staging"]},
    ],
)
def test_a_ladder_that_makes_no_sense_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PromotionSettings.model_validate(settings)
