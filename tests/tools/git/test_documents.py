"""YAML files: read within bounds, edited in one place, every other byte kept."""

import time
from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arborgate.policies.errors import Refused
from arborgate.tools.git import documents, editing
from tests.tools.git.repository import API

ODD = """\
# Two apps in one file.
---
kind:   First      # spaced by hand
list: [ 1,  2 ]
text: "quoted \\u00e9"
---
# the second
kind: Second
spec:
    deep:
    - name: a     # one
      value: 'x'
    - name: b
      value: |
        kept
          as it is
    other:
        - plain

    # a comment at the end
    flow: {a: 1, b: "2"}
...
---
- third
"""


def edit(text: str, number: int, change: Any) -> str:
    where = documents.split(text)[number]
    after = deepcopy(documents.read(documents.cut_out(text, where)))
    change(after)
    return editing.edit(text, where, after)


def changed(before: str, after: str) -> list[tuple[str, str]]:
    lines = zip(before.splitlines(), after.splitlines(), strict=True)
    return [(one, other) for one, other in lines if one != other]


def test_comments_order_quotes_and_odd_spaces_are_kept() -> None:
    def change(value: Any) -> None:
        value["spec"]["deep"][0]["value"] = "y"
        value["spec"]["other"][0] = "changed"

    after = edit(ODD, 1, change)
    assert changed(ODD, after) == [("      value: 'x'", "      value: 'y'"), ("        - plain", "        - changed")]


def test_every_document_is_edited_by_itself() -> None:
    assert [documents.read(documents.cut_out(ODD, one)) is not None for one in documents.split(ODD)] == [True] * 3
    after = edit(ODD, 0, lambda value: value.update(kind="Other"))
    assert changed(ODD, after) == [("kind:   First      # spaced by hand", "kind:   Other      # spaced by hand")]


def test_what_is_added_stands_as_its_neighbours_do_and_goes_without_a_trace() -> None:
    after = edit(ODD, 1, lambda value: value["spec"]["other"].append("more"))
    assert "        - plain\n        - more\n\n    # a comment at the end\n" in after
    assert edit(after, 1, lambda value: value["spec"]["other"].pop()) == ODD
    added = edit(API, 0, lambda value: value["spec"]["source"]["kustomize"]["images"].append("new:1"))
    assert added == API + "      - new:1\n"


@pytest.mark.parametrize(
    "value", ["1.10", "on", "1e3", "012", "2026-11-01", "null", "0x1f", "~", "yes", "1_000", "a: b"]
)
def test_a_text_that_could_be_taken_for_something_else_is_quoted(value: str) -> None:
    after = edit(API, 0, lambda spec: spec["spec"]["source"].update(targetRevision=value))
    (line,) = [line for line in after.splitlines() if "targetRevision" in line]
    assert line.split("#")[0].split(": ", 1)[1].strip()[0] in "'\""
    assert line.endswith("# follows the branch")


HOSTILE = {
    "an alias": "a: &x [1]\nb: *x\n",
    "a bomb of aliases": "a: &a [x,x]\n"
    + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "a merge key": "a:\n  <<: {b: 1}\n",
    "a tag": "a: !!python/object/apply:os.system [id]\n",
    "a tag of its own": "a: !secret x\n",
    "a key twice": "a: 1\nb: 2\na: 3\n",
    "a key that is no text": "? [a, b]\n: 1\n",
    "no end of brackets": "a: " + "[" * 5_000 + "]" * 5_000,
    "too many parts": "a: [" + "1," * 60_000 + "1]",
    "no YAML": "a: [1\nb: }",
    "a control character": "a: \x01\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml_is_refused_at_once(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(Refused):
        documents.read(text)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "data",
    [b"a: 1\r\n", b"\xef\xbb\xbfa: 1\n", b"a: \xff\n", b"a: " + b"x" * documents.LARGEST],
    ids=["windows", "byte order mark", "latin", "huge"],
)
def test_a_file_that_would_not_be_kept_or_is_huge_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        documents.decode(data)


