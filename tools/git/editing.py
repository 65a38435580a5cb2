"""Editing one YAML document in its file: only what differs is written, and every other byte stays as it is.

A scalar is replaced where it stands. Where something is added or taken away, the smallest block around it goes through
ruamel.yaml's round trip, which keeps comments, order and quotes; and where that would write a line of the block otherwise
than it is, only the difference that the edit makes is carried over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from io import StringIO
from typing import Any, NamedTuple

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RoundTripError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, ScalarString, SingleQuotedScalarString

from ...policies.errors import Refused
from .documents import LARGEST, UNREADABLE, Slice, compose, cut_out, read, split

_LARGEST_BLOCK = 16_384
"""Characters that go through a round trip: it takes a second for some ten thousand."""

_BLOCKS = frozenset({"|", ">"})
_TEXT = "tag:yaml.org,2002:str"
_UNKEPT = "The lines to change are written in a way that would not be kept."


class _Edit(NamedTuple):
    """Other lines for those from `start` to before `end`, counted from 0."""

    start: int
    end: int
    lines: list[str]


def edit(text: str, where: Slice, after: Any) -> str:
    """The file in which that document says `after`.

    Raises `Refused` when that can't be done without touching more: the result is read again, and must say exactly what is
    wanted."""
    document = cut_out(text, where)
    lines = document.splitlines(keepends=True)
    node = compose(document)
    if node is None:
        raise Refused("The document is empty.", hint=UNREADABLE)
    comments = _count_comments(lines)
    for one in sorted(_edit(lines, node, read(document), after), reverse=True):
        lines[one.start : one.end] = one.lines
    if comments - _count_comments(lines):
        # A round trip may take the comment above an entry away with the entry before it.
        raise Refused(_UNKEPT, hint=UNREADABLE)
    whole = text.splitlines(keepends=True)
    result = "".join((*whole[: where.start], *lines, *whole[where.end :]))
    there = [one for one in split(result) if one.start == where.start]
    if not there or len(split(result)) != len(split(text)) or read(cut_out(result, there[0])) != after:
        raise Refused(_UNKEPT, hint=UNREADABLE)
    return result


def _count_comments(lines: Sequence[str]) -> Counter[str]:
    """The lines that are comments, however they are indented."""
    return Counter(text for line in lines if (text := line.strip()).startswith("#"))


def _edit(lines: list[str], node: yaml.Node, before: Any, after: Any) -> Iterator[_Edit]:
    """The edits that make `after` of `before` below a node, from the innermost on."""
    if _same(before, after):
        return
    pairs = _pair(node, before, after)
    if pairs is not None:
        stuck = False
        for below, was, value in pairs:
            if _same(was, value):
                continue
            if _can_edit(lines, below, was, value):
                yield from _edit(lines, below, was, value)
            else:
                stuck = True
        if not stuck:
            return
    elif isinstance(node, yaml.ScalarNode):
        yield _replace(lines, node, after)
        return
    yield _round_trip(lines, node, before, after)


def _can_edit(lines: list[str], node: yaml.Node, before: Any, after: Any) -> bool:
    """Whether the edits stay within the node: a scalar by another on its line, or a block with lines of its own."""
    if isinstance(node, yaml.ScalarNode):
        return _is_scalar(after) and node.start_mark.line == node.end_mark.line and node.style not in _BLOCKS
    pairs = _pair(node, before, after)
    if pairs is None:
        return type(before) is type(after) and _is_block(lines, node)
    inside = all(_same(was, value) or _can_edit(lines, below, was, value) for below, was, value in pairs)
    return inside or _is_block(lines, node)


def _pair(node: yaml.Node, before: Any, after: Any) -> list[tuple[yaml.Node, Any, Any]] | None:
    """What is in the node beside what it should be; None unless both have the same keys or as many items."""
    if isinstance(node, yaml.MappingNode) and isinstance(after, Mapping) and before.keys() == after.keys():
        return [(value, before[key.value], after[key.value]) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode) and isinstance(after, list | tuple) and len(before) == len(after):
        return list(zip(node.value, before, after, strict=True))
    return None


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and type(one) is type(other)


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, Mapping | list | tuple)


def _is_block(lines: list[str], node: yaml.Node) -> bool:
    """Whether the node has its lines for itself."""
    start = node.start_mark
    return (
        isinstance(node, yaml.CollectionNode)
        and not node.flow_style
        and start.line < len(lines)
        and not lines[start.line][: start.column].strip()
    )


def _replace(lines: list[str], node: yaml.ScalarNode, value: Any) -> _Edit:
    at, start, end = node.start_mark.line, node.start_mark.column, node.end_mark.column
    if node.start_mark.line != node.end_mark.line or not _is_scalar(value):
        raise Refused(_UNKEPT, hint=UNREADABLE)
    line = lines[at]
    gap = " " if start == end and start and line[start - 1] != " " else ""  # an empty value ends at its colon
    written = f"{gap}{_spell(value, node.style or None)}"
    return _Edit(at, at + 1, [line[:start] + written + line[end:]])


def _spell(value: Any, style: str | None) -> str:
    """A scalar on one line: in the quotes that were there, and in some where it could be taken for something else."""
    stream = StringIO()
    quoted = _write(value, None) if style is None else value
    if style is not None and isinstance(value, str):
        quoted = DoubleQuotedScalarString(value) if style == '"' or "'" in value else SingleQuotedScalarString(value)
    _make_yaml().dump([quoted], stream)
    spelled = stream.getvalue().removeprefix("- ").removesuffix("\n")
    if "\n" in spelled:
        raise Refused(_UNKEPT, hint=UNREADABLE)
    return spelled


def _round_trip(lines: list[str], node: yaml.Node, before: Any, after: Any) -> _Edit:
    """The lines of a block as they are to be."""
    start, column = node.start_mark.line, node.start_mark.column
    end = node.end_mark.line
    if end < len(lines) and lines[end][: node.end_mark.column].strip():
        end += 1
    while end > start and not lines[end - 1].split("#")[0].strip():
        end -= 1  # what stands behind a block belongs to whatever comes next
    block = "".join(line[min(column, _indent(line)) :] for line in lines[start:end])
    if not _is_block(lines, node) or len(block) > _LARGEST_BLOCK or not block.endswith("\n"):
        raise Refused(_UNKEPT, hint=UNREADABLE)
    try:
        base, data = _dump(_make_yaml().load(block)), _make_yaml().load(block)
        _assign(data, before, after)
        edited = _carry_over(block, base, _dump(data))
    except (RoundTripError, ValueError, RecursionError) as error:
        raise Refused(_UNKEPT, hint=UNREADABLE) from error
    return _Edit(start, end, [_reindent(line, column) for line in edited.splitlines(keepends=True)])


def _dump(data: Any) -> str:
    stream = StringIO()
    _make_yaml().dump(data, stream)
    return stream.getvalue()


def _make_yaml() -> YAML:
    yaml_ = YAML(typ="rt", pure=True)
    yaml_.preserve_quotes = True
    yaml_.width = LARGEST
    return yaml_


def _assign(data: Any, before: Any, after: Any) -> None:
    """Writes into a loaded document what differs, and touches nothing else of it."""
    if isinstance(after, Mapping):
        for key in [key for key in before if key not in after]:
            del data[_key(data, key)]
        places: Iterator[tuple[Any, Any, Any]] = (
            (_key(data, key), before.get(key), value) for key, value in after.items()
        )
        known: Any = before
    else:
        del data[len(after) :]
        places = ((at, before[at] if at < len(before) else None, value) for at, value in enumerate(after))
        known = range(len(before))
    for key, was, value in places:
        there = str(key) in known if isinstance(after, Mapping) else key in known
        if there and was == value and type(was) is type(value):
            continue
        if there and _alike(was, value):
            _assign(data[key], was, value)
        elif isinstance(data, list) and not there:
            data.append(_write(value, None))
        else:
            data[key] = _write(value, data[key] if there else None)


def _key(data: Any, key: str) -> Any:
    """The document's own key of this text: one that YAML reads as a number is no text there."""
    return next((one for one in data if str(one) == key), key)


