"""The traps of the app-of-apps pattern, each drawn as a small world."""

from pathlib import Path

import pytest

from arborgate.tools.tree import AppId, AppTree, FindingKind, ParentBy
from tests.tools.tree.world import CLUSTER, ENVIRONMENTS, NOON, app_id, draw, lists, plant


def _kinds(tree: AppTree, name: str) -> list[FindingKind]:
    node = tree.get(app_id(name))
    assert node is not None
    return [finding.kind for finding in node.findings]


def _apps(tree: AppTree, name: str, kind: FindingKind) -> tuple[AppId, ...]:
    node = tree.get(app_id(name))
    assert node is not None
    return next(finding.apps for finding in node.findings if finding.kind is kind)


def test_a_tree_in_order_has_no_findings() -> None:
    tree = plant(
        draw("root", resources=lists("api", "web"), heals=True),
        draw("api", parent="root", automated=True),
        draw("web", parent="root", heals=True),
    )
    assert [node.findings for node in tree.nodes()] == [(), (), ()]


def test_differing_waves_on_child_apps_are_told_to_the_parent() -> None:
    tree = plant(draw("root"), draw("db", parent="root", wave=-1), draw("api", parent="root", wave=2, automated=True))
    assert _kinds(tree, "root") == [FindingKind.WAVES_ORDER_NOTHING]
    assert _apps(tree, "root", FindingKind.WAVES_ORDER_NOTHING) == (app_id("api"),)
    root = tree.get(app_id("root"))
    assert root is not None
    assert "from -1 to 2" in root.findings[0].message
    assert "Unless a health check for argoproj.io/Application is configured" in root.findings[0].message
    assert "1 of them sync by themselves" in root.findings[0].message


def test_equal_waves_are_no_trap() -> None:
    tree = plant(draw("root"), draw("db", parent="root", wave=1), draw("api", parent="root", wave=1))
    assert _kinds(tree, "root") == []


def test_waves_on_the_apps_of_an_application_set_are_not_the_parents() -> None:
    tree = plant(
        draw("root", resources=lists("fleet", kind="ApplicationSet")),
        draw("db", owner_set="fleet", wave=1),
        draw("api", owner_set="fleet", wave=2),
    )
    assert _kinds(tree, "root") == []


@pytest.mark.parametrize("health", ["Degraded", "Missing"])
def test_a_parent_that_looks_healthy_while_a_child_is_not_is_told(health: str) -> None:
    tree = plant(draw("root", resources=lists("web")), draw("web", parent="root", health=health))
    assert _kinds(tree, "root") == [FindingKind.HEALTHY_PARENT_MISSING_CHILD]
    assert _apps(tree, "root", FindingKind.HEALTHY_PARENT_MISSING_CHILD) == (app_id("web"),)


def test_a_parent_that_looks_healthy_while_a_child_does_not_exist_is_told_until_it_does() -> None:
    tree = plant(draw("root", resources=lists("web")))
    assert _kinds(tree, "root") == [FindingKind.HEALTHY_PARENT_MISSING_CHILD]
    tree.put(draw("web", parent="root"))
    assert _kinds(tree, "root") == []
    tree.remove(app_id("web"))
    assert _kinds(tree, "root") == [FindingKind.HEALTHY_PARENT_MISSING_CHILD]


def test_a_parent_that_says_that_it_is_unwell_is_believed() -> None:
    tree = plant(draw("root", resources=lists("web"), health="Degraded"), draw("web", parent="root", health="Degraded"))
    assert _kinds(tree, "root") == []


def test_a_child_in_another_cluster_is_not_missing() -> None:
    assert _kinds(plant(draw("root", resources=lists("web"), destination="https://far.example:6443")), "root") == []


def test_a_child_in_a_namespace_that_is_not_watched_is_not_missing() -> None:
    tree = AppTree(ENVIRONMENTS, now=lambda: NOON)
    tree.watch_only(CLUSTER, ["argocd"])
    tree.replace(CLUSTER, [draw("root", resources=lists("web", namespace="team"))])
    assert _kinds(tree, "root") == []
    tree.put(draw("root", resources=lists("web")))
    assert _kinds(tree, "root") == [FindingKind.HEALTHY_PARENT_MISSING_CHILD]


def test_an_app_that_nobody_tracks_among_tracked_ones_is_told() -> None:
    tree = plant(draw("root"), draw("web", parent="root"), draw("stray"))
    assert _kinds(tree, "stray") == [FindingKind.UNTRACKED]
    assert _kinds(tree, "root") == []
    tree.remove(app_id("web"))
    assert _kinds(tree, "stray") == []


def test_an_app_whose_parent_is_gone_is_told_even_when_it_has_children() -> None:
    tree = plant(draw("middle", parent="gone"), draw("web", parent="middle"))
    assert _kinds(tree, "middle") == [FindingKind.UNTRACKED]
    tree.put(draw("gone"))
    assert _kinds(tree, "middle") == []


def test_an_app_that_an_application_set_generates_is_not_untracked() -> None:
    tree = plant(draw("root"), draw("web", parent="root"), draw("made", owner_set="fleet"))
    assert _kinds(tree, "made") == []


