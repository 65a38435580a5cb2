"""What a change would do, told again: all that is planned here comes out the same, and a lie in any of its words shows."""

import copy
from typing import Any

import pytest

from arborgate.policies.errors import Refused
from arborgate.server.retold import RETELLINGS as RETELLINGS_OF_ALL
from arborgate.tools.argocd.changes import combine_images, plan_rollback, plan_set_image, plan_set_revision, plan_sync
from arborgate.tools.change import Change, ChangeKind, merge
from arborgate.tools.plan import follow, leave
from arborgate.tools.retelling import TOLD, retell
from arborgate.tools.risk import Factor
from arborgate.tools.rollouts.changes import plan_restart, plan_scale, workload_target
from arborgate.tools.rollouts.retelling import RETELLINGS
from tests.tools.rollouts.applications import (
    AUTOMATED,
    KUSTOMIZE,
    OLDER,
    make_application,
    make_entry,
    make_managed,
    make_workload,
)
from tests.tools.rollouts.test_claims import API, BOTH, CHART, KUSTOM, PLANS, read

AT = 1_800_000_000.0
LIVE = make_application()
NODE = read(LIVE)
WORKLOAD = make_workload("Deployment", "api")
SCALE = plan_scale(NODE, workload_target(NODE, "Deployment/api", ()), WORKLOAD, replicas=5).change


def lie(change: Change, **told: Any) -> Change:
    return change.model_copy(update=told)


def check(change: Change, live: dict[str, Any], *earlier: Change) -> None:
    retell(RETELLINGS, read(live), change, live, earlier, proposed_at=AT)


@pytest.mark.parametrize(("live", "plan"), PLANS)
def test_all_that_is_planned_for_an_app_is_told_again_with_its_risks(live: dict[str, Any], plan: Any) -> None:
    told = {risk.factor for risk in plan.risks}
    found = {risk.factor for risk in retell(RETELLINGS, read(live), plan.change, live, (), proposed_at=AT).risks}
    assert found == told or plan.change.kind is ChangeKind.SYNC  # whose risk is found by the app's history


