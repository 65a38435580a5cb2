"""What the doctor says: one finding about one thing, with the way out where there is something to get out of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Process(StrEnum):
    """Whose settings are looked at."""

    APPLIER = "applier"
    PARENT = "parent"
    SERVE = "serve"


class Mark(StrEnum):
    """How it is: it will do, it will do until something happens, it won't do."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing (a setting, or what it leads to), how it is, and what to do about it (`""`: nothing)."""

    what: str
    mark: Mark
    told: str
    way_out: str = ""


def good(what: str, told: str) -> Finding:
    return Finding(what, Mark.OK, told)


def poor(what: str, told: str, way_out: str) -> Finding:
    return Finding(what, Mark.WARN, told, way_out)


def bad(what: str, told: str, way_out: str) -> Finding:
    return Finding(what, Mark.BAD, told, way_out)


def judge_clock(what: str, skew: float) -> Finding:
    """A finding about another machine's clock, which is `skew` seconds ahead of ours."""
    told = f"is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this one"
    if abs(skew) <= _EXACT:
        return good(what, "agrees with this one")
    way_out = "let both follow the same time servers"
    return poor(what, told, way_out) if abs(skew) <= _TOLERABLE else bad(what, told, way_out)


_EXACT, _TOLERABLE = 2.0, 30.0
"""Seconds between two clocks that nobody notices, and that tokens and approvals still bear."""
