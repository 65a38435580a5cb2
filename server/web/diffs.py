"""A diff as people read it: folded where nothing changes, its words marked where lines differ, its YAML told apart.

Nothing is added to the lines and nothing is taken away: the signs and texts of a view in their order are the diff."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from itertools import groupby, pairwise

from markupsafe import Markup, escape

from .words import DiffLine, Mark, read_diff, reveal_clean

CONTEXT = 3
"""How many unchanged lines are shown on both sides of a fold."""

SHOWN = 120
"""How many lines of one diff are shown before the rest is folded."""

_CHUNK = SHOWN // 3
_FOLD_FROM = 2 * CONTEXT + 4
_LONGEST = 2_000
"""A longer line is shown plain: nobody reads it word by word, and marking it would cost the more the longer it is."""

_WORDS_COMPARED = 80
"""Of more words that differ in one line no common ones are looked for: the time grows with their square."""

_ALIKE = 0.35
"""The share that two lines have in common at least for their words to be compared."""

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_YAML = re.compile(
    r"(?P<indent>[ \t]*(?:- +)*)"
    r"(?:(?P<key>\"[^\"]{1,200}\"|'[^']{1,200}'|[\w./~$@%-][\w./ ~$@%-]{0,199})(?P<colon>:)(?=\s|$)\s*)?"
)
_SCALAR = re.compile(
    r"(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*')|(?P<number>[-+]?\d+(?:\.\d+)?)|(?P<word>true|false|null|~)"
)
_COMMENT = re.compile(r"(?:^|\s)#.*")


class Fold(StrEnum):
    """Why lines are folded away."""

    REST = "rest"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is shown: `sign` is what the diff begins it with."""

    mark: Mark
    sign: str
    text: Markup


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that stand together: unchanged ones and headings of hunks in `lines`, or what was there (`old`) beside what
    comes instead (`new`). `fold` says that it is folded."""

    lines: tuple[Line, ...] = ()
    old: tuple[Line, ...] = ()
    new: tuple[Line, ...] = ()
    fold: Fold | None = None

    @property
    def size(self) -> int:
        return len(self.lines) + len(self.old) + len(self.new)


@dataclass(frozen=True, slots=True)
class DiffView:
    """One diff: the names of what is compared, what is shown at once, and what is folded below it."""

    files: tuple[Markup, ...]
    blocks: tuple[Block, ...]
    rest: tuple[Block, ...]
    added: int
    removed: int

    @property
    def rest_size(self) -> int:
        return sum(block.size for block in self.rest)


def view_diff(diff: str, clean: Callable[[str], str]) -> DiffView:
    """The diff for a page. `clean` takes out of a line what its reader may not see; words are told apart afterwards, so
    that none of it can come back in pieces. Takes time in proportion to the length of the diff."""
    lines = read_diff(diff, clean)
    blocks = list(_fold(_group(lines)))
    sizes: list[int] = []
    total = 0
    for block in blocks:
        total += 1 if block.fold else block.size
        sizes.append(total)
    shown = len(blocks) if total <= SHOWN else max(1, bisect(sizes, SHOWN))
    return DiffView(
        files=tuple(escape(reveal_clean(line, clean)) for line in _list_files(diff)),
        blocks=tuple(blocks[:shown]),
        rest=tuple(blocks[shown:]),
        added=sum(line.mark is Mark.ADDED for line in lines),
        removed=sum(line.mark is Mark.REMOVED for line in lines),
    )


def write_diff(view: DiffView, label: str, shows: str = "") -> Markup:
    """The view as markup: written here, since a template takes several times as long for thousands of lines. The text of
    the elements marked `data-line`, joined by line feeds, is the diff; `shows` is what of the content that is, as an
    RFC 6901 pointer."""
    pointer = Markup(' data-shows="{}"').format(shows) if shows else ""
    said = Markup('<div class="diff" role="group" aria-label="{}: {} added, {} removed"{}>\n').format(
        label, view.added, view.removed, pointer
    )
    files = [f'<div class="line file"><span data-line>{name}</span></div>\n' for name in view.files]
    shown = [_write_block(block) for block in view.blocks] or [_NOTHING]
    rest = [_write_fold(f"{view.rest_size} more lines", map(_write_block, view.rest))] if view.rest else []
    return Markup("".join((str(said), *files, *shown, *rest, "</div>")))  # noqa: S704  # escaped piece by piece


_NOTHING = """<div class="line same"><span class="sign" aria-hidden="true"></span>\
<span>No field differs: the change is in the action itself.</span></div>
"""
_CODE = {Mark.ADDED: ("added", "ins"), Mark.REMOVED: ("removed", "del")}


def _write_block(block: Block) -> str:
    lines = [_write_line(line) for line in block.lines]
    if block.fold:
        return _write_fold(f"{block.size} unchanged lines", lines)
    if block.lines:
        return "".join(lines)
    old, new = ("".join(map(_write_line, each)) for each in (block.old, block.new))
    return f'<div class="pair"><div class="old">{old}</div><div class="new">{new}</div></div>\n'


def _write_fold(summary: str, written: Iterable[str]) -> str:
    return f'<details class="fold"><summary>{summary}</summary>{"".join(written)}</details>\n'


def _write_line(line: Line) -> str:
    word, tag = _CODE.get(line.mark, ("", "span"))
    hidden = f'<span class="hidden">{word}: </span>' if word else ""
    sign = f'<span class="sign" aria-hidden="true">{escape(line.sign)}</span>'
    code = f'<{tag} class="code">{line.text}</{tag}>'
    return f'<div class="line {line.mark}">{hidden}<span data-line>{sign}{code}</span></div>\n'


def _list_files(diff: str) -> Iterator[str]:
    for line in diff.split("\n")[:2]:
        if not line.startswith(("--- ", "+++ ")):
            return
        yield line


def _group(lines: Sequence[DiffLine]) -> Iterator[Block]:
    """Changed lines in pairs of what was and what comes instead, long runs cut so that each can be shown by itself."""
    for changed, run in groupby(lines, key=lambda line: line.mark in (Mark.ADDED, Mark.REMOVED)):
        if not changed:
            yield Block(lines=tuple(map(_show, run)))
            continue
        old: list[DiffLine] = []
        new: list[DiffLine] = []
        for line in run:
            if (line.mark is Mark.REMOVED and new) or len(old) + len(new) >= _CHUNK:
                yield _pair(old, new)
                old, new = [], []
            (old if line.mark is Mark.REMOVED else new).append(line)
        yield _pair(old, new)


def _pair(old: Sequence[DiffLine], new: Sequence[DiffLine]) -> Block:
    changed = [_compare(one.text, other.text) for one, other in zip(old, new, strict=False)]
    none: tuple[list[Range], list[Range]] = ([], [])
    marks = changed + [none] * (max(len(old), len(new)) - len(changed))
    return Block(
        old=tuple(_show(line, marks[at][0]) for at, line in enumerate(old)),
        new=tuple(_show(line, marks[at][1]) for at, line in enumerate(new)),
    )


def _fold(blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks with the middle of long unchanged runs folded."""
    for block in blocks:
        if len(block.lines) < _FOLD_FROM:
            yield block
            continue
        yield Block(lines=block.lines[:CONTEXT])
        yield Block(lines=block.lines[CONTEXT:-CONTEXT], fold=Fold.SAME)
        yield Block(lines=block.lines[-CONTEXT:])


