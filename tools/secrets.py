"""Finds secrets in a text: by shape, by where they stand, and behind a name that tells; in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import re2

from .secret_names import TELLING, NameKind, is_secret_name, kind_of_name, normalise_name
from .secret_places import PLACES
from .secret_shapes import SHAPES, Shape
from .secret_values import LONGEST_JUDGED, ends_value, is_reference, is_said, is_tag

__all__ = ["SHAPES", "Detector", "Found", "default_detector", "holds_secret", "is_secret_name", "redact"]

MARK = b"[redacted:"
"""How the place of a secret begins. What stands there is none."""

_MARK = re.compile(rb"\[redacted:[a-z0-9_]{1,40}(?::[0-9a-f]{8})?\]")
"""All of it: only what is ours is passed over, whatever somebody else writes behind `[redacted:`."""

_MEMORY = 64 << 20
_TAIL = re.compile(rb"(?:(?:%(?:2[BbDdEeFf]|3[Dd]|5[Ff]|7[Ee])|\\+u00(?:2[bBdDeEfF]|3[dD])|\\+/)[A-Za-z0-9+/=_.~-]*)+")
"""How a secret goes on where `+`, `/` or `=` in it are escaped."""
_NAME = rf"[A-Za-z0-9_.$-]*{TELLING}[A-Za-z0-9_.-]*"

HEAD = rf"({_NAME})(?:\]|\\*[\"'`]|</?\w{{1,20}}>)*[\s\x{{a0}}]*(?:=>|:=|\+=|=|:|>|\x{{ff1a}}|\x{{ff1d}})[ \t]*"
"""RE2: a telling name and what parts it from its value, in JSON, YAML, TOML, INI, XML, code, URLs and log lines."""

_FLAG = rf"(?:^|[\s\"'\[,=])--?({_NAME})[\"']?(?:\s+|\s*,\s*)"
"""RE2: an option of a command, its value the next word."""

_UNDERLINED = rf"({_NAME}):[ \t]*\r?\n-{{3,}}\r?\n"
"""RE2: a name with a line drawn under it, as `kubectl describe` shows what is in a ConfigMap."""

PAIR = (
    r"(?i:\b(?:name|key|k|field|header|parameter|param|property|variable|option|setting))\\*[\"']?\s*[:=]\s*\\*[\"']?"
    rf"({_NAME})\\*[\"']?[\s,/]*(?:-\s+)?\\*[\"']?(?i:value|content|val|v|text|data|default(?:_?value)?)\\*[\"']?\s*[:=]\s*"
)
"""RE2: `name: DB_PASSWORD, value: …`: variables, parameters and headers, in YAML, JSON or XML attributes."""


@dataclass(frozen=True, slots=True)
class Found:
    """One secret of a text: `start` and `end` are offsets into its UTF-8 bytes. `unsalted`: see `Shape`."""

    kind: str
    start: int
    end: int
    unsalted: bool = False


def is_mark(value: bytes) -> bool:
    """Whether the value is what stands in a secret's place, and nothing more."""
    return _MARK.fullmatch(value) is not None


def compile_fast(pattern: str) -> Any:
    """RE2 without groups, with room for the states of many kinds."""
    options = re2.Options()
    options.never_capture = True
    options.max_mem = _MEMORY
    return re2.compile(pattern, options)