@pytest.mark.parametrize("kind", ["Deployment", "Rollout"])
def test_what_is_planned_for_a_workload_is_told_again(kind: str) -> None:
    managed = make_managed(kind, "api", group="argoproj.io" if kind == "Rollout" else "apps", version="v1alpha1")
    managed = managed if kind == "Rollout" else make_managed(kind, "api")
    live = make_application(status={"resources": [managed]})
    node, workload = read(live), make_workload(kind, "api")
    target = workload_target(node, f"{kind}/api", ())
    workload["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "pull"}]
    restart, scale = plan_restart(node, target, workload, now=AT), plan_scale(node, target, workload, replicas=0)
    for plan in (restart, scale):
        again = retell(RETELLINGS, node, plan.change, workload, (), proposed_at=AT)
        assert again == plan
    assert restart.risks[0].factor is Factor.SECRETS_TOUCHED


LIES: dict[str, dict[str, Any]] = {
    "patch": {"patch": {"spec": {"replicas": 6}}},
    "a float": {"patch": {"spec": {"replicas": 5.0}}},
    "a truth": {"patch": {"spec": {"replicas": True}}},
    "a text": {"patch": {"spec": {"replicas": "5"}}},
    "summary": {"summary": SCALE.summary.replace("to 5", "to 3")},
    "summary looks alike": {"summary": SCALE.summary.replace("Scale", "Sc\u0430le")},
    "summary has more": {"summary": f"{SCALE.summary}\u200b"},
    "diff": {"diff": SCALE.diff.replace("+  replicas: 5", "+  replicas: 3")},
    "no diff": {"diff": ""},
    "undo": {"undo": {"spec": {"replicas": 0}}},
    "no undo": {"undo": None, "undo_note": "The data was migrated."},
    "a note beside the undo": {"undo_note": "It is undone by itself."},
    "check": {"check": SCALE.check.model_copy(update={"health": ""})},
    "time": {"check": SCALE.check.model_copy(update={"timeout": 1})},
    "wave": {"wave": -5},
    "kind": {"kind": ChangeKind.RESTART},
    "watches less": {"precondition": SCALE.precondition.model_copy(update={"fields": ()})},
}


@pytest.mark.parametrize("told", LIES.values(), ids=LIES)
def test_a_lie_about_a_change_shows(told: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"is not what it says|can tell what"):
        retell(RETELLINGS, NODE, lie(SCALE, **told), WORKLOAD, (), proposed_at=AT)
    assert retell(RETELLINGS, NODE, SCALE, WORKLOAD, (), proposed_at=AT).change == SCALE


def test_every_word_that_is_told_is_compared() -> None:
    assert {*TOLD} == {*Change.model_fields} - {"kind", "target", "precondition", "last"}


def test_who_changed_it_last_is_what_the_object_tells_unless_something_newer_does() -> None:
    def written(manager: str, at: str) -> dict[str, Any]:
        entry = {"manager": manager, "time": at, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        return merge(WORKLOAD, {"metadata": {"managedFields": [entry]}})

    before, after = "2025-11-20T08:00:00Z", "2035-11-20T08:00:00Z"
    live = written("kubectl", before)
    told = plan_scale(NODE, SCALE.target, live, replicas=5, ignored=True).change
    assert [one.by for one in told.last] == ["kubectl"]
    assert retell(RETELLINGS, NODE, told, live, (), proposed_at=AT).change == told
    assert retell(RETELLINGS, NODE, told, written("helm", after), (), proposed_at=AT)
    other = told.last[0].model_copy(update={"by": "ada"})
    for change, now in (
        (lie(told, last=(other,)), live),
        (lie(told, last=()), live),
        (lie(SCALE, last=told.last), WORKLOAD),
        (told, written("helm", before)),
    ):
        with pytest.raises(Refused, match="who changed the target last"):
            retell(RETELLINGS, NODE, change, now, (), proposed_at=AT)


def test_a_change_that_would_do_nothing_is_not_told() -> None:
    nothing = lie(SCALE, patch={"spec": {"replicas": 2}}, undo={"spec": {"replicas": 0}})
    with pytest.raises(Refused, match="has 2 replicas already"):
        retell(RETELLINGS, NODE, nothing, WORKLOAD, (), proposed_at=AT)


def test_of_what_nobody_here_plans_nothing_is_told() -> None:
    target = SCALE.target.model_copy(update={"api": "v1", "kind": "ConfigMap"})
    with pytest.raises(Refused, match="Nothing here can tell what a scale of ConfigMap"):
        retell(RETELLINGS, NODE, lie(SCALE, target=target), WORKLOAD, (), proposed_at=AT)


def test_what_nobody_wrote_about_may_move() -> None:
    moved = merge(WORKLOAD, {"metadata": {"resourceVersion": "99", "labels": {"new": "label"}}, "status": {"x": 1}})
    assert retell(RETELLINGS, NODE, SCALE, moved, (), proposed_at=AT).change.diff == SCALE.diff
    sync = plan_sync(NODE, LIVE).change
    later = copy.deepcopy(LIVE)
    later["status"]["sync"]["revision"] = OLDER
    later["status"]["history"].append(
        {**make_entry(9, OLDER, {"source": KUSTOMIZE}), "deployedAt": "2099-01-01T00:00:00Z"}
    )
    check(sync, later)


def test_an_undo_to_another_deployment_than_the_last_one_shows() -> None:
    sync = plan_sync(NODE, LIVE, revision="v2").change
    assert sync.undo is not None
    older = merge(sync.undo, {"operation": {"sync": {"revision": OLDER}}})
    with pytest.raises(Refused, match="how it is undone differs"):
        check(lie(sync, undo=older), LIVE)


def test_an_app_that_syncs_by_itself_since_is_not_told_to_wait_for_a_sync() -> None:
    change = plan_set_revision(read(CHART), CHART, revision="2.0.0").change
    automated = merge(CHART, {"spec": {"syncPolicy": AUTOMATED}})
    with pytest.raises(Refused, match="what it is called differs"):
        check(change, automated)


def test_a_roll_back_to_another_entry_than_it_says_shows() -> None:
    change = plan_rollback(read(KUSTOM), KUSTOM, history_id=1).change
    with pytest.raises(Refused, match="what it is called differs"):
        check(lie(change, summary=change.summary.replace("entry 1", "entry 2")), KUSTOM)


def test_several_images_in_one_change_are_told_in_the_order_that_they_are_named() -> None:
    first = plan_set_image(read(KUSTOM), KUSTOM, image=f"{API}:1.5.0")
    second = plan_set_image(read(KUSTOM), leave(KUSTOM, [first.change]), image="registry.example.org/shop/proxy:2.1.0")
    both = combine_images(read(KUSTOM), KUSTOM, first, second).change
    check(both, KUSTOM)
    for less in (first.change.summary, second.change.summary, both.summary.replace("1.5.0", "1.4.0")):
        with pytest.raises(Refused):
            check(lie(both, summary=less), KUSTOM)
    with pytest.raises(Refused):
        check(lie(both, patch=first.change.patch), KUSTOM)


def test_an_image_of_another_name_is_told_with_the_name_that_it_has() -> None:
    change = plan_set_image(read(KUSTOM), KUSTOM, image=f"{API}=mirror.example.org/api:1.5.0").change
    check(change, KUSTOM)
    with pytest.raises(Refused):
        check(lie(change, summary=change.summary.replace("mirror.example.org/api", API)), KUSTOM)


def test_a_source_that_is_not_the_named_one_shows() -> None:
    change = plan_set_revision(read(BOTH), BOTH, revision="2.0.0", source=1).change
    with pytest.raises(Refused):
        check(lie(change, summary=change.summary.replace("source 1", "source 2")), BOTH)


def test_changes_of_one_object_are_told_one_on_the_other() -> None:
    revision = plan_set_revision(read(KUSTOM), KUSTOM, revision="v9").change
    planned = plan_sync(read(KUSTOM), leave(KUSTOM, [revision]), revision="v9").change
    sync = follow(planned, KUSTOM, [revision])
    check(revision, KUSTOM)
    check(sync, KUSTOM, revision)
    done = merge(KUSTOM, revision.patch)
    check(sync, done, revision)
    with pytest.raises(Refused, match="what it watches differs"):
        check(sync, KUSTOM)


def test_every_kind_can_be_told_of_what_it_is_planned_for() -> None:
    assert {kind for kind, _ in RETELLINGS_OF_ALL} == {*ChangeKind}