def test_a_diff_withholds_secrets_beside_the_change_and_shows_what_hides() -> None:
    text = "env:\n- name: DB_PASSWORD\n  value: only-for-this-test-4e5f6a7b\nimage: a:1 # \u202eevil\n"
    text += "# password: only-for-this-test-9f8e7d6c\ntoken: only-for-this-test-0a1b2c3d\n"
    after = edit(text, 0, lambda value: value.update(image="a:2"))
    diff = documents.show_diff("x.yaml", text, after)
    assert "only-for-this-test" not in diff
    assert "\u202e" not in diff
    assert "-image: a:1 # \\u202eevil" in diff.splitlines()
    assert after.count("only-for-this-test") == 3


@pytest.mark.parametrize(
    ("text", "path", "value", "line"),
    [
        ("a: {b: 1, c: x}  # é\n", ("a", "c"), "y", "a: {b: 1, c: y}  # é"),
        ("é: ü\nb:\n  é: old # ü\n", ("b", "é"), "new", "  é: new # ü"),
        ("a:\nb: 2\n", ("a",), "x", "a: x"),
        ("a: [1, 2]\n", ("a", 1), 3, "a: [1, 3]"),
        ("- - a: b\n    c: d # e\n", (0, 0, "c"), "f", "    c: f # e"),
        ('a: "x" # y\n', ("a",), "it's", 'a: "it\'s" # y'),
        ("a: 'x' # y\n", ("a",), "it's", 'a: "it\'s" # y'),
        ("a: 1 # y\n", ("a",), 0, "a: 0 # y"),
    ],
)
def test_a_scalar_is_replaced_where_it_stands(text: str, path: tuple[Any, ...], value: Any, line: str) -> None:
    def change(whole: Any) -> None:
        for part in path[:-1]:
            whole = whole[part]
        whole[path[-1]] = value

    after = edit(text, 0, change)
    assert [one for one in after.splitlines() if one not in text.splitlines()] == [line]


def test_what_can_not_be_changed_alone_is_refused() -> None:
    for text, change in (
        ("{a: 1, b: [1]}\n", lambda value: value["b"].append(2)),
        ("a:\n" + "- x  # y\n" * 3_000, lambda value: value["a"].append("z")),
    ):
        with pytest.raises(Refused):
            edit(text, 0, change)


SCALARS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(st.characters(codec="ascii"), max_size=12))


@given(SCALARS)
@settings(max_examples=40, deadline=None)
def test_whatever_is_written_is_read_again_or_refused(value: Any) -> None:
    try:
        after = edit(API, 0, lambda spec: spec["spec"]["source"].update(targetRevision=value))
    except Refused:
        return
    where = documents.split(after)[0]
    assert documents.read(documents.cut_out(after, where))["spec"]["source"]["targetRevision"] == value


VALUES = st.recursive(
    SCALARS | st.none(),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1, max_size=3), below, max_size=4)
    ),
    max_leaves=12,
)
KEYS = st.dictionaries(st.sampled_from("pqrstu"), VALUES, min_size=1, max_size=4)


@given(KEYS, KEYS, st.booleans())
@example({"q": [False], "p": False}, {"q": [False]}, False)
@settings(max_examples=80, deadline=None)
def test_any_edit_says_what_is_wanted_and_keeps_every_comment_or_is_refused(
    before: dict[str, Any], after: dict[str, Any], flow: bool
) -> None:
    text = "".join(
        f"# {line} #\n{line}\n" for line in yaml.safe_dump(before, default_flow_style=flow or None).splitlines()
    )
    try:
        where = documents.split(text)[0]
        known = documents.read(text)
        edited = editing.edit(text, where, after)
    except Refused:
        return
    assert documents.read(edited) == after
    kept = [key for key in known if key in after and known[key] == after[key]]
    for key in kept:
        assert edited.count(f"# {key}: ") == text.count(f"# {key}: ")
