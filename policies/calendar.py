"""The calendar: when changes are frozen, when maintenance windows are open, and what the working hours are."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import pairwise
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .localtime import Beginning, Days, Duration, End, Moment, TimeOfDay, Zone, find_first, find_last
from .timetable import Closure, Rule, Season, Span, Timetable

__all__ = ["UNASSIGNED", "Calendar", "Closure", "Freeze", "Hours", "Maintenance", "Season"]

UNASSIGNED = "unassigned"
"""The environment of what is in none."""

_WEEK = timedelta(days=7)


class _Closed(BaseModel):
    """A part of the calendar; it is written as it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class _ForSome(_Closed):
    name: str = Field(min_length=1, description="what denials and pages call it")
    environments: tuple[str, ...] = Field(default=(), description="names or patterns (`prod-*`); empty: all")
    apps: tuple[str, ...] = Field(
        default=(),
        description="apps with all that is below them: ids (cluster/namespace/name), names, or patterns; empty: all",
    )
    zone: Zone | None = Field(default=None, description="time zone; default: the calendar's")


class Freeze(_ForSome):
    """A time in which nothing is approved or applied, but behind broken glass."""

    begins: Beginning = Field(
        alias="from",
        description="local time, `2026-12-20 18:00`, or `12-20 18:00` for every year; a day: its beginning",
    )
    ends: End = Field(alias="until", description="as `from`; a day: its end")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        _check_order(self.begins, self.ends)
        return self

    def spans(self, zone: ZoneInfo, at: float) -> Iterator[Span]:
        """When it goes on in the years around a moment."""
        return _find_spans(self.begins, self.ends, zone, at)


class Maintenance(_ForSome):
    """A time for changes: every week (`days`, `at`, `for`) or once (`from`, `until`). What some maintenance is for is
    changed only while one of these is open; all else may be changed at any time."""

    days: Days | None = Field(default=None, description="days that it opens on: `mon`, `[sat, sun]`, `mon-fri`")
    opens: TimeOfDay | None = Field(default=None, alias="at", description="local time that it opens at: `22:00`")
    lasts: Duration | None = Field(default=None, alias="for", description="how long it stays open: `4h`, `1h 30m`")
    begins: Beginning | None = Field(default=None, alias="from", description="local time, as of a freeze")
    ends: End | None = Field(default=None, alias="until", description="local time, as of a freeze")

    @model_validator(mode="after")
    def _opens_weekly_or_once(self) -> Self:
        given = {name for name in ("days", "opens", "lasts", "begins", "ends") if getattr(self, name) is not None}
        if given not in ({"days", "opens", "lasts"}, {"begins", "ends"}):
            raise ValueError("a maintenance has either `days`, `at` and `for`, or `from` and `until`")
        if self.begins and self.ends:
            _check_order(self.begins, self.ends)
        if self.days and self.lasts and self.lasts > _find_shortest_gap(self.days):
            raise ValueError("it would still be open when it opens again; make `for` shorter, or name fewer days")
        return self

    def spans(self, zone: ZoneInfo, at: float) -> Iterator[Span]:
        """When it is open in the days or years around a moment: now, and at least once more where it ever will be."""
        if self.begins and self.ends:
            yield from _find_spans(self.begins, self.ends, zone, at)
        elif self.days and self.opens is not None and self.lasts:
            for day in _days_around(self.days, zone, at, 9):
                opening = find_first(day + timedelta(minutes=self.opens), zone)
                yield opening, opening + self.lasts.total_seconds()


class Hours(_Closed):
    """Hours in which somebody is at work."""

    days: Days = Field(default=(0, 1, 2, 3, 4), description="`mon-fri`, `[mon, tue]`; default: Monday to Friday")
    begins: TimeOfDay = Field(alias="from", description="local time: `09:00`")
    ends: TimeOfDay = Field(alias="until", description="local time: `17:30`")
    holidays: tuple[date, ...] = Field(default=(), description="days without work: `2026-12-25`")
    zone: Zone | None = Field(default=None, description="time zone; default: the calendar's")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.ends <= self.begins:
            raise ValueError("`until` must be after `from`; hours past midnight are two entries, the first until 24:00")
        return self

    def spans(self, zone: ZoneInfo, at: float) -> Iterator[Span]:
        """When somebody is at work in the days around a moment."""
        for day in _days_around(self.days, zone, at, 3):
            if day.date() not in self.holidays:
                begin, end = day + timedelta(minutes=self.begins), day + timedelta(minutes=self.ends)
                yield find_first(begin, zone), find_last(end, zone)