class Detector:
    """`shapes` are looked for besides the known ones, `names` hold secrets besides the known ones; `allowed` values and
    names never do. Thread-safe."""

    def __init__(
        self, shapes: Iterable[Shape] = (), names: frozenset[str] = frozenset(), allowed: frozenset[str] = frozenset()
    ) -> None:
        """`names` as `normalise_name` writes them."""
        self.shapes: Sequence[Shape] = (*SHAPES, *PLACES, *shapes)
        self._names = names
        self._allowed = frozenset(value.encode() for value in allowed)
        self._allowed_names = frozenset(normalise_name(value) for value in allowed)
        self._each: dict[int, Any] = {}
        named = "|".join(f"[A-Za-z0-9_.-]*{_spell(name)}[A-Za-z0-9_.-]*" for name in sorted(names))
        name = f"(?:{_NAME}|{named})" if named else _NAME
        self.heads = tuple(pattern.replace(_NAME, name) for pattern in (HEAD, PAIR, _FLAG, _UNDERLINED))
        self._heads = [re2.compile(pattern) for pattern in self.heads]

    @cached_property
    def _which(self) -> Any:
        return _compile_set(shape.hint for shape in self.shapes)

    @cached_property
    def _any_head(self) -> Any:
        return re2.compile("|".join(self.heads))

    @cached_property
    def _quick(self) -> Any:
        return compile_fast(self.hints)

    @property
    def hints(self) -> str:
        """RE2: matches every text that may show a shape."""
        return "|".join(f"(?:{shape.hint})" for shape in self.shapes)

    def kind_of_name(self, name: str) -> NameKind | None:
        """What a field of this name holds; None for no secret."""
        if not self._names and not self._allowed_names:
            return kind_of_name(name)
        plain = normalise_name(name)
        if plain in self._allowed_names:
            return None
        return kind_of_name(name) or (NameKind.SECRET if plain in self._names else None)

    def kind_of_value(self, value: bytes) -> Found | None:
        """The one secret that the value is, as a whole, if its shape is known."""
        found = [one for one in self._find_shapes(value) if (one.start, one.end) == (0, len(value))]
        return found[0] if found else None

    def is_allowed(self, value: bytes) -> bool:
        """Whether the settings say of exactly this value that it is no secret."""
        return value in self._allowed

    def find_shapes(self, data: bytes) -> list[Found]:
        """The secrets that a shape gives away, in no order, whatever names stand around."""
        return list(self._find_shapes(data)) if self._quick.search(data) else []

    def shows_secret(self, data: bytes) -> bool:
        """Whether a secret of a known shape stands in the text."""
        return self._quick.search(data) is not None and any(True for _ in self._find_shapes(data))

    def names_secret(self, data: bytes) -> bool:
        """Whether a telling name stands somewhere in the text in the way a value follows."""
        return any(True for _ in self._find_names(self._any_head, data))

    def find(self, data: bytes) -> list[Found]:
        """The secrets of a text in UTF-8, in order, none within another."""
        found = self.find_shapes(data)
        for pattern in self._heads:
            found += self._find_named(pattern, data)
        return _merge(found)

    def _find_shapes(self, data: bytes) -> Iterator[Found]:
        # One pass tells which kinds are there, then each of these looks alone: a kind that begins everywhere and ends
        # nowhere can't make the others begin anew behind each of their matches.
        for index in self._which.Match(data) or ():
            shape, pattern = self.shapes[index], self._compile(index)
            for match in pattern.finditer(data):
                start, end = match.span(1) if pattern.groups else match.span()
                tail = _TAIL.match(data, end)
                end = tail.end() if tail else end
                value = data[start:end]
                if not self._spares(shape, value):
                    yield Found(shape.kind, start, end, shape.unsalted)

    def _compile(self, index: int) -> Any:
        if index not in self._each:
            self._each[index] = re2.compile(self.shapes[index].pattern)
        return self._each[index]

    def _spares(self, shape: Shape, value: bytes) -> bool:
        if is_mark(value) or value in self._allowed:
            return True
        if shape.judge is not None and not shape.judge(value.decode("utf-8", "replace")):
            return True
        return is_reference(value)

    def _find_names(self, pattern: Any, data: bytes) -> Iterator[tuple[NameKind, int, int]]:
        """What the name tells, where the name begins, where the value does."""
        at = 0
        while (match := pattern.search(data, at)) is not None:
            begin, at = match.span(match.lastindex)
            kind = self.kind_of_name(data[begin:at].decode("ascii", "replace"))
            if kind is not None and _MARK.match(data, max(0, begin - len(MARK))) is None:
                at = match.end()
                yield kind, begin, at

    def _find_named(self, pattern: Any, data: bytes) -> Iterator[Found]:
        done = 0
        for kind, begins, at in self._find_names(pattern, data):
            if at < done:
                continue
            start, end, quoted = ends_value(data, begins, at)
            value = data[start:end]
            if not value or is_mark(value) or value in self._allowed or is_reference(value):
                continue
            judged = not quoted and end - start < LONGEST_JUDGED
            if judged and (is_said(kind, data, begins, start, end) or is_tag(kind, data, begins, start, end)):
                continue
            done = end
            yield Found(kind, start, end)


def _compile_set(patterns: Iterable[str]) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern)
    found.Compile()
    return found


def _spell(name: str) -> str:
    """RE2 for a name however it is written: `dbcode` as `DB_CODE`, `db.code`, `dbCode`."""
    return "(?i:" + "[_.-]?".join(re.escape(character) for character in name) + ")"


def _merge(found: list[Found]) -> list[Found]:
    """Those that overlap become one; a kind known by its shape is told rather than one told by a name."""
    if len(found) < 2:
        return found
    kinds = set(NameKind)
    merged: list[Found] = []
    for one in sorted(found, key=lambda each: (each.start, -each.end)):
        last = merged[-1] if merged else None
        if last is None or one.start >= last.end:
            merged.append(one)
            continue
        better = one if last.kind in kinds and one.kind not in kinds else last
        merged[-1] = Found(better.kind, last.start, max(last.end, one.end), last.unsalted or one.unsalted)
    return merged


@cache
def default_detector() -> Detector:
    """The one with nothing added."""
    return Detector()


def replace(data: bytes, found: Sequence[Found], mark: Callable[[Found, bytes], bytes]) -> bytes:
    """The text with `mark` of each secret in its place."""
    pieces, at = [], 0
    for one in found:
        pieces += [data[at : one.start], mark(one, data[one.start : one.end])]
        at = one.end
    return b"".join([*pieces, data[at:]])


def redact(text: str) -> tuple[str, int]:
    """The text with every secret that it shows replaced by `[redacted:<kind>]`, and how many there were."""
    data = text.encode("utf-8", "replace")
    found = default_detector().find(data)
    if not found:
        return text, 0
    return replace(data, found, lambda one, _: f"[redacted:{one.kind}]".encode()).decode(), len(found)


def holds_secret(text: str) -> bool:
    """Whether the text shows a secret."""
    return bool(default_detector().find(text.encode("utf-8", "replace")))
