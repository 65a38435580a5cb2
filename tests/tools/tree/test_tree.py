"""The index: what calls read from it."""

from arborgate.policies.model import INSTALLATION
from arborgate.tools.tree import AppTree, Health
from tests.tools.tree.world import CLUSTER, ENVIRONMENTS, app_id, draw, lists, parent_of, plant


def test_apps_come_worst_first_then_by_strictness_then_by_id() -> None:
    tree = plant(
        draw("calm"),
        draw("drifting", sync="OutOfSync"),
        draw("waiting", health="Progressing"),
        draw("broken-staging", health="Degraded", project="staging"),
        draw("broken-prod", health="Degraded", project="prod-shop"),
        draw("absent", health="Missing"),
    )
    names = [node.app.id.name for node in tree.nodes()]
    assert names == ["broken-prod", "broken-staging", "absent", "waiting", "drifting", "calm"]


def test_the_order_follows_a_change_and_an_old_answer_is_left_alone() -> None:
    tree = plant(draw("a"), draw("b"))
    before = tree.nodes()
    assert tree.nodes() is before
    tree.put(draw("b", health="Degraded"))
    assert [node.app.id.name for node in tree.nodes()] == ["b", "a"]
    assert [node.app.id.name for node in before] == ["a", "b"]


def test_an_app_is_found_by_each_way_to_write_it() -> None:
    tree = plant(draw("web"), draw("web", namespace="team"), draw("web", cluster="beta"), draw("api"))
    assert [str(node.app.id) for node in tree.named("web")] == ["alpha/argocd/web", "alpha/team/web", "beta/argocd/web"]
    assert [str(node.app.id) for node in tree.named("argocd/web")] == ["alpha/argocd/web", "beta/argocd/web"]
    assert [str(node.app.id) for node in tree.named("alpha/team/web")] == ["alpha/team/web"]
    assert [tree.named(text) for text in ("nothing", "a/b/c/d", "beta/web", "")] == [[], [], [], []]


def test_a_list_replaces_the_apps_of_its_cluster_alone() -> None:
    tree = plant(draw("a"), draw("b"), draw("c", cluster="beta"))
    tree.replace(CLUSTER, [draw("b"), draw("d")])
    assert sorted(str(node.app.id) for node in tree.nodes()) == ["alpha/argocd/b", "alpha/argocd/d", "beta/argocd/c"]


def test_a_list_of_one_namespace_leaves_the_others_alone() -> None:
    tree = plant(draw("a"), draw("b", namespace="team"))
    tree.replace(CLUSTER, [], namespace="team")
    assert [node.app.id.name for node in tree.nodes()] == ["a"]


def test_a_list_that_changes_nothing_keeps_the_generation() -> None:
    tree = plant(draw("root", resources=lists("web")), draw("web"))
    generation = tree.generation
    tree.replace(CLUSTER, [draw("web"), draw("root", resources=lists("web"))])
    assert tree.generation == generation
    tree.put(draw("web", health="Degraded"))
    assert tree.generation > generation


def test_removing_what_is_not_there_changes_nothing() -> None:
    tree = plant(draw("a"))
    generation = tree.generation
    tree.remove(app_id("b"))
    assert tree.generation == generation


def test_everything_under_a_node_comes_parents_first() -> None:
    tree = plant(draw("root"), draw("b", parent="root"), draw("a", parent="root"), draw("a1", parent="a"))
    root = tree.named("root")[0]
    assert [node.app.id.name for node in tree.descendants(root)] == ["a", "a1", "b"]
    assert [node.app.id.name for node in tree.children(root)] == ["a", "b"]


def test_the_failing_app_furthest_down_is_found_from_the_top() -> None:
    tree = plant(
        draw("root", health="Degraded"),
        draw("middle", parent="root", health="Missing"),
        draw("z-worse", parent="middle", health="Degraded"),
        draw("a-bad", parent="middle", health="Missing"),
        draw("fine", parent="middle"),
    )
    root = tree.named("root")[0]
    deepest = tree.deepest_failing(root)
    assert deepest is not None
    assert deepest.app.id.name == "z-worse"
    assert tree.deepest_failing(tree.named("fine")[0]) is None


def test_an_app_as_a_resource_is_in_its_parent_and_in_its_environment() -> None:
    tree = plant(
        draw("root", project="prod-shop"), draw("web", parent="root", project="staging", labels={"team": "shop"})
    )
    root, web = tree.resource(app_id("root")), tree.resource(app_id("web"))
    assert root.parents == (ENVIRONMENTS.resource("production"),)
    assert web.parents == (root, ENVIRONMENTS.resource("staging"))
    assert web.parents[1].parents == (INSTALLATION,)
    assert dict(web.attributes) == {
        "cluster": "alpha",
        "environment": "staging",
        "labels": ("team=shop",),
        "name": "web",
        "namespace": "argocd",
        "project": "staging",
    }


def test_a_resource_is_shared_until_it_or_what_is_above_it_changes() -> None:
    tree = plant(draw("root"), draw("middle", parent="root"), draw("web", parent="middle"))
    before = tree.resource(app_id("web"))
    tree.put(draw("web", parent="middle", health="Degraded"))
    tree.put(draw("root", health="Degraded"))
    assert tree.resource(app_id("web")) is before
    tree.put(draw("root", labels={"tier": "one"}))
    after = tree.resource(app_id("web"))
    assert after.parents[0].parents[0] == tree.resource(app_id("root"))
    assert dict(after.parents[0].parents[0].attributes)["labels"] == ("tier=one",)


def test_a_resource_moves_with_its_parent() -> None:
    tree = plant(draw("one"), draw("two"), draw("middle", parent="one"), draw("web", parent="middle"))
    tree.put(draw("middle", parent="two"))
    assert tree.resource(app_id("web")).parents[0].parents[0].id == "alpha/argocd/two"


def test_an_app_that_is_not_in_the_tree_is_a_strict_resource() -> None:
    resource = plant().resource(app_id("gone"))
    assert resource.parents == (ENVIRONMENTS.resource("unassigned"),)
    assert dict(resource.parents[0].attributes)["strict"] is True


def test_freshness_is_the_age_of_the_last_sign_of_life() -> None:
    clock = [100.0]
    tree = AppTree(ENVIRONMENTS, stale_after=60, monotonic=lambda: clock[0])
    assert tree.freshness(CLUSTER).stale
    tree.heard(CLUSTER, "42", at=100.0)
    clock[0] = 160.0
    fresh = tree.freshness(CLUSTER)
    assert (fresh.resource_version, fresh.age_seconds, fresh.stale) == ("42", 60.0, False)
    clock[0] = 160.5
    assert tree.freshness(CLUSTER).stale
    assert tree.freshness("beta").stale


def test_a_node_stays_the_same_object_while_its_app_is_there() -> None:
    tree = plant(draw("web"))
    node = tree.get(app_id("web"))
    assert node is not None
    tree.put(draw("web", health="Degraded"))
    assert node.app.health is Health.DEGRADED
    assert tree.get(app_id("web")) is node


def test_an_app_two_clusters_have_is_two_apps() -> None:
    tree = plant(draw("root"), draw("root", cluster="beta"), draw("web", parent="root"))
    assert parent_of(tree, "web") == "root"
    assert tree.named("beta/argocd/root")[0].children == ()
