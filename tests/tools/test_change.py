"""The two laws of a change: what a merge patch does, and when two objects agree on the fields it touches."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arborgate.policies.errors import Refused
from arborgate.tools.change import digest_json, fields_digest, merge

on_a_busy_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=3), inner, max_size=3),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text("ab/~", max_size=3), json_values, max_size=3)

RFC_7386_APPENDIX_A: tuple[tuple[dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
)


@pytest.mark.parametrize(("obj", "patch", "result"), RFC_7386_APPENDIX_A)
def test_a_merge_patch_does_what_rfc_7386_says(
    obj: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    assert merge(obj, patch) == result


@on_a_busy_machine
@given(json_objects, json_objects)
def test_a_merge_patch_applied_twice_is_applied_once(obj: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge(obj, patch)
    assert merge(once, patch) == once


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/spec/replicas", 3),
        ("/spec/images/1", "b"),
        ("/metadata/annotations/example.com~1a~0b", "x"),
        ("/spec/images/2", None),
        ("/spec/images/-", None),
        ("/spec/missing/deeper", None),
        ("/spec/replicas/deeper", None),
    ],
)
def test_a_field_is_found_by_its_json_pointer_and_a_missing_one_counts_as_null(pointer: str, value: object) -> None:
    obj = {
        "spec": {"replicas": 3, "images": ["a", "b"]},
        "metadata": {"annotations": {"example.com/a~b": "x"}},
    }
    assert fields_digest(obj, [pointer]) == digest_json({pointer: value})


def test_the_digest_sees_only_the_fields_it_is_asked_about_in_any_order() -> None:
    before = {"spec": {"replicas": 3, "paused": False}, "status": {"ready": 1}}
    after = {"spec": {"replicas": 3, "paused": False}, "status": {"ready": 2}}
    fields = ["/spec/replicas", "/spec/paused"]
    assert fields_digest(before, fields) == fields_digest(after, reversed(fields))
    assert fields_digest(before, [*fields, "/status"]) != fields_digest(after, [*fields, "/status"])


@on_a_busy_machine
@given(json_values, json_values)
def test_two_objects_have_one_digest_only_when_the_field_is_equal(one: Any, other: Any) -> None:
    same = fields_digest({"a": one}, ["/a"]) == fields_digest({"a": other}, ["/a"])
    assert same == (_tagged(one) == _tagged(other))


def test_a_number_that_canonical_json_cannot_hold_is_refused() -> None:
    with pytest.raises(Refused):
        fields_digest({"a": 2**60}, ["/a"])


def _tagged(value: Any) -> Any:
    """Python takes True for 1; JSON does not."""
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    return (type(value), value)
