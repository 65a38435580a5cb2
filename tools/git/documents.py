"""YAML files of many documents: read within bounds, edited in one place, with every other byte kept as it is.

A document is read from its nodes, not into objects of tags, so that nothing in it runs and nothing in it grows: aliases,
tags, merge keys, duplicate keys and deep nesting are refused in a document that is to be edited. The edit itself is
ruamel.yaml's round trip. Where that alone would write a file differently than it is, only the difference that the edit
makes is carried over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher, unified_diff
from io import StringIO
from itertools import pairwise
from typing import Any, NamedTuple

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RoundTripError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, ScalarString

from ...policies.errors import Refused
from ..diff import WITHHELD, redact
from ..text import disarm

LARGEST = 262_144
"""Bytes of a file that is read: manifests and values are far smaller."""

_MOST_EVENTS = 50_000
_DEEPEST = 64
_START = re.compile(r"---(?:\s|$)")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
_INDENTS = ((2, 2, 0), (2, 4, 2), (4, 4, 0), (4, 4, 2), (4, 6, 4), (2, 3, 1))
"""Of mappings, of sequences, and of the dash in them: how people write YAML."""

_UNREADABLE = "Fix the file, or make this change in Git by hand."


class Slice(NamedTuple):
    """Where one document stands: its lines from `start` to before `end`, counted from 0."""

    start: int
    end: int


def decode(data: bytes) -> str:
    """The text of a file; raises `Refused` for one that is too large, not UTF-8, or has other line ends than LF."""
    if len(data) > LARGEST:
        raise Refused(f"The file has more than {LARGEST} bytes.", hint=_UNREADABLE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("The file is not UTF-8 text.", hint=_UNREADABLE) from error
    if "\r" in text or text.startswith("\ufeff"):
        raise Refused("The file has a byte order mark or Windows line ends, which would not be kept.", hint=_UNREADABLE)
    return text


def split(text: str) -> list[Slice]:
    """The documents of a file, those without content left out."""
    lines = text.splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if _START.match(line)]
    bounds = [0, *[at for at in starts if at], len(lines)]
    slices = [Slice(start, end) for start, end in pairwise(bounds)]
    return [one for one in slices if any(_has_content(line) for line in lines[one.start : one.end])]


def cut_out(text: str, where: Slice) -> str:
    return "".join(text.splitlines(keepends=True)[where.start : where.end])


def read(document: str) -> Any:
    """One document as plain JSON data; raises `Refused` for whatever could not be edited safely.

    Scalars are resolved as YAML 1.1 does, which is how Argo CD's parser sees them; what is no plain number (an octal, a
    date) stays the text that it is."""
    node = _compose(document)
    return None if node is None else _plain(node, "")


def edit(text: str, where: Slice, after: Any) -> str:
    """The file in which that document says `after` and every line that need not change is as it was.

    Raises `Refused` when that can't be done: the result is read again, and must say exactly what is wanted."""
    document = cut_out(text, where)
    before = read(document)
    base, changed = _round_trip(document, before, after)
    edited = _carry_over(document, base, changed)
    lines = text.splitlines(keepends=True)
    result = "".join((*lines[: where.start], edited, *lines[where.end :]))
    there = [one for one in split(result) if one.start == where.start]
    if not there or read(cut_out(result, there[0])) != after or len(split(result)) != len(split(text)):
        raise Refused("The file is written in a way in which this can't be changed alone.", hint=_UNREADABLE)
    return result


def show_diff(name: str, before: str, after: str) -> str:
    """A unified diff of one document. Secrets are withheld wherever they stand, and what is not drawn is escaped."""
    return "\n".join(unified_diff(_shown(before), _shown(after), f"{name} (now)", f"{name} (committed)", lineterm=""))


def _shown(document: str) -> list[str]:
    lines = document.split("\n")
    for pointer in redact(read(document))[1]:
        _withhold(lines, document, pointer)
    return [_escape(redact(f"{line}\n")[0].removesuffix("\n")) for line in lines[: None if lines[-1] else -1]]


