"""YAML files of many documents, read within bounds, and what a change of one looks like.

A document is read from its nodes, not into objects of tags, so that nothing in it runs and nothing in it grows: aliases,
tags, merge keys, duplicate keys and deep nesting are refused in a document that is to be edited.
"""

from __future__ import annotations

import re
from difflib import unified_diff
from itertools import pairwise
from typing import Any, NamedTuple

import yaml

from ...policies.errors import Refused
from ..diff import WITHHELD, redact
from ..text import disarm

LARGEST = 131_072
"""Bytes of a file that is read: manifests and values are far smaller."""

_MOST_EVENTS = 50_000
_DEEPEST = 64
_START = re.compile(r"---(?:\s|$)")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
_ODD_BREAKS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
UNREADABLE = "Fix the file, or make this change in Git by hand."


class Slice(NamedTuple):
    """Where one document stands: its lines from `start` to before `end`, counted from 0."""

    start: int
    end: int


def decode(data: bytes) -> str:
    """The text of a file; raises `Refused` for one that is too large, not UTF-8, or has other line ends than LF."""
    if len(data) > LARGEST:
        raise Refused(f"The file has more than {LARGEST} bytes.", hint=UNREADABLE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("The file is not UTF-8 text.", hint=UNREADABLE) from error
    if _ODD_BREAKS.search(text) or text.startswith("\ufeff"):
        raise Refused("The file has a byte order mark or other line ends than LF.", hint=UNREADABLE)
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
    node = compose(document)
    return None if node is None else _plain(node, "")


def show_diff(name: str, before: str, after: str) -> str:
    """A unified diff of one document. Secrets are withheld wherever they stand, and what is not drawn is escaped."""
    lines = list(unified_diff(_withhold(before), _withhold(after), f"{name} (now)", f"{name} (committed)", lineterm=""))
    return "\n".join((*lines[:2], *(line if line.startswith("@@") else _clean(line) for line in lines[2:])))


def _clean(line: str) -> str:
    """A line of a diff: what is in comments looks like a secret only by itself."""
    plain = redact(f"{line[1:]}\n")[0].removesuffix("\n")
    shown = plain if disarm(plain) == plain else plain.encode("ascii", "backslashreplace").decode()
    return f"{line[0]}{shown}"


def _withhold(document: str) -> list[str]:
    """The lines of a document, with what is secret by its place written over, and none of them moved."""
    node, lines = compose(document), document.split("\n")
    pointers = redact(_plain(node, ""))[1] if node else []
    for pointer in pointers:
        _write_over(lines, _find(node, pointer))
    return lines[: None if lines[-1] else -1]


def _find(node: yaml.Node | None, pointer: str) -> yaml.Node | None:
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, yaml.MappingNode):
            node = next(value for name, value in node.value if name.value == key)
        elif isinstance(node, yaml.SequenceNode):
            node = node.value[int(key)]
    return node


def _write_over(lines: list[str], node: yaml.Node | None) -> None:
    if node is None:
        return
    start, end = node.start_mark, node.end_mark
    for at in range(start.line, end.line + 1):
        if at < len(lines) and (at < end.line or end.column):
            head = lines[at][: start.column] if at == start.line else ""
            tail = lines[at][end.column :] if at == end.line else ""
            lines[at] = f"{head}{WITHHELD}{tail}"


def _has_content(line: str) -> bool:
    stripped = _START.sub("", line, count=1).strip() if line.startswith("---") else line.strip()
    return bool(stripped) and not stripped.startswith("#") and stripped != "..."


def compose(document: str) -> yaml.Node | None:
    """The nodes of a document, with where each of them stands; raises `Refused` as `read` does."""
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
        raise Refused(f"The file is not YAML that can be read{where}.", hint=UNREADABLE) from None


def _require_bounded(document: str) -> None:
    """Looks at the events alone: nothing is built before it is known to be small and plain."""
    depth = 0
    for count, event in enumerate(yaml.parse(document, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise Refused("The document uses an alias, so a change there could change more.", hint=UNREADABLE)
        if getattr(event, "tag", None):
            raise Refused("The document uses a tag.", hint=UNREADABLE)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST_EVENTS:
            raise Refused("The document is nested too deeply or has too many parts.", hint=UNREADABLE)


def _plain(node: yaml.Node, at: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        plain: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge" or key.value in plain:
                raise Refused(f"The document has a key twice, or one that is no text, in {at or '/'}.", hint=UNREADABLE)
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
