"""What a proposal reaches: as far as it goes, and not a word further than the reader may see."""

import time
from collections.abc import Sequence

from arborgate.tools.app import App, Owned
from arborgate.tools.change import Target
from arborgate.tools.reach import Reach, find_reach, overlaps
from arborgate.tools.tree import AppTree, Node
from tests.tools.world import CLUSTER, ENVIRONMENTS, make_app, make_managed


def make_tree(*apps: App) -> AppTree:
    tree = AppTree(ENVIRONMENTS)
    tree.replace(CLUSTER, apps)
    tree.heard(CLUSTER, "1", time.monotonic())
    return tree


def keep_seen(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if "hidden" not in node.app.labels]


def target(app: str, kind: str = "Application", name: str = "") -> Target:
    api = "argoproj.io/v1alpha1" if kind == "Application" else "apps/v1"
    return Target(
        app=f"{CLUSTER}/argocd/{app}", cluster=CLUSTER, api=api, kind=kind, namespace="argocd", name=name or app
    )


def reach(tree: AppTree, *targets: Target) -> Reach:
    return find_reach(tree, targets, keep_seen)


SHOP = (
    make_app("shop"),
    make_app(
        "orders",
        parent="shop",
        managed=(
            make_managed("Deployment", "orders"),
            make_managed("Deployment", "worker"),
            make_managed("Service", "x"),
        ),
        owned=Owned(redis=("cache:orders:", "cache:"), routes=("shop.test/orders",)),
    ),
    make_app("orders-db", parent="orders", managed=(make_managed("StatefulSet", "db"),)),
    make_app("secret", parent="orders", hidden=True, owned=Owned(redis=("cache:orders:",))),
    make_app("under-secret", parent="secret"),
    make_app("reports", owned=Owned(redis=("cache:orders:daily:",))),
    make_app("front", owned=Owned(routes=("shop.test/orders", "shop.test/"))),
    make_app("elsewhere", owned=Owned(redis=("other:orders:", "cache:carts:"), routes=("shop.test/carts",))),
    make_app("spy", hidden=True, owned=Owned(redis=("cache:orders:",), routes=("shop.test/orders",))),
)


def names(nodes: Sequence[Node]) -> list[str]:
    return [node.app.id.name for node in nodes]


def test_a_change_of_an_app_reaches_all_that_is_below_it() -> None:
    found = reach(make_tree(*SHOP), target("orders"))
    assert [one.id.name for one in found.apps] == ["orders", "orders-db", "under-secret"]
    assert [one.changed for one in found.apps] == [True, False, False]
    assert found.workloads == 3
    assert [one.name for one in found.keyspaces] == ["cache:orders:"]
    assert [one.name for one in found.routes] == ["shop.test/orders"]


def test_a_change_of_a_workload_reaches_that_and_what_its_app_owns() -> None:
    found = reach(make_tree(*SHOP), target("orders", "Deployment", "worker"))
    assert [one.id.name for one in found.apps] == ["orders"]
    assert [each.name for each in found.apps[0].workloads] == ["worker"]
    assert found.apps[0].keyspaces == ("cache:orders:",)
    both = reach(make_tree(*SHOP), target("orders", "Deployment", "worker"), target("orders"))
    assert [each.name for each in both.apps[0].workloads] == ["orders", "worker"]


def test_the_apps_that_lean_on_the_same_are_named() -> None:
    found = reach(make_tree(*SHOP), target("orders"))
    assert names(found.keyspaces[0].leaning) == ["reports"]
    assert names(found.routes[0].leaning) == ["front"]
    assert names(found.leaning) == ["front", "reports"]


def test_what_is_hidden_is_neither_shown_nor_counted() -> None:
    found = reach(make_tree(*SHOP), target("secret"), target("orders"))
    assert not {"secret", "spy"} & {*(one.id.name for one in found.apps), *names(found.leaning)}
    assert reach(make_tree(*SHOP), target("spy")) == reach(make_tree(*SHOP), target("is-not-there")) == Reach()


def test_a_tree_is_drawn_under_the_uppermost_that_is_seen() -> None:
    found = reach(make_tree(*SHOP), target("orders"), target("orders-db"))
    assert [root.id.name for root in found.roots] == ["orders", "under-secret"]
    assert [one.id.name for one in found.roots[0].below] == ["orders-db"]
    assert (found.roots[0].size, found.roots[0].below[0].changed) == (2, True)


def test_apps_in_a_circle_are_shown_once() -> None:
    found = reach(make_tree(make_app("a", parent="b"), make_app("b", parent="a")), target("a"), target("b"))
    assert sorted(one.id.name for one in found.apps) == ["a", "b"]
    assert sum(root.size for root in found.roots) == 2


def test_keyspaces_overlap_when_one_begins_with_the_other() -> None:
    assert overlaps("cache:orders:", "cache:orders:daily:")
    assert overlaps("cache:orders:daily:", "cache:orders:")
    assert not overlaps("cache:orders:", "other:orders:")
    assert not overlaps("cache:", "cache:orders:")
    assert not overlaps("cache", "cache")


def test_it_is_told_in_one_line() -> None:
    assert reach(make_tree(*SHOP), target("orders")).say() == (
        "3 apps, 3 workloads, 1 keyspace, 1 route: orders, orders-db, under-secret; 2 more lean on what these own"
    )
    many = make_tree(make_app("top"), *(make_app(f"n{number}", parent="top") for number in range(9)))
    assert reach(many, target("top")).say() == "10 apps: top, n0, n1, n2, n3 and 5 more"
    assert Reach().say() == ""