def _withhold(lines: list[str], document: str, pointer: str) -> None:
    """Writes over the value at a pointer, without moving any line."""
    node = _compose(document)
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, yaml.MappingNode):
            node = next(value for name, value in node.value if name.value == key)
        elif isinstance(node, yaml.SequenceNode):
            node = node.value[int(key)]
    if node is None:
        return
    start, end = node.start_mark, node.end_mark
    for at in range(start.line, end.line + 1):
        if at < len(lines) and (at < end.line or end.column):
            head = lines[at][: start.column] if at == start.line else ""
            tail = lines[at][end.column :] if at == end.line else ""
            lines[at] = f"{head}{WITHHELD}{tail}"


def _escape(line: str) -> str:
    plain = disarm(line)
    return line if plain == line else line.encode("ascii", "backslashreplace").decode()


def _has_content(line: str) -> bool:
    stripped = _START.sub("", line, count=1).strip() if line.startswith("---") else line.strip()
    return bool(stripped) and not stripped.startswith("#") and stripped != "..."


def _compose(document: str) -> yaml.Node | None:
    try:
        _require_bounded(document)
        loader = yaml.CSafeLoader(document)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1} of the document)" if mark else ""
        raise Refused(f"The file is not YAML that can be read{where}.", hint=_UNREADABLE) from None


def _require_bounded(document: str) -> None:
    """Looks at the events alone: nothing is built before it is known to be small and plain."""
    depth = 0
    for count, event in enumerate(yaml.parse(document, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise Refused("The document uses an alias, so a change there could change more.", hint=_UNREADABLE)
        if getattr(event, "tag", None):
            raise Refused("The document uses a tag.", hint=_UNREADABLE)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST_EVENTS:
            raise Refused("The document is nested too deeply or has too many parts.", hint=_UNREADABLE)


def _plain(node: yaml.Node, at: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        plain: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge" or key.value in plain:
                raise Refused(
                    f"The document has a key twice, or one that is no text, in {at or '/'}.", hint=_UNREADABLE
                )
            plain[key.value] = _plain(value, f"{at}/{key.value}"[:200])
        return plain
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each, at) for each in node.value]
    return _scalar(node.tag.removeprefix(_TAG), str(node.value))


def _scalar(tag: str, text: str) -> Any:
    lower = text.lower()
    if tag == "null":
        return None
    if tag == "bool":
        return lower in _TRUE if lower in _TRUE | _FALSE else text
    if tag == "int" and _INTEGER.fullmatch(text):
        return int(text)
    if tag == "float" and _FLOAT.fullmatch(text):
        return float(text)
    return text


def _round_trip(document: str, before: Any, after: Any) -> tuple[str, str]:
    """The document as ruamel.yaml writes it by itself, in the indentation that keeps most of it, and with the edit."""
    tries: list[tuple[int, str, tuple[int, int, int]]] = []
    for indent in _INDENTS:
        try:
            base = _dump(_load(document, indent), indent)
        except (RoundTripError, ValueError, RecursionError) as error:
            raise Refused("The file is not YAML that can be kept as it is.", hint=_UNREADABLE) from error
        differing = sum(one != other for one, other in zip(base.split("\n"), document.split("\n"), strict=False))
        tries.append((differing + abs(base.count("\n") - document.count("\n")), base, indent))
        if base == document:
            break
    _, base, indent = min(tries, key=lambda one: one[0])
    data = _load(document, indent)
    _assign(data, before, after)
    return base, _dump(data, indent)


def _load(document: str, indent: tuple[int, int, int]) -> Any:
    return _make_yaml(indent).load(document)


def _dump(data: Any, indent: tuple[int, int, int]) -> str:
    stream = StringIO()
    _make_yaml(indent).dump(data, stream)
    return stream.getvalue()


def _make_yaml(indent: tuple[int, int, int]) -> YAML:
    yaml_ = YAML(typ="rt", pure=True)
    yaml_.preserve_quotes = True
    yaml_.width = LARGEST
    yaml_.map_indent, yaml_.sequence_indent, yaml_.sequence_dash_offset = indent
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
    return value if resolved == f"{_TAG}str" else DoubleQuotedScalarString(value)


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
            raise Refused("The lines to change are written in a way that would not be kept.", hint=_UNREADABLE)
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
    return " " * max(0, _indent(line) + by) + line.lstrip(" ")
