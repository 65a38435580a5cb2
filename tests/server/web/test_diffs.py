"""How diffs are shown: told apart, marked and folded, and still the diff, letter for letter."""

import html
import re
import time
from difflib import unified_diff

from hypothesis import given
from hypothesis import strategies as st

from arborgate.server.web.diffs import SHOWN, Block, DiffView, Fold, Line, view_diff
from arborgate.tools.change import ChangeKind
from arborgate.tools.undo import diff_undo
from tests.server.web.world import DIFF, make_change

LINES = st.lists(st.text(alphabet=st.sampled_from("abc: -\"'#<>&[]{},19\u202e\u200b\u05d0"), max_size=12), max_size=30)


def read(view: DiffView) -> str:
    """The diff as the page's elements say it."""
    lines = [str(name) for name in view.files]
    for block in (*view.blocks, *view.rest):
        lines += [line.sign + re.sub(r"<[^>]*>", "", str(line.text)) for line in (*block.lines, *block.old, *block.new)]
    return "\n".join(html.unescape(line) for line in lines)


def plain(text: str) -> str:
    """The text as `reveal` and `isolate` leave it alone."""
    return re.sub("[\u202e\u200b\u05d0]", "", text)


@given(LINES, LINES, st.integers(0, 40))
def test_what_is_shown_is_the_diff_letter_for_letter(old: list[str], new: list[str], context: int) -> None:
    before, after = ([plain(line) for line in lines] for lines in (old, new))
    diff = "\n".join(unified_diff(before, after, "one (live)", "one (planned)", lineterm="", n=context))
    assert read(view_diff(diff, str)) == diff


@given(LINES)
def test_any_text_passes_for_a_diff_and_nothing_in_it_becomes_an_element(lines: list[str]) -> None:
    view = view_diff("\n".join(["@@", *lines]), str)
    tags = re.findall(r"<[^>]*>", "".join(str(line.text) for block in view.blocks for line in list_lines(block)))
    assert set(tags) <= {"<mark>", "</mark>", "</span>", *(f'<span class="y-{kind}">' for kind in KINDS)}


KINDS = ("comment", "key", "number", "text", "word")


def list_lines(block: Block) -> tuple[Line, ...]:
    return (*block.lines, *block.old, *block.new)


def test_the_words_that_differ_are_marked() -> None:
    (block,) = [block for block in view_diff(DIFF, str).blocks if block.old]
    assert str(block.old[0].text) == '  <span class="y-key">targetRevision</span>: v2.<mark>14.0</mark>'
    assert str(block.new[0].text) == '  <span class="y-key">targetRevision</span>: v2.<mark>13.4</mark>'


def test_lines_with_little_in_common_are_not_compared_word_by_word() -> None:
    view = view_diff("@@\n-replicas: 3\n+image: registry.test/api@sha256", str)
    assert "<mark>" not in read_markup(view)


def read_markup(view: DiffView) -> str:
    return "".join(str(line.text) for block in (*view.blocks, *view.rest) for line in list_lines(block))


def test_yaml_is_told_apart() -> None:
    view = view_diff('@@\n+ - name: "a: b"\n+   on: true # why\n+   count: 12\n+   path: a#b', str)
    assert re.sub(r"</?mark>", "", read_markup(view)) == (
        '@@ - <span class="y-key">name</span>: <span class="y-text">&#34;a: b&#34;</span>'
        '   <span class="y-key">on</span>: <span class="y-word">true</span><span class="y-comment"> # why</span>'
        '   <span class="y-key">count</span>: <span class="y-number">12</span>'
        '   <span class="y-key">path</span>: a#b'
    )


def test_long_runs_of_unchanged_lines_are_folded() -> None:
    same = "\n".join(f" line {number}" for number in range(20))
    view = view_diff(f"@@ -1 +1 @@\n-a\n{same}\n+b", str)
    assert [(block.size, block.fold) for block in view.blocks] == [
        (1, None),
        (1, None),
        (3, None),
        (14, Fold.SAME),
        (3, None),
        (1, None),
    ]


def test_of_a_big_diff_the_beginning_is_shown_and_the_rest_is_a_click_away() -> None:
    view = view_diff("@@\n" + "\n".join(f"+line {number}" for number in range(5_000)), str)
    shown = sum(block.size for block in view.blocks)
    assert SHOWN / 2 < shown <= SHOWN + 1
    assert (shown + view.rest_size, view.added) == (5_001, 5_000)


def test_a_hostile_diff_takes_no_longer_than_its_length_allows() -> None:
    hostile = "@@\n" + "\n".join(
        f"{sign}{body}"
        for body in ("a " * 999, "a." * 990 + "b", '"' * 1_900, "- " * 900, " #" * 900)
        for sign in "-+" * 20
    )
    began = time.process_time()
    view_diff(hostile, str)
    assert time.process_time() - began < 2


def test_a_secret_or_a_name_never_comes_back_in_pieces() -> None:
    diff = "@@\n-owner: ada@example.com\n+owner: bob@example.com"
    view = view_diff(diff, lambda line: re.sub(r"\w+@example\.com", "[mail]", line))
    assert read(view) == "@@\n-owner: [mail]\n+owner: [mail]"


def test_the_undo_is_a_diff_of_what_it_writes() -> None:
    undo = diff_undo(make_change())
    assert undo.split("\n")[:2] == [
        "--- Application argocd/orders-api (applied)",
        "+++ Application argocd/orders-api (undone)",
    ]
    assert "-    targetRevision: v2.13.4\n+    targetRevision: v2.14.0" in undo
    assert diff_undo(make_change(undo=None)) == ""


def test_the_undo_of_an_operation_is_another_operation() -> None:
    operations = [{"operation": {"sync": {"revision": each}}} for each in ("v2", "v1")]
    undo = diff_undo(make_change(kind=ChangeKind.SYNC, patch=operations[0], undo=operations[1]))
    assert [line for line in undo.split("\n")[3:] if not line.startswith("+")] == []
    assert "+    revision: v1" in undo