Range = tuple[int, int]


def _show(line: DiffLine, marks: Sequence[Range] = ()) -> Line:
    text = line.text
    if line.mark is Mark.HUNK or len(text) > _LONGEST:
        return Line(line.mark, line.prefix, escape(text))
    return Line(line.mark, line.prefix, _write(text, tuple(marks)))


def _tell_apart(text: str) -> Iterator[tuple[int, int, str]]:
    """The parts of a line of YAML or JSON that have a meaning by themselves, in order: start, end and what it is."""
    found = _YAML.match(text)
    at = 0
    if found is not None and found["key"]:
        yield found.start("key"), found.end("key"), "key"
        at = found.end()
    elif found is not None:
        at = found.end("indent")
    comment = _COMMENT.search(text, at)
    value = _SCALAR.match(text, at)
    if value is not None and re.fullmatch(r"[,\s]*(?:#.*)?", text[value.end() :]):
        yield value.start(), value.end(), str(value.lastgroup)
        comment = _COMMENT.search(text, value.end())
    if comment is not None:
        yield comment.start(), len(text), "comment"


@lru_cache(maxsize=4_096)
def _write(text: str, marks: tuple[Range, ...]) -> Markup:
    """The text with its parts and marks as elements; without its tags it is the text. Kept, since many lines are the same
    from change to change, and from look to look."""
    parts = list(_tell_apart(text))
    if not parts and not marks:
        return escape(text)
    cuts = sorted(
        {0, len(text), *(edge for part in parts for edge in part[:2]), *(edge for one in marks for edge in one)}
    )
    written: list[str] = []
    for start, end in pairwise(cuts):
        piece = str(escape(text[start:end]))
        kind = next((part[2] for part in parts if part[0] <= start < part[1]), "")
        if kind:
            piece = f'<span class="y-{kind}">{piece}</span>'
        if any(mark[0] <= start < mark[1] for mark in marks):
            piece = f"<mark>{piece}</mark>"
        written.append(piece)
    return Markup("".join(written))  # noqa: S704  # escaped piece by piece


@lru_cache(maxsize=4_096)
def _compare(old: str, new: str) -> tuple[list[Range], list[Range]]:
    """Where the words of two lines differ; nothing where the lines have too little in common for that to help."""
    if max(len(old), len(new)) > _LONGEST:
        return [], []
    was, now = _WORD.findall(old), _WORD.findall(new)
    start = 0
    while start < min(len(was), len(now)) and was[start] == now[start]:
        start += 1
    end = 0
    while end < min(len(was), len(now)) - start and was[-1 - end] == now[-1 - end]:
        end += 1
    before, after = was[start : len(was) - end], now[start : len(now) - end]
    if not before and not after:
        return [], []
    edits = [(0, len(before), 0, len(after))]
    if before and after and max(len(before), len(after)) <= _WORDS_COMPARED:
        matcher = SequenceMatcher(None, before, after, autojunk=False)
        edits = [(a, b, c, d) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]
    in_old = _place(was, [(start + a, start + b) for a, b, _, _ in edits])
    in_new = _place(now, [(start + c, start + d) for _, _, c, d in edits])
    same = 1 - max(_measure(in_old) / max(len(old), 1), _measure(in_new) / max(len(new), 1))
    return (in_old, in_new) if same >= _ALIKE else ([], [])


def _place(words: Sequence[str], ranges: Sequence[Range]) -> list[Range]:
    """Ranges of words as ranges of characters, those that touch as one."""
    offsets = [0]
    for word in words:
        offsets.append(offsets[-1] + len(word))
    placed: list[Range] = []
    for first, last in ranges:
        start, end = offsets[first], offsets[last]
        if start == end:
            continue
        if placed and start <= placed[-1][1] + 1:
            start = placed.pop()[0]
        placed.append((start, end))
    return placed


def _measure(ranges: Sequence[Range]) -> int:
    return sum(end - start for start, end in ranges)
