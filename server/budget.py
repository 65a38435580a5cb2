"""The size of an answer: what does not fit its budget is cut, and the answer says what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ..policies.errors import Invalid
from ..tools.budget import ASKED
from ..tools.fields import Fields, join_path

Json = dict[str, Any]

_STAGES = ((160, 1), (40, 1), (40, 0))
"""To what texts (characters) and lists (entries) are shortened: as long as that is enough, no further."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """What can be made smaller: a list, a map, or the untrusted text under `key` of its holder. `size` is in bytes."""

    path: str
    size: int
    holder: Any
    key: Any = None

    @property
    def count(self) -> int:
        """Its entries or characters."""
        return len(self.holder if self.key is None else self.holder[self.key])

    @property
    def unit(self) -> str:
        return "" if self.key is None else "characters of "

    def shrink(self, excess: int, least: int) -> int:
        """Drops from the end what makes up `excess` bytes or half of it, whichever is less, and leaves `least`; says how
        many entries or characters are gone."""
        count, wanted = self.count, min(excess, self.size // 2)
        if self.key is not None:
            left = max(least, count - max(1, wanted * count // self.size))
            self.holder[self.key] = self.holder[self.key][:left]
            return count - left
        names = range(count) if isinstance(self.holder, list) else list(self.holder)
        left = count
        while left > least and (wanted > 0 or left == count):
            left -= 1
            wanted -= len(orjson.dumps(self.holder[names[left]])) + 1
            del self.holder[names[left]]
        return count - left


def measure(data: Json) -> int:
    """The size of an answer's JSON in bytes, as it is sent."""
    return len(orjson.dumps(data))


def cut_to_budget(data: Json, budget: int, fields: Fields, *, keep: str = "", way_out: str = "") -> int:
    """Cuts the data, in place, to at most `budget` bytes of JSON, and gives its size. What is largest loses its end
    first: lists, maps, untrusted texts; never an id or a number, nor the first row of the list `keep`. The field `cut`
    then says how much of what is missing, and the `way_out`.

    Raises `Invalid` (field `max_bytes`) when all that is left has to be there."""
    size = measure(data)
    if size <= budget:
        return size
    said, lost = data.get("cut"), dict[tuple[str, str], int]()
    total = Counter[tuple[str, str]]()
    for piece in _find_pieces(data, "", fields, 0):
        total[piece.unit, piece.path] += piece.count
    while size > budget:
        found = _find_largest(data, fields, keep)
        if found is None:
            raise Invalid(
                f"{ASKED}: the answer does not fit into {budget} bytes.", field=ASKED, hint=f"It needs {size} at least."
            )
        largest, least = found
        what = largest.unit, largest.path
        lost[what] = lost.get(what, 0) + largest.shrink(size - budget, least)
        told = ", ".join(f"{lost[what]} of {total[what]} {''.join(what)}" for what in sorted(lost))
        data["cut"] = " ".join(filter(None, (said, f"Left out to keep this answer small: {told}.", way_out)))
        size = measure(data)
    return size


def _find_largest(data: Json, fields: Fields, keep: str) -> tuple[_Piece, int] | None:
    """The largest of what may still be made smaller, and how much of it has to stay."""
    for text, entries in _STAGES:
        able = [
            (piece, text if piece.key is not None else entries)
            for piece in _find_pieces(data, "", fields, text)
            if piece.key is not None or piece.count > max(entries, piece.path == keep)
        ]
        if able:
            return max(able, key=lambda each: each[0].size)
    return None


def _find_pieces(value: Any, path: str, fields: Fields, shortest: int) -> Iterator[_Piece]:
    """All that can be made smaller; of texts those longer than `shortest` characters."""
    entries: Iterable[tuple[Any, str, Any]]
    if isinstance(value, list):
        entries = ((index, path, inner) for index, inner in enumerate(value))
        if value and path in fields.lists:
            yield _Piece(path, len(orjson.dumps(value)), value)
    elif path in fields.maps:
        entries = ((name, path, inner) for name, inner in value.items())
        if value:
            yield _Piece(path, len(orjson.dumps(value)), value)
    else:
        entries = ((name, join_path(path, name), inner) for name, inner in value.items())
    for key, where, inner in entries:
        if isinstance(inner, dict | list):
            yield from _find_pieces(inner, where, fields, shortest)
        elif isinstance(inner, str) and len(inner) > shortest and where in fields.untrusted:
            yield _Piece(where, len(inner.encode()), value, key)
