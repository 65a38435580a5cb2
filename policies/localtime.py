"""Local times: how they are written in settings, and where they lie on the one line of real time."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

DAY = 24 * 60
"""Minutes of a day by the clock."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

_TIME = re.compile(r"(\d{1,2}):(\d{2})")
_MOMENT = re.compile(r"(?:((?:19|20|21)\d\d)-)?(\d{1,2})-(\d{1,2})(?:[ T]+(\d{1,2}:\d{2})(?::00)?)?")
_DURATION = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?")
_LEAP_YEAR = 2000


@dataclass(frozen=True, slots=True)
class Moment:
    """A local time of one year, or of every year. `minutes` are those of the day, up to 24:00."""

    year: int | None
    month: int
    day: int
    minutes: int

    def of(self, year: int) -> datetime:
        """In that year, unless it has one of its own."""
        start = datetime(self.year or year, self.month, self.day)  # noqa: DTZ001  # local: its zone comes later
        return start + timedelta(minutes=self.minutes)

    def __str__(self) -> str:
        year = f"{self.year}-" if self.year else ""
        return f"{year}{self.month:02}-{self.day:02} {_write_time(self.minutes)}"


def _read_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        zones = {name.lower(): name for name in available_timezones()}
        near = difflib.get_close_matches(value.lower(), zones, n=1)
        guess = f"did you mean {zones[near[0]]!r}?" if near else "write one like 'Europe/Berlin'"
        raise ValueError(f"{value!r} is not a time zone; {guess}") from error
    return value


def _read_time(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        hours, minutes = divmod(value, 60)  # what YAML makes of 22:00 without quotes
    elif isinstance(value, str) and (found := _TIME.fullmatch(value.strip())):
        hours, minutes = int(found[1]), int(found[2])
    else:
        raise ValueError(f"{value!r} is not a time of day; write one like '22:00'")
    if minutes > 59 or not 0 <= hours * 60 + minutes <= DAY:
        raise ValueError(f"{value!r} is not a time of day; the last one is '24:00'")
    return hours * 60 + minutes


def _write_time(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _read_moment(value: object, otherwise: int) -> Moment:
    """`otherwise` are the minutes of a day that stands without a time."""
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.isoformat(sep=" ")
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = value.isoformat()
    found = _MOMENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{str(value)!r} is not a local time; write one like '2026-12-20 18:00', or '12-20 18:00' for every year, "
            "and its time zone as `zone`"
        )
    year, month, day, time = found.groups()
    minutes = otherwise if time is None else _read_time(time)
    try:
        date(int(year or _LEAP_YEAR), int(month), int(day))
    except ValueError as error:
        raise ValueError(f"{value!r}: there is no such day") from error
    if year is None and (int(month), int(day)) == (2, 29):
        raise ValueError(f"{value!r} is not a day of every year; write 02-28 or 03-01")
    return Moment(int(year) if year else None, int(month), int(day), minutes)


def _read_duration(value: object) -> timedelta:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) and value.strip() else None
    if found is None:
        raise ValueError(f"{value!r} is not a duration; write one like '4h', '90m' or '1d 12h'")
    days, hours, minutes = (int(part or 0) for part in found.groups())
    lasting = timedelta(days=days, hours=hours, minutes=minutes)
    if not lasting or lasting > timedelta(days=7):
        raise ValueError(f"{value!r}: a window lasts longer than nothing, and at most seven days")
    return lasting


def _write_duration(value: timedelta) -> str:
    hours, minutes = divmod(int(value.total_seconds()) // 60, 60)
    return f"{hours}h {minutes}m"


def _read_days(value: object) -> tuple[int, ...]:
    entries: Iterable[object] = value if isinstance(value, list | tuple) else [value]
    days: set[int] = set()
    for entry in entries:
        first, dash, last = str(entry).strip().lower().partition("-")
        start = _find_day(first)
        end = _find_day(last) if dash else start
        days |= {(start + step) % 7 for step in range((end - start) % 7 + 1)}
    if not days:
        raise ValueError("name at least one day, like mon or mon-fri")
    return tuple(sorted(days))


def _write_days(days: Iterable[int]) -> list[str]:
    return [_DAYS[day] for day in days]


def _find_day(name: str) -> int:
    if name not in _DAYS:
        near = difflib.get_close_matches(name, _DAYS, n=1, cutoff=0.5)
        guess = f"did you mean {near[0]!r}?" if near else f"days are {', '.join(_DAYS)}, or a range like mon-fri"
        raise ValueError(f"{name!r} is not a day of the week; {guess}")
    return _DAYS.index(name)


Zone = Annotated[str, AfterValidator(_read_zone)]
"""The name of a time zone, as `Europe/Berlin`."""

TimeOfDay = Annotated[int, BeforeValidator(_read_time), PlainSerializer(_write_time)]
"""Minutes since midnight by the clock, written `22:00`."""

Beginning = Annotated[Moment, BeforeValidator(partial(_read_moment, otherwise=0)), PlainSerializer(str)]
"""A local time that something begins at; a day alone is meant from its beginning."""

End = Annotated[Moment, BeforeValidator(partial(_read_moment, otherwise=DAY)), PlainSerializer(str)]
"""A local time that something ends at; a day alone is meant to its end."""

Duration = Annotated[timedelta, BeforeValidator(_read_duration), PlainSerializer(_write_duration)]
"""Real time, written `4h`, `90m`, `1d 12h`."""

Days = Annotated[tuple[int, ...], BeforeValidator(_read_days), PlainSerializer(_write_days)]
"""Days of the week, 0 for Monday, written `mon`, `[sat, sun]`, `mon-fri`."""


def find_first(local: datetime, zone: ZoneInfo) -> float:
    """The first moment at which clocks of the zone show this time or, where they skip it, a later one; in seconds since
    the epoch."""
    first, second = _read(local, zone, 0), _read(local, zone, 1)
    return first if first <= second else _find_leap(second, first, zone)


def find_last(local: datetime, zone: ZoneInfo) -> float:
    """The moment after which clocks of the zone do not show an earlier time any more, in seconds since the epoch.

    In an hour that comes twice this is in the second: what lasts until then has not ended when the clocks go back."""
    before = local - timedelta(seconds=1)
    first, second = _read(before, zone, 0), _read(before, zone, 1)
    return second + 1 if first <= second else _find_leap(second, first, zone)


def tell_moment(at: float, zone: ZoneInfo) -> str:
    """A moment in words, as `4 January 2027 08:00 Europe/Berlin`."""
    local = datetime.fromtimestamp(at, zone)
    return f"{local.day} {_MONTHS[local.month - 1]} {local.year} {local:%H:%M} {zone.key}"


def _read(local: datetime, zone: ZoneInfo, fold: int) -> float:
    return local.replace(tzinfo=zone, fold=fold).timestamp()


def _find_leap(before: float, after: float, zone: ZoneInfo) -> float:
    """The second at which the clocks leap, between these two."""
    low, high = int(before // 1), int(-(-after // 1))
    old = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == old else (low, middle)
    return float(high)


def _offset(at: int, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