def _alike(one: Any, other: Any) -> bool:
    return (
        isinstance(one, dict) == isinstance(other, dict)
        and isinstance(one, list) == isinstance(other, list)
        and (isinstance(one, dict | list))
    )


def _write(value: Any, was: Any) -> Any:
    """A value in the quotes of the one before, and always in some where it could be taken for something else."""
    if isinstance(value, Mapping):
        return {key: _write(inner, None) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_write(inner, None) for inner in value]
    if not isinstance(value, str):
        return value
    if isinstance(was, ScalarString) and "\n" not in was:
        return type(was)(value)
    resolved = yaml.resolver.Resolver().resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    return value if resolved == _TEXT else DoubleQuotedScalarString(value)


def _carry_over(document: str, base: str, changed: str) -> str:
    """What differs between `base` and `changed`, done to `document`, whose lines may be spaced otherwise."""
    if base == document:
        return changed
    original, old, new = (text.splitlines(keepends=True) for text in (document, base, changed))
    place = {len(old): len(original)}
    for at, other, size in _match(old, original).get_matching_blocks():
        place.update({at + step: other + step for step in range(size)})
    result, done = list[str](), 0
    for tag, start, end, low, high in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        lines = [place.get(at, -1) for at in range(start, end)]
        first = lines[0] if lines else place.get(start - 1, -2) + 1
        beside = start if lines else _last_said(old, start)
        if first < done or lines != list(range(first, first + len(lines))):
            raise Refused(_UNKEPT, hint=UNREADABLE)
        shift = _indent(original[place[beside]]) - _indent(old[beside]) if beside in place else 0
        result += [*original[done:first], *(_reindent(line, shift) for line in new[low:high])]
        done = first + len(lines)
    return "".join((*result, *original[done:]))


def _match(old: Sequence[str], original: Sequence[str]) -> SequenceMatcher[str]:
    """Lines that say the same, however they are spaced."""
    one, other = ([" ".join(line.split()) for line in lines] for lines in (old, original))
    return SequenceMatcher(None, one, other, autojunk=False)


def _last_said(lines: Sequence[str], before: int) -> int:
    """The last line before one that is no comment and not empty: what comes after it is indented as it is."""
    return next((at for at in range(before - 1, -1, -1) if lines[at].split("#")[0].strip()), 0)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _reindent(line: str, by: int) -> str:
    return " " * max(0, _indent(line) + by) + line.lstrip(" ") if line.strip() else line
