"""Narrowing: what of an attribute's value policies can tell apart, so that values which look the same to them are one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Mapping

from .sight import Equals, Exceeds, Holds, Matches, Sight, Test


class Narrowing:
    """Makes the values of one attribute into keys: equal keys, equal outcomes of every test of the attribute. Values of
    different types never share a key, as they can be equal in Python where they are not in Cedar."""

    def __init__(self, tests: Iterable[Test | None]) -> None:
        every = frozenset(tests)
        self._exact = None in every
        self._equals = frozenset(test.value for test in every if isinstance(test, Equals))
        self._holds = frozenset(test.value for test in every if isinstance(test, Holds))
        self._limits = sorted(test.limit for test in every if isinstance(test, Exceeds))
        self._patterns = [test.pieces for test in every if isinstance(test, Matches)]

    def __call__(self, value: Hashable) -> Hashable:
        if self._exact:
            return type(value), value
        match value:
            case tuple():
                return self._holds.intersection(value)
            case str():
                matched = tuple([_is_like(value, pieces) for pieces in self._patterns])
                return matched, value if value in self._equals else None
            case bool():
                return value
            case int():
                equal = value if value in self._equals else None
                return bisect_left(self._limits, value), bisect_right(self._limits, value), equal
            case _:
                return type(value), value


def find_narrowings(sight: Sight, variable: str, known: Iterable[str]) -> Mapping[str, Narrowing]:
    """How each attribute of the variable is narrowed that is read; all that are `known` where it is used whole."""
    tests: dict[str, list[Test | None]] = {}
    for reading in sight.readings:
        if reading.variable == variable:
            tests.setdefault(reading.attribute, []).append(reading.test)
    if variable in sight.whole:
        tests = {name: [None] for name in known}
    return {name: Narrowing(tests[name]) for name in sorted(tests)}


def _is_like(text: str, pieces: tuple[str, ...]) -> bool:
    """As Cedar's `like`, without trying anything twice."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return text == first
    start, end = len(first), len(text) - len(last)
    if start > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in pieces[1:-1]:
        found = text.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True