class Calendar(_Closed):
    """Times in which changes are held back, and the working hours. A freeze beats a maintenance; what overlaps adds up."""

    zone: Zone = Field(default="UTC", description="time zone of all that names none, like `Europe/Berlin`")
    hours: tuple[Hours, ...] = Field(default=(), description="the working hours; empty: every hour is one")
    freezes: tuple[Freeze, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        count = Counter(each.name for each in (*self.freezes, *self.maintenance))
        if twice := [name for name, times in count.items() if times > 1]:
            raise ValueError(f"two freezes or maintenances have the name {twice[0]!r}; a denial could not tell which")
        return self

    def find_strangers(self, environments: Collection[str]) -> list[str]:
        """What to say of each name or pattern of an environment that fits none of these."""
        known = sorted({*environments, UNASSIGNED})
        return [
            f"{each.name}: {pattern!r} is not an environment; {_guess(pattern, known)}"
            for each in (*self.freezes, *self.maintenance)
            for pattern in each.environments
            if not any(fnmatchcase(name, pattern) for name in known)
        ]

    def season(self, environment: str, apps: frozenset[str], at: float) -> Season:
        """What holds at a moment (seconds since the epoch) for what is in an environment ("" for none) and in these apps
        (`cluster/namespace/name`), the parents of apps among them."""
        return self._timetable.season(environment or UNASSIGNED, apps, at)

    def explain(self, environment: str, apps: frozenset[str], at: float) -> Closure | None:
        """What keeps changes back then, asked as `season`; None where nothing does."""
        return self._timetable.explain(environment or UNASSIGNED, apps, at)

    @cached_property
    def _timetable(self) -> Timetable:
        return Timetable(
            [self._rule(freeze) for freeze in self.freezes],
            [self._rule(maintenance) for maintenance in self.maintenance],
            [Rule("", (), (), self._zone(hours), partial(hours.spans, self._zone(hours))) for hours in self.hours],
        )

    def _rule(self, each: Freeze | Maintenance) -> Rule:
        zone = self._zone(each)
        return Rule(each.name, each.environments, each.apps, zone, partial(each.spans, zone))

    def _zone(self, each: _ForSome | Hours) -> ZoneInfo:
        return ZoneInfo(each.zone or self.zone)


def _guess(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _check_order(begins: Moment, ends: Moment) -> None:
    if (begins.year is None) != (ends.year is None):
        raise ValueError("`from` and `until` are both of one year, or both of every year")
    if begins.year is not None and ends.of(0) <= begins.of(0):
        raise ValueError("`until` must be after `from`")
    if begins.year is None and ends.of(2001) == begins.of(2001):
        raise ValueError("`from` and `until` are the same, so it would never end")


def _find_spans(begins: Moment, ends: Moment, zone: ZoneInfo, at: float) -> Iterator[Span]:
    if begins.year is not None:
        yield find_first(begins.of(0), zone), find_last(ends.of(0), zone)
        return
    here = _local(zone, at).year
    for year in (here - 1, here, here + 1):
        begin = begins.of(year)
        end = ends.of(year) if ends.of(year) > begin else ends.of(year + 1)
        yield find_first(begin, zone), find_last(end, zone)


def _days_around(days: Collection[int], zone: ZoneInfo, at: float, reach: int) -> Iterator[datetime]:
    """The midnights that these days of the week begin with, by the clock, so many days back and on."""
    today = _local(zone, at).replace(hour=0, minute=0, second=0, microsecond=0)
    for step in range(-reach, reach + 1):
        day = today + timedelta(days=step)
        if day.weekday() in days:
            yield day


def _local(zone: ZoneInfo, at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).replace(tzinfo=None)


def _find_shortest_gap(days: Collection[int]) -> timedelta:
    """Between two of these days of the week that follow each other."""
    first = min(days)
    return min(timedelta(days=later - earlier) for earlier, later in pairwise([*sorted(days), first + _WEEK.days]))