def test_a_live_change_that_the_parents_self_heal_will_undo_is_told_to_the_child() -> None:
    child = draw("web", parent="root")
    tree = plant(draw("root", resources=lists("web", sync="OutOfSync"), heals=True), child)
    assert _kinds(tree, "web") == [FindingKind.SELF_HEAL_WILL_UNDO]
    assert _apps(tree, "web", FindingKind.SELF_HEAL_WILL_UNDO) == (app_id("root"),)
    tree.put(draw("root", resources=lists("web", sync="OutOfSync"), automated=True))
    assert _kinds(tree, "web") == []


def test_an_app_out_of_sync_that_heals_itself_is_told() -> None:
    assert _kinds(plant(draw("web", heals=True, sync="OutOfSync")), "web") == [FindingKind.SELF_HEAL_WILL_UNDO]
    assert _kinds(plant(draw("web", automated=True, sync="OutOfSync")), "web") == []


def test_only_the_direct_parent_that_heals_itself_undoes_a_live_change() -> None:
    tree = plant(draw("root", heals=True), draw("middle", parent="root"), draw("web", parent="middle"))
    undone = {node.app.id.name: tree.undone_by(node) for node in tree.nodes()}
    assert undone == {"root": None, "middle": app_id("root"), "web": None}


def test_the_parent_of_an_application_sets_app_undoes_nothing_in_it() -> None:
    """It heals the ApplicationSet; what the set generates is the set's own business."""
    fleet = lists("fleet", kind="ApplicationSet")
    tree = plant(draw("root", heals=True, resources=fleet), draw("web", owner_set="fleet"))
    assert tree.undone_by(tree.named("web")[0]) is None


def test_what_changes_in_a_child_is_judged_again_in_whoever_lists_or_owns_it() -> None:
    tree = plant(draw("lister", resources=lists("web")), draw("owner"), draw("web", parent="owner", wave=1))
    tree.put(draw("api", parent="owner", wave=1))
    assert (_kinds(tree, "lister"), _kinds(tree, "owner")) == ([], [])
    tree.put(draw("web", parent="owner", wave=2, health="Degraded"))
    assert _kinds(tree, "lister") == [FindingKind.HEALTHY_PARENT_MISSING_CHILD]
    assert _kinds(tree, "owner") == [FindingKind.WAVES_ORDER_NOTHING]


def test_a_deletion_that_finalizers_hold_is_told_once_it_takes_too_long() -> None:
    clock = [NOON]
    tree = AppTree(ENVIRONMENTS, now=lambda: clock[0])
    held = draw("web", deleted="2026-11-24T11:59:00Z", finalizers=["resources-finalizer.argocd.argoproj.io"])
    tree.put(held)
    assert _kinds(tree, "web") == []
    generation = tree.generation
    clock[0] += 300
    assert _kinds(tree, "web") == [FindingKind.FINALIZER_BLOCKS]
    assert tree.generation > generation


def test_a_deletion_without_finalizers_holds_nothing() -> None:
    assert _kinds(plant(draw("web", deleted="2026-11-24T01:00:00Z")), "web") == []


def test_a_cycle_is_told_to_everybody_in_it() -> None:
    tree = plant(draw("a", parent="b"), draw("b", parent="a"), draw("c", parent="a"))
    assert [_kinds(tree, name) for name in "abc"] == [[FindingKind.CYCLE], [FindingKind.CYCLE], []]
    assert _apps(tree, "a", FindingKind.CYCLE) == (app_id("b"),)


def test_two_parents_are_told_with_both() -> None:
    tree = plant(draw("one", resources=lists("web")), draw("two", resources=lists("web")), draw("web", parent="two"))
    assert _kinds(tree, "web") == [FindingKind.TWO_PARENTS]
    assert _apps(tree, "web", FindingKind.TWO_PARENTS) == (app_id("one"), app_id("two"))
    tree.put(draw("one"))
    assert _kinds(tree, "web") == []


def test_findings_hold_no_text_from_the_cluster() -> None:
    """Names of other apps are beside the words, where whoever may not know of them can be spared them."""
    tree = plant(
        draw(
            "marked-root", resources=lists("marked-gone", "marked-web", sync="OutOfSync"), heals=True, sync="OutOfSync"
        ),
        draw("marked-two", resources=lists("marked-web"), parent="marked-missing"),
        draw(
            "marked-web", parent="marked-root", wave=1, deleted="2026-11-24T01:00:00Z", finalizers=["marked.example/x"]
        ),
        draw("marked-api", parent="marked-root", wave=2, health="Degraded"),
        draw("marked-a", parent="marked-b"),
        draw("marked-b", parent="marked-a"),
        draw("marked-stray"),
    )
    findings = [finding for node in tree.nodes() for finding in node.findings]
    assert {finding.kind for finding in findings} == set(FindingKind)
    assert not [finding for finding in findings if "marked" in finding.message + finding.way_out]


def test_every_finding_and_every_way_to_find_a_parent_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "app-tree.md").read_text(encoding="utf-8")
    assert [word for word in (*FindingKind, *ParentBy) if f"| `{word}` |" not in text] == []
