"""Who is whose parent, whatever the order in which the apps come."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.tools.tree import App, AppTree, ParentBy
from tests.tools.tree.world import CLUSTER, ENVIRONMENTS, NOON, app_id, draw, lists, parent_of, plant


def _by(tree: AppTree, name: str) -> ParentBy | None:
    node = tree.get(app_id(name))
    assert node is not None
    return node.parent_by


def test_the_tracking_id_names_the_parent_before_anything_else_does() -> None:
    tree = plant(
        draw("tracker"),
        draw("labeller"),
        draw("lister", resources=lists("web")),
        draw("web", parent="tracker", label="labeller"),
    )
    assert parent_of(tree, "web") == "tracker"
    assert _by(tree, "web") is ParentBy.TRACKING_ID


def test_the_instance_label_comes_before_the_parents_status() -> None:
    tree = plant(draw("labeller"), draw("lister", resources=lists("web")), draw("web", label="labeller"))
    assert parent_of(tree, "web") == "labeller"
    assert _by(tree, "web") is ParentBy.INSTANCE_LABEL


def test_the_parents_status_comes_before_the_application_set() -> None:
    tree = plant(
        draw("lister", resources=lists("web")),
        draw("manager", resources=lists("fleet", kind="ApplicationSet")),
        draw("web", owner_set="fleet"),
    )
    assert parent_of(tree, "web") == "lister"
    assert _by(tree, "web") is ParentBy.PARENT_STATUS


def test_an_app_of_an_application_set_is_under_the_app_that_manages_the_set() -> None:
    tree = plant(draw("manager", resources=lists("fleet", kind="ApplicationSet")), draw("web", owner_set="fleet"))
    assert parent_of(tree, "web") == "manager"
    assert _by(tree, "web") is ParentBy.APPLICATION_SET


def test_the_instance_label_of_a_helm_release_that_is_no_app_is_not_a_parent() -> None:
    assert parent_of(plant(draw("web", label="some-release")), "web") is None


@pytest.mark.parametrize(
    "tracking_id", ["other:apps/Deployment:argocd/web", "other:argoproj.io/Application:argocd/api"]
)
def test_a_tracking_id_that_was_copied_from_another_object_is_not_believed(tracking_id: str) -> None:
    assert parent_of(plant(draw("other"), draw("web", tracking_id=tracking_id)), "web") is None


def test_an_app_that_manages_itself_is_a_root_and_no_cycle() -> None:
    tree = plant(draw("root", parent="root", label="root", resources=lists("root")))
    node = tree.get(app_id("root"))
    assert node is not None
    assert (node.parent, node.findings) == (None, ())


def test_a_parent_name_with_a_namespace_means_the_app_there() -> None:
    tree = plant(
        draw("root", namespace="argocd"),
        draw("root", namespace="team"),
        draw("web", namespace="team", parent="team_root"),
    )
    node = tree.get(app_id("web", namespace="team"))
    assert node is not None
    assert node.parent == app_id("root", namespace="team")


def test_a_parent_name_without_a_namespace_means_the_one_of_the_controller() -> None:
    tree = plant(
        draw("root", namespace="argocd"), draw("root", namespace="team"), draw("web", namespace="team", parent="root")
    )
    node = tree.get(app_id("web", namespace="team"))
    assert node is not None
    assert node.parent == app_id("root", namespace="argocd")


def test_where_several_apps_could_be_meant_none_is() -> None:
    tree = plant(
        draw("root", namespace="one"),
        draw("root", namespace="two"),
        draw("web", namespace="three", parent="root", controller=""),
    )
    assert parent_of(tree, "web", namespace="three") is None


def test_a_parent_is_in_the_same_cluster() -> None:
    tree = plant(draw("root", cluster="beta", resources=lists("web")), draw("web", parent="root"))
    assert parent_of(tree, "web") is None


def test_a_child_finds_its_parent_when_it_comes_later_and_loses_it_when_it_goes() -> None:
    tree = plant(draw("web", parent="root"))
    assert parent_of(tree, "web") is None
    tree.put(draw("root"))
    assert parent_of(tree, "web") == "root"
    root = tree.get(app_id("root"))
    assert root is not None
    assert root.children == (app_id("web"),)
    tree.remove(app_id("root"))
    assert parent_of(tree, "web") is None


def test_a_parent_that_drops_a_child_from_its_status_is_its_parent_no_more() -> None:
    tree = plant(draw("root", resources=lists("api", "web")), draw("web"), draw("api"))
    tree.put(draw("root", resources=lists("api")))
    assert (parent_of(tree, "web"), parent_of(tree, "api")) == (None, "root")


def test_a_cycle_is_cut_above_the_first_app_by_name() -> None:
    tree = plant(draw("b", parent="a"), draw("c", parent="b"), draw("a", parent="c"))
    assert [parent_of(tree, name) for name in "abc"] == [None, "a", "b"]
    assert [node.app.id.name for node in tree.roots()] == ["a"]


def test_a_cycle_that_ends_leaves_no_trace() -> None:
    tree = plant(draw("b", parent="a"), draw("c", parent="b"), draw("a", parent="c"), draw("d"))
    tree.put(draw("c", parent="d"))
    assert [parent_of(tree, name) for name in "abcd"] == ["c", "a", "d", None]
    assert all(not node.findings for node in tree.nodes())


NAMES = "abcdefgh"


@st.composite
def _worlds(draw_value: st.DrawFn) -> list[App]:
    """A few apps with arbitrary ties, cycles and rivals included; some come twice, changed."""
    some = st.sampled_from(["", *NAMES])
    several = st.lists(st.sampled_from(NAMES), max_size=3)
    return [
        draw(
            name,
            parent=draw_value(some),
            label=draw_value(some),
            owner_set=draw_value(st.sampled_from(["", "s", "t"])),
            health=draw_value(st.sampled_from(["Healthy", "Degraded"])),
            wave=draw_value(st.sampled_from([None, 1])),
            heals=draw_value(st.booleans()),
            resources=lists(*draw_value(several))
            + lists(*draw_value(st.sets(st.sampled_from("st"))), kind="ApplicationSet"),
        )
        for name in draw_value(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12))
    ]


def _shape(tree: AppTree) -> list[object]:
    return [
        (node.app, node.parent, node.parent_by, node.children, node.resource, node.findings)
        for node in sorted(tree.nodes(), key=lambda node: node.app.id)
    ]


@given(_worlds(), st.randoms(use_true_random=False))
def test_the_tree_follows_from_what_the_apps_say_and_not_from_their_order(
    history: Sequence[App], chance: random.Random
) -> None:
    last = {app.id: app for app in history}
    one = AppTree(ENVIRONMENTS, now=lambda: NOON)
    for app in history:
        one.put(app)
        one.nodes()  # what is read in between is judged in between
    shuffled = list(last.values())
    chance.shuffle(shuffled)
    other = AppTree(ENVIRONMENTS, now=lambda: NOON)
    other.replace(CLUSTER, shuffled)
    assert _shape(one) == _shape(other)


@given(_worlds(), st.sets(st.sampled_from(NAMES)))
def test_apps_that_came_and_went_leave_nothing_behind(history: Sequence[App], gone: set[str]) -> None:
    tree = AppTree(ENVIRONMENTS, now=lambda: NOON)
    for app in history:
        tree.put(app)
    for name in gone:
        tree.nodes()
        tree.remove(app_id(name))
    left = [app for app in {app.id: app for app in history}.values() if app.id.name not in gone]
    assert _shape(tree) == _shape(plant(*left))


@given(_worlds())
def test_every_app_is_under_exactly_one_root_and_never_under_itself(history: Sequence[App]) -> None:
    tree = plant(*{app.id: app for app in history}.values())
    under = [node.app.id for root in tree.roots() for node in (root, *tree.descendants(root))]
    assert sorted(under) == sorted(node.app.id for node in tree.nodes())
    for node in tree.nodes():
        for child in tree.children(node):
            assert child.parent == node.app.id
