"""Who changed a target last, as the object itself tells."""

from typing import Any

import pytest

from arborgate.tools.change import Change, ChangeKind, Check, Target
from arborgate.tools.kubernetes import changes as writer
from arborgate.tools.last import FIELD_MANAGER, MARK, LastChange, Trace, find_last
from arborgate.tools.plan import make_change

TARGET = Target(app="main/argocd/api", cluster="main", api="apps/v1", kind="Deployment", namespace="shop", name="api")


def entry(manager: str, at: str, **fields: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "time": at, "fieldsType": "FieldsV1", "fieldsV1": fields}


def deployment(*entries: Any, mark: str = "") -> dict[str, Any]:
    metadata = {"uid": "u", "resourceVersion": "1", "managedFields": list(entries), "annotations": {MARK: mark}}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 3}}


SCALED: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
ELSEWHERE: dict[str, Any] = {"f:status": {"f:replicas": {}}}


def test_the_newest_writer_of_a_watched_field_is_named() -> None:
    live = deployment(
        entry("kubectl", "2025-11-20T08:00:00Z", **SCALED),
        entry("ada@example.com", "2025-11-21T08:00:00Z", **SCALED),
        entry("controller", "2025-11-22T08:00:00Z", **ELSEWHERE),
    )
    assert find_last(live, ["/spec/replicas"]) == (
        LastChange(trace=Trace.WRITTEN, by="ada@example.com", at="2025-11-21T08:00:00Z", fields=("/spec/replicas",)),
    )
    assert find_last(live, ["/spec/paused"]) == ()


@pytest.mark.parametrize(
    ("owned", "pointer", "owns"),
    [
        ({"f:spec": {}}, "/spec/replicas", True),
        ({"f:spec": {".": {}}}, "/spec/replicas", True),
        ({"f:spec": {".": {}, "f:paused": {}}}, "/spec/replicas", False),
        ({"f:spec": {"f:template": {"f:x": {}}}}, "/spec/template", True),
        ({"f:metadata": {"f:annotations": {"f:a/b": {}}}}, "/metadata/annotations/a~1b", True),
        ({"f:spec": {"f:sources": {}}}, "/spec/sources/0/targetRevision", True),
    ],
)
def test_a_field_belongs_to_who_owns_it_or_all_around_it(owned: dict[str, Any], pointer: str, owns: bool) -> None:
    live = deployment({**entry("kubectl", "2025-11-20T08:00:00Z"), "fieldsV1": owned})
    assert bool(find_last(live, [pointer])) is owns


def test_a_write_of_the_applier_names_its_proposal() -> None:
    written = entry("arborgate", "2025-11-20T08:00:00Z", **SCALED)
    (last,) = find_last(deployment(written, mark="p-dc0l4eqjog0c7c9e/0"), ["/spec/replicas"])
    assert last.proposal == "p-dc0l4eqjog0c7c9e"
    later = entry("kubectl", "2025-11-21T08:00:00Z", **SCALED)
    for live in (
        deployment(written, later, mark="p-dc0l4eqjog0c7c9e/0"),
        deployment(written, mark="p-<script>/0"),
    ):
        assert find_last(live, ["/spec/replicas"])[0].proposal == ""


def test_the_writes_of_the_applier_are_known_by_what_it_writes() -> None:
    assert (MARK, FIELD_MANAGER) == (writer.MARK, writer.FIELD_MANAGER)


@pytest.mark.parametrize(
    ("by", "name"),
    [({"username": "ada"}, "ada"), ({"automated": True}, "automation of Argo CD"), (None, ""), ("x", "")],
)
def test_the_newest_deployment_of_an_app_is_named(by: Any, name: str) -> None:
    history = [
        {"id": 1, "deployedAt": "2025-11-19T08:00:00Z", "revision": "aaa"},
        {"id": 2, "deployedAt": "2025-11-20T08:00:00Z", "revision": "bbb", "initiatedBy": by},
    ]
    live = {"kind": "Application", "metadata": {}, "status": {"history": history}}
    assert find_last(live, ["/spec"]) == (
        LastChange(trace=Trace.DEPLOYED, by=name, at="2025-11-20T08:00:00Z", revision="bbb"),
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {"managedFields": "x"},
        {"managedFields": [None, 1, {}, {"time": "yesterday", "fieldsV1": SCALED}, {"fieldsV1": "x"}]},
        {"annotations": 7, "managedFields": [{"fieldsV1": {"f:spec": 1}, "time": 5}]},
    ],
)
def test_nonsense_is_passed_over(metadata: dict[str, Any]) -> None:
    assert find_last({"kind": "Application", "metadata": metadata, "status": {"history": 3}}, ["/spec/replicas"]) == ()


def test_what_hides_or_is_a_secret_is_not_carried() -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    for manager, by in (("ku\u202ebe\x1b[31m", "kube"), (token, "(withheld)"), ("x " * 500, None)):
        (last,) = find_last(deployment(entry(manager, "2025-11-20T08:00:00Z", **SCALED)), ["/spec/replicas"])
        assert last.by == by if by else len(last.by) <= 80


def plan(live: dict[str, Any]) -> Change:
    check = Check(app=TARGET.app)
    return make_change(
        ChangeKind.SCALE, TARGET, live, {"spec": {"replicas": 5}}, summary="Scale api", check=check, wave=0
    )


def test_a_plan_says_who_changed_its_target_last() -> None:
    change = plan(deployment(entry("kubectl", "2025-11-20T08:00:00Z", **SCALED)))
    assert [one.by for one in change.last] == ["kubectl"]
    assert Change.model_validate_json(change.model_dump_json()) == change


def test_where_nothing_is_known_the_form_of_a_change_is_as_before() -> None:
    assert "last" not in plan(deployment()).model_dump(mode="json")
