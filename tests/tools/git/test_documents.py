"""YAML files: read within bounds, edited in one place, every other byte kept."""

import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arborgate.policies.errors import Refused
from arborgate.tools.git import documents
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
    return documents.edit(text, where, after)


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
    assert changed(ODD, after) == [("kind:   First      # spaced by hand", "kind: Other        # spaced by hand")]


def test_what_is_added_stands_as_its_neighbours_do_and_goes_without_a_trace() -> None:
    after = edit(ODD, 1, lambda value: value["spec"]["other"].append("more"))
    assert "        - more\n    flow: {a: 1" in after
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
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "data",
    [b"a: 1\r\n", b"\xef\xbb\xbfa: 1\n", b"a: \xff\n", b"a: " + b"x" * documents.LARGEST],
    ids=["windows", "byte order mark", "latin", "huge"],
)
def test_a_file_that_would_not_be_kept_or_is_huge_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        documents.decode(data)


def test_a_diff_withholds_secrets_beside_the_change_and_shows_what_hides() -> None:
    text = "# password: only-for-this-test-9f8e7d6c\nimage: a:1 # \u202eevil\ntoken: only-for-this-test-0a1b2c3d\n"
    text += "env:\n- name: DB_PASSWORD\n  value: only-for-this-test-4e5f6a7b\n"
    after = edit(text, 0, lambda value: value.update(image="a:2"))
    diff = documents.show_diff("x.yaml", text, after)
    assert "only-for-this-test" not in diff
    assert "\u202e" not in diff
    assert "-image: a:1 # \\u202eevil" in diff.splitlines()
    assert after.count("only-for-this-test") == 3


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
