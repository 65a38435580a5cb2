"""The timetable: what the calendar comes to for one app at one moment, and when that ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from .localtime import tell_moment
from .recent import Recent

Span = tuple[float, float]
"""From the first moment, up to and without the second: seconds since the epoch."""

_REACH = 86_400.0
"""Seconds around a moment for which what rules tell at that moment is sure to be complete."""

_MOST_STEPS = 1_000
"""How many windows that open in vain are looked through for one that helps."""


@dataclass(frozen=True, slots=True)
class Season:
    """What the calendar says of one app at one moment: in a freeze, with its maintenance windows closed, out of hours."""

    frozen: bool = False
    closed: bool = False
    off_hours: bool = False


ANY_TIME = Season()
"""The season where there is no calendar."""


@dataclass(frozen=True, slots=True)
class Closure:
    """What keeps changes back, and until when (seconds since the epoch; None: for good): a freeze, or the wait for a
    maintenance window, by the name in the settings. `str()` says it as a sentence without a full stop."""

    subject: str
    frozen: bool
    name: str
    until: float | None
    zone: ZoneInfo

    def __str__(self) -> str:
        if self.until is None:
            return f"{self.subject} is closed for changes, and no maintenance window of it is to come"
        until = tell_moment(self.until, self.zone)
        if self.frozen:
            return f"{self.subject} is frozen until {until} ({self.name})"
        return f"{self.subject} is closed for changes until {until}, when {self.name} begins"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A freeze, a maintenance or working hours: for what they hold (patterns; none: for all), and the spans that they
    have in the days or years around a moment."""

    name: str
    environments: tuple[str, ...]
    apps: tuple[str, ...]
    zone: ZoneInfo
    spans: Callable[[float], Iterable[Span]]

    def holds_for(self, environment: str, apps: Collection[str]) -> bool:
        return (not self.environments or any(fnmatchcase(environment, each) for each in self.environments)) and (
            not self.apps or any(self._names(app) for app in apps)
        )

    def subject(self, environment: str, apps: Iterable[str]) -> str:
        """What to say that the rule is about: the environment, or the app that it names."""
        return next((app for app in sorted(apps) if self._names(app)), environment)

    def last(self, at: float) -> float | None:
        """When the span that the moment is in ends; None where it is in none."""
        return max((end for begin, end in self.spans(at) if begin <= at < end), default=None)

    def next(self, at: float) -> float | None:
        """When the next span after the moment begins."""
        return min((begin for begin, end in self.spans(at) if at < begin < end), default=None)

    def _names(self, app: str) -> bool:
        name = app.rpartition("/")[2]
        return any(fnmatchcase(app if "/" in pattern else name, pattern) for pattern in self.apps)


@dataclass(slots=True, eq=False)
class _Part:
    """The rules that hold for some apps, and their season with the time that it lasts."""

    freezes: Sequence[Rule]
    windows: Sequence[Rule]
    since: float = 0.0
    until: float = 0.0
    season: Season = field(default=ANY_TIME)


class Timetable:
    """Rules, ready to be asked again and again about moments that are mostly close to each other."""

    def __init__(self, freezes: Sequence[Rule], windows: Sequence[Rule], hours: Sequence[Rule]) -> None:
        self._freezes = freezes
        self._windows = windows
        self._hours = hours
        self._free = not (freezes or windows or hours)
        self._known: Recent[tuple[str, frozenset[str]], _Part] = Recent(65_536)
        self._parts: dict[tuple[int, ...], _Part] = {}

    def season(self, environment: str, apps: frozenset[str], at: float) -> Season:
        """What holds at a moment for what is in an environment and in these apps."""
        if self._free:
            return ANY_TIME
        part = self._find(environment, apps)
        if not part.since <= at < part.until:
            self._look(part, at)
        return part.season

    def explain(self, environment: str, apps: frozenset[str], at: float) -> Closure | None:
        """What keeps changes back then; None where nothing does."""
        part = self._find(environment, apps)
        for rule, end in _going_on(part.freezes, at):
            return Closure(rule.subject(environment, apps), True, rule.name, _thaw(part, end), rule.zone)
        if not part.windows or any(_going_on(part.windows, at)):
            return None
        rule, opening = _find_opening(part, at)
        return Closure(rule.subject(environment, apps), False, rule.name, opening, rule.zone)

    def _find(self, environment: str, apps: frozenset[str]) -> _Part:
        part = self._known.get((environment, apps))
        if part is None:
            freezes = [rule for rule in self._freezes if rule.holds_for(environment, apps)]
            windows = [rule for rule in self._windows if rule.holds_for(environment, apps)]
            part = self._parts.setdefault((*map(id, freezes), 0, *map(id, windows)), _Part(freezes, windows))
            self._known.put((environment, apps), part)
        return part

    def _look(self, part: _Part, at: float) -> None:
        freezes, windows, hours = (
            [span for rule in rules for span in rule.spans(at)] for rules in (part.freezes, part.windows, self._hours)
        )
        edges = [edge for span in (*freezes, *windows, *hours) for edge in span]
        part.since = max([at - _REACH, *(edge for edge in edges if edge <= at)])
        part.until = min([at + _REACH, *(edge for edge in edges if edge > at)])
        part.season = Season(
            frozen=_within(freezes, at),
            closed=bool(part.windows) and not _within(windows, at),
            off_hours=bool(self._hours) and not _within(hours, at),
        )


def _within(spans: Iterable[Span], at: float) -> bool:
    return any(begin <= at < end for begin, end in spans)


def _going_on(rules: Iterable[Rule], at: float) -> Iterator[tuple[Rule, float]]:
    """The rules that have a span at the moment with its end, the one that ends last first."""
    found = [(rule, end) for rule in rules if (end := rule.last(at)) is not None]
    yield from sorted(found, key=lambda each: -each[1])


def _thaw(part: _Part, end: float) -> float:
    """When no freeze goes on any more, from the end of one on."""
    for _ in range(_MOST_STEPS):
        later = next(_going_on(part.freezes, end), None)
        if later is None:
            break
        end = later[1]
    return end


def _find_opening(part: _Part, at: float) -> tuple[Rule, float | None]:
    """The window that opens next without a freeze, and when it can be used; a window and None where none is to come."""
    for _ in range(_MOST_STEPS):
        upcoming = [(begin, rule) for rule in part.windows if (begin := rule.next(at)) is not None]
        if not upcoming:
            break
        at, rule = min(upcoming, key=lambda each: each[0])
        thaw = _thaw(part, at)
        if thaw == at:
            return rule, at
        at = thaw
        for open_rule, _ in _going_on(part.windows, at):
            return open_rule, at
    return part.windows[0], None
