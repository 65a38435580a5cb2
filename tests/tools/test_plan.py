"""The laws of a plan: its undo restores what was, and changes of one proposal to one object do not trip each other."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arborgate.policies.errors import Refused
from arborgate.tools.change import Change, ChangeKind, Check, JsonObject, Target, fields_digest, merge
from arborgate.tools.plan import follow, goes_back, invert, make_change, make_precondition

on_a_busy_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
keys = st.sampled_from("abc")
scalars = st.booleans() | st.integers(-9, 9) | st.text(max_size=2)
objects = st.recursive(
    st.dictionaries(keys, scalars | st.lists(scalars, max_size=2), max_size=3),
    lambda inner: st.dictionaries(keys, scalars | inner, max_size=3),
    max_leaves=8,
)
patches = st.recursive(
    st.dictionaries(keys, scalars | st.none() | st.lists(scalars, max_size=2), max_size=3),
    lambda inner: st.dictionaries(keys, scalars | st.none() | inner, max_size=3),
    max_leaves=8,
)

TARGET = Target(app="a", cluster="c", api="apps/v1", kind="Deployment", namespace="n", name="x")
LIVE: JsonObject = {
    "metadata": {"uid": "u", "resourceVersion": "1"},
    "spec": {"replicas": 2, "image": "api:1", "other": {"x": 1}},
}


def change(patch: JsonObject, live: JsonObject = LIVE, depends_on: tuple[str, ...] = ()) -> Change:
    return make_change(
        ChangeKind.SCALE,
        TARGET,
        live,
        patch,
        summary="a change",
        check=Check(app="a"),
        wave=0,
        depends_on=depends_on,
    )


@on_a_busy_machine
@given(objects, patches)
def test_the_undo_of_a_patch_restores_what_was(live: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge(merge(live, patch), invert(live, patch)) == live


def test_a_change_is_bound_to_what_it_writes_and_depends_on_and_to_nothing_else() -> None:
    made = change({"spec": {"replicas": 3}}, depends_on=("/spec/image",))
    assert made.precondition.fields == ("/spec/image", "/spec/replicas")
    assert (made.precondition.uid, made.precondition.resource_version) == ("u", "1")
    moved = merge(LIVE, {"spec": {"other": {"x": 2}}})
    assert fields_digest(moved, made.precondition.fields) == made.precondition.digest


def test_a_field_inside_another_is_not_named_twice() -> None:
    assert make_precondition(LIVE, ["/spec/other/x", "/spec/other", "/spec/replicas"]).fields == (
        "/spec/other",
        "/spec/replicas",
    )


def test_a_later_change_holds_before_and_after_the_earlier_one() -> None:
    first = change({"spec": {"image": "api:2"}})
    between = merge(LIVE, first.patch)
    second = follow(change({"spec": {"replicas": 3}}, between, ("/spec/image", "/spec/other")), LIVE, [first])
    assert second.precondition.fields == ("/spec/other", "/spec/replicas")
    for state in (LIVE, between):
        assert fields_digest(state, second.precondition.fields) == second.precondition.digest


def test_two_changes_of_one_field_are_two_proposals() -> None:
    first = change({"spec": {"other": {"x": 2}}})
    with pytest.raises(Refused, match="already writes this field"):
        follow(change({"spec": {"other": None}}), LIVE, [first])


def test_a_patch_with_a_secret_is_refused_and_not_told() -> None:
    with pytest.raises(Refused) as refused:
        change({"spec": {"password": "planted"}})
    assert "planted" not in f"{refused.value} {refused.value.hint} {refused.value.detail}"


@pytest.mark.parametrize(
    ("old", "new", "back"),
    [
        ("1.4.2", "1.4.1", True),
        ("1.4.2", "1.10.0", False),
        ("v2", "v1", False),
        ("v2.0", "v1.9.9-rc1", True),
        ("1.4", "1.4.0", False),
        ("main", "1.0.0", False),
        ("1.4.0", "1.4.0-rc.1", True),
        ("1.4.0-rc.1", "1.4.0", False),
        ("1.4.0-rc.10", "1.4.0-rc.9", True),
        ("1.4.0-beta", "1.4.0-alpha", True),
        ("1.4.0-rc.1", "1.4.0-rc.1.2", False),
        ("1.4.0+build.9", "1.4.0+build.8", False),
        ("16.2-alpine3.19", "16.2-alpine3.18", True),
        ("16.2-alpine3.19", "16.2-bookworm", False),
        ("16.2", "16.2-alpine", False),
        ("1.2.3.4", "1.2.3.3", True),
        ("2026.11.02", "2026.10.30", True),
    ],
)
def test_a_version_goes_back_only_when_both_are_versions(old: str, new: str, back: bool) -> None:
    assert goes_back(old, new) is back
