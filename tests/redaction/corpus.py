"""The corpus, put together from kinds, places and look-alikes; the same on every run."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .lookalikes import look_alikes
from .places import ANYWHERE, LINES, TELLING
from .planted import KINDS, NAMED_KINDS, draw_secret

_PLACES_PER_KIND = 4
_KINDS_PER_PLACE = 4


class Cleaner(Protocol):
    def clean(self, value: Any) -> tuple[Any, int]: ...


@dataclass(frozen=True)
class Planted:
    """One secret in one place, as a source gives it."""

    kind: str
    place: str
    secret: str
    value: Any

    @property
    def name(self) -> str:
        return f"{self.kind} in {self.place}"


@dataclass(frozen=True)
class LookAlike:
    """A value that holds no secret, however much it looks like one."""

    name: str
    value: Any


def planted(seed: int = 1) -> Iterator[Planted]:
    """Each kind in some of the places where only its form gives it away; each telling place with some of all kinds."""
    anywhere, telling = sorted(ANYWHERE), sorted(TELLING)
    for number, kind in enumerate(sorted(KINDS)):
        for step in range(_PLACES_PER_KIND):
            place = anywhere[(number * 3 + step * 7 + seed) % len(anywhere)]
            secret = draw_secret(kind, seed + step)
            yield Planted(kind, place, secret, ANYWHERE[place](secret))
    everything = sorted(NAMED_KINDS) + [kind for kind in sorted(KINDS) if "\n" not in draw_secret(kind, seed)]
    for number, place in enumerate(telling):
        for step in range(_KINDS_PER_PLACE):
            # Two that only the place gives away, then two of the others.
            known = step * 3 + number if step < 2 else len(NAMED_KINDS) + (number * 5 + step * 11)
            kind = everything[known % (len(NAMED_KINDS) if step < 2 else len(everything))]
            secret = draw_secret(kind, seed + number)
            yield Planted(kind, place, secret, TELLING[place](secret))
    for number, line in enumerate(LINES):
        kind = ("password_random", "aws_secret_key", "password_of_people")[number % 3]
        secret = draw_secret(kind, seed + number)
        yield Planted(kind, f"line {number}", secret, {"lines": [line.replace("%", secret)]})


def alike() -> Iterator[LookAlike]:
    for name, value in look_alikes():
        yield LookAlike(name, value)


def leaks(one: Planted, cleaned: Any) -> bool:
    """Whether what was cleaned still shows the secret, or a piece of it that would do."""
    shown = json.dumps(cleaned, ensure_ascii=False)
    pieces = [one.secret, json.dumps(one.secret)[1:-1], *re.findall(r"[A-Za-z0-9+/=_-]{18,}", one.secret)]
    return any(piece in shown for piece in pieces)


def is_held_back(name: str) -> bool:
    """A quarter, by its name: what patterns were not written against."""
    return zlib.crc32(name.encode()) % 4 == 0


def missed(cleaner: Cleaner, seed: int = 1) -> list[Planted]:
    return [one for one in planted(seed) if leaks(one, cleaner.clean(one.value)[0])]


def spoiled(cleaner: Cleaner) -> list[tuple[LookAlike, Any]]:
    found = ((one, cleaner.clean(one.value)) for one in alike())
    return [(one, cleaned) for one, (cleaned, count) in found if count or cleaned != one.value]
