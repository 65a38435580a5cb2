"""The calendar: freezes, maintenance and working hours, right by the clock of every zone on every day of the year."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from arborgate.policies.calendar import Calendar, Season

PROD = "production"
SHOP = frozenset({"main/argocd/shop"})
API = frozenset({"main/argocd/api", "main/argocd/shop"})
BANK = frozenset({"main/argocd/bank"})


def calendar(text: str) -> Calendar:
    return Calendar.model_validate(yaml.safe_load(text))


def moment(text: str) -> float:
    """Of a local time and its zone, or a time with its offset."""
    time, _, zone = text.partition(" ")
    local = datetime.fromisoformat(time)
    return (local.replace(tzinfo=ZoneInfo(zone)) if zone else local).timestamp()


YEAR = calendar(
    """
    zone: Europe/Berlin
    hours:
      - {from: 09:00, until: 17:00, holidays: [2026-12-25]}
      - {days: sat, from: 10:00, until: 14:00, zone: America/New_York}
    freezes:
      - {name: Year end, from: 12-20 18:00, until: 01-04 08:00, environments: [prod*]}
      - {name: Black Friday, from: 2026-11-26, until: 2026-11-30, apps: [shop], zone: America/New_York}
      - {name: Audit, from: 2027-01-04 06:00, until: 2027-01-05, environments: [production]}
    maintenance:
      - {name: Thursday night, days: thu, at: 22:00, for: 4h, environments: [production]}
      - {name: Database move, from: 2026-12-05 20:00, until: 2026-12-06 04:00, apps: [main/argocd/*]}
    """
)


@pytest.mark.parametrize(
    ("at", "apps", "season"),
    [
        ("2026-12-20T17:59 Europe/Berlin", SHOP, Season(closed=True, off_hours=True)),
        ("2026-12-20T18:00 Europe/Berlin", SHOP, Season(frozen=True, closed=True, off_hours=True)),
        ("2026-12-24T22:30 Europe/Berlin", SHOP, Season(frozen=True, off_hours=True)),
        ("2026-12-24T10:00 Europe/Berlin", SHOP, Season(frozen=True, closed=True)),
        ("2026-12-25T10:00 Europe/Berlin", SHOP, Season(frozen=True, closed=True, off_hours=True)),
        ("2027-01-04T08:00 Europe/Berlin", SHOP, Season(frozen=True, closed=True, off_hours=True)),
        ("2027-01-06T00:00 Europe/Berlin", SHOP, Season(closed=True, off_hours=True)),
        ("2026-11-25T23:59 America/New_York", SHOP, Season(closed=True, off_hours=True)),
        ("2026-11-26T00:00 America/New_York", SHOP, Season(frozen=True, closed=True, off_hours=True)),
        ("2026-11-26T00:00 America/New_York", BANK, Season(closed=True, off_hours=True)),
        ("2026-11-30T23:59 America/New_York", API, Season(frozen=True, closed=True, off_hours=True)),
        ("2026-12-01T00:00 America/New_York", API, Season(closed=True, off_hours=True)),
        ("2026-11-12T21:59 Europe/Berlin", BANK, Season(closed=True, off_hours=True)),
        ("2026-11-12T22:00 Europe/Berlin", BANK, Season(off_hours=True)),
        ("2026-11-13T01:59 Europe/Berlin", BANK, Season(off_hours=True)),
        ("2026-11-13T02:00 Europe/Berlin", BANK, Season(closed=True, off_hours=True)),
        ("2026-12-05T20:00 Europe/Berlin", BANK, Season(off_hours=True)),
        ("2026-12-05T15:59 America/New_York", frozenset(), Season(closed=True, off_hours=True)),
        ("2026-12-05T13:59 America/New_York", frozenset(), Season(closed=True)),
        ("2026-11-16T09:00 Europe/Berlin", SHOP, Season(closed=True)),
    ],
)
def test_a_season_is_what_the_calendar_says_at_a_moment(at: str, apps: frozenset[str], season: Season) -> None:
    assert YEAR.season(PROD, apps, moment(at)) == season


def test_a_season_is_remembered_no_longer_than_it_lasts() -> None:
    text = "{hours: [{days: mon, from: 09:00, until: 17:00}], freezes: [{name: x, from: 01-05, until: 01-20}]}"
    hours = [moment("2026-01-01T00:30+00:00") + 3_600 * step for step in range(24 * 40)]
    asked, back = calendar(text), calendar(text)
    seasons = [asked.season(PROD, SHOP, at) for at in hours]

    assert seasons == [back.season(PROD, SHOP, at) for at in reversed(hours)][::-1]
    assert seasons == [calendar(text).season(PROD, SHOP, at) for at in hours]
    assert [season.off_hours for season in seasons].count(False) == 6 * 8
    assert [season.frozen for season in seasons].count(True) == 16 * 24


def test_what_names_an_environment_holds_for_it_alone_and_unassigned_has_a_name() -> None:
    closed = calendar("freezes: [{name: x, from: 01-01, until: 12-30, environments: [unassigned]}]")
    at = moment("2026-06-01T12:00+00:00")

    assert closed.season("", SHOP, at).frozen
    assert not closed.season(PROD, SHOP, at).frozen


def test_a_freeze_of_a_parent_app_holds_for_what_is_below_it() -> None:
    frozen = calendar("freezes: [{name: x, from: 01-01, until: 12-30, apps: [main/argocd/shop]}]")
    at = moment("2026-06-01T12:00+00:00")

    assert [frozen.season("dev", apps, at).frozen for apps in (SHOP, API, BANK)] == [True, True, False]


def test_without_a_calendar_nothing_is_ever_held_back() -> None:
    assert Calendar().season(PROD, SHOP, 0.0) == Season(frozen=False, closed=False, off_hours=False)
    assert Calendar().explain(PROD, SHOP, 0.0) is None


@pytest.mark.parametrize(
    ("begins", "ends", "first", "after"),
    [
        # The clocks leap from 02:00 to 03:00: a time between the two is the leap.
        ("2026-03-29 02:30", "2026-03-29 12:00", "2026-03-29T01:00+00:00", "2026-03-29T10:00+00:00"),
        ("2026-03-28 12:00", "2026-03-29 02:30", "2026-03-28T11:00+00:00", "2026-03-29T01:00+00:00"),
        ("2026-03-28 12:00", "2026-03-29 03:00", "2026-03-28T11:00+00:00", "2026-03-29T01:00+00:00"),
        # The hour from 02:00 to 03:00 comes twice: what begins in it begins in the first, what ends in it in the second.
        ("2026-10-25 02:30", "2026-10-25 12:00", "2026-10-25T00:30+00:00", "2026-10-25T11:00+00:00"),
        ("2026-10-24 12:00", "2026-10-25 02:30", "2026-10-24T10:00+00:00", "2026-10-25T01:30+00:00"),
        ("2026-10-25 02:30", "2026-10-25 02:45", "2026-10-25T00:30+00:00", "2026-10-25T01:45+00:00"),
        ("2026-10-24 12:00", "2026-10-25 02:00", "2026-10-24T10:00+00:00", "2026-10-25T00:00+00:00"),
        ("2026-10-24 12:00", "2026-10-25 03:00", "2026-10-24T10:00+00:00", "2026-10-25T02:00+00:00"),
        # Days alone are whole days.
        ("2026-10-25", "2026-10-25", "2026-10-24T22:00+00:00", "2026-10-25T23:00+00:00"),
        ("2026-03-29", "2026-03-29", "2026-03-28T23:00+00:00", "2026-03-29T22:00+00:00"),
    ],
)
def test_a_freeze_begins_and_ends_by_the_clock_where_the_clocks_change(
    begins: str, ends: str, first: str, after: str
) -> None:
    frozen = calendar(f"{{zone: Europe/Berlin, freezes: [{{name: x, from: {begins}, until: {ends}}}]}}")
    begin, end = moment(first), moment(after)

    assert [frozen.season(PROD, SHOP, at).frozen for at in (begin - 1, begin, end - 1, end)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("day", "time", "lasts", "first", "after"),
    [
        ("sat", "22:00", "8h", "2026-03-28T21:00+00:00", "2026-03-29T05:00+00:00"),
        ("sat", "22:00", "8h", "2026-10-24T20:00+00:00", "2026-10-25T04:00+00:00"),
        ("sun", "02:30", "1h", "2026-03-29T01:00+00:00", "2026-03-29T02:00+00:00"),
        ("sun", "02:30", "1h", "2026-10-25T00:30+00:00", "2026-10-25T01:30+00:00"),
        ("sun", "24:00", "1h", "2026-03-29T22:00+00:00", "2026-03-29T23:00+00:00"),
    ],
)
def test_a_maintenance_opens_by_the_clock_and_lasts_in_real_time(
    day: str, time: str, lasts: str, first: str, after: str
) -> None:
    weekly = calendar(f"{{zone: Europe/Berlin, maintenance: [{{name: x, days: {day}, at: '{time}', for: {lasts}}}]}}")
    begin, end = moment(first), moment(after)

    assert [weekly.season(PROD, SHOP, at).closed for at in (begin - 1, begin, end - 1, end)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_day_that_begins_with_a_leap_is_frozen_from_the_leap_on() -> None:
    frozen = calendar("{zone: Africa/Cairo, freezes: [{name: x, from: 2026-04-24, until: 2026-04-24}]}")
    leap = moment("2026-04-23T22:00+00:00")  # midnight is skipped: 23:59 is followed by 01:00

    assert [frozen.season(PROD, SHOP, at).frozen for at in (leap - 1, leap)] == [False, True]


@pytest.mark.parametrize(
    ("at", "apps", "told"),
    [
        ("2026-12-24T12:00 Europe/Berlin", BANK, "production is frozen until 6 January 2027 00:00"),
        (
            "2026-11-27T12:00 Europe/Berlin",
            API,
            "main/argocd/shop is frozen until 1 December 2026 00:00 America/New_York",
        ),
        (
            "2026-11-25T12:00 Europe/Berlin",
            BANK,
            "production is closed for changes until 26 November 2026 22:00 Europe/Berlin, when Thursday night begins",
        ),
        ("2026-12-18T12:00 Europe/Berlin", BANK, "production is closed for changes until 7 January 2027 22:00"),
        (
            "2026-12-04T12:00 Europe/Berlin",
            BANK,
            "main/argocd/bank is closed for changes until 5 December 2026 20:00 Europe/Berlin, when Database move begins",
        ),
    ],
)
def test_what_holds_changes_back_is_told_with_its_name_and_its_end(at: str, apps: frozenset[str], told: str) -> None:
    closure = YEAR.explain(PROD, apps, moment(at))

    assert str(closure).startswith(told)


def test_the_name_told_is_that_of_the_freeze_which_ends_last() -> None:
    at = moment("2027-01-04T07:00 Europe/Berlin")

    assert str(YEAR.explain(PROD, BANK, at)) == "production is frozen until 6 January 2027 00:00 Europe/Berlin (Audit)"


def test_an_open_maintenance_and_an_app_that_has_none_are_told_nothing() -> None:
    assert YEAR.explain(PROD, BANK, moment("2026-11-12T23:00 Europe/Berlin")) is None
    assert YEAR.explain("dev", frozenset(), moment("2026-11-12T12:00 Europe/Berlin")) is None


def test_a_maintenance_that_is_over_leaves_its_apps_closed_and_says_so() -> None:
    once = calendar("maintenance: [{name: x, from: 2026-01-01, until: 2026-01-02, apps: [shop]}]")

    assert str(once.explain(PROD, SHOP, moment("2026-02-01T00:00+00:00"))) == (
        "main/argocd/shop is closed for changes, and no maintenance window of it is to come"
    )


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("zone: Europe/Berln", "zone", "'Europe/Berln' is not a time zone; did you mean 'Europe/Berlin'?"),
        ("zone: /etc/passwd", "zone", "is not a time zone"),
        ("zone: ''", "zone", "'' is not a time zone; write one like 'Europe/Berlin'"),
        (
            "freezes: [{name: x, from: 2026-01-02 09:00, until: 2026-01-01}]",
            "freezes.0",
            "`until` must be after `from`",
        ),
        ("freezes: [{name: x, from: 2026-01-02 09:00, until: 2026-01-02 09:00}]", "freezes.0", "must be after"),
        ("freezes: [{name: x, from: 01-02 09:00, until: 01-02 09:00}]", "freezes.0", "are the same"),
        ("freezes: [{name: x, from: 01-02, until: 2026-02-01}]", "freezes.0", "both of one year, or both of every"),
        ("freezes: [{name: x, from: 02-29, until: 03-02}]", "freezes.0.from", "not a day of every year"),
        ("freezes: [{name: x, from: 02-30, until: 03-02}]", "freezes.0.from", "no such day"),
        ("freezes: [{name: x, from: 2026-02-01T08:00:00Z, until: 2026-03-02}]", "freezes.0.from", "not a local time"),
        ("freezes: [{name: x, from: tomorrow, until: 2026-03-02}]", "freezes.0.from", "not a local time"),
        ("freezes: [{name: x, from: 2026-03-01 25:00, until: 2026-03-02}]", "freezes.0.from", "not a time of day"),
        ("freezes: [{from: 01-01, until: 01-02}]", "freezes.0.name", "Field required"),
        ("freezes: [{name: x, from: 01-01, until: 01-02, zone: X}]", "freezes.0.zone", "not a time zone"),
        (
            "{freezes: [{name: x, from: 01-01, until: 01-02}], maintenance: [{name: x, days: mon, at: 22:00, for: 1h}]}",
            "",
            "have the name 'x'",
        ),
        ("maintenance: [{name: x, days: mon, at: 22:00}]", "maintenance.0", "either `days`, `at` and `for`, or"),
        ("maintenance: [{name: x, days: mon, at: 22:00, for: 1h, until: 01-01}]", "maintenance.0", "either"),
        ("maintenance: [{name: x, days: mon-fr, at: 22:00, for: 1h}]", "maintenance.0.days", "did you mean 'fri'?"),
        ("maintenance: [{name: x, days: [], at: 22:00, for: 1h}]", "maintenance.0.days", "at least one day"),
        ("maintenance: [{name: x, days: mon, at: 22:60, for: 1h}]", "maintenance.0.at", "not a time of day"),
        ("maintenance: [{name: x, days: mon, at: 24:01, for: 1h}]", "maintenance.0.at", "the last one is '24:00'"),
        ("maintenance: [{name: x, days: mon, at: 22:00, for: 1}]", "maintenance.0.for", "not a duration"),
        ("maintenance: [{name: x, days: mon, at: 22:00, for: 0h}]", "maintenance.0.for", "longer than nothing"),
        ("maintenance: [{name: x, days: mon, at: 22:00, for: 8d}]", "maintenance.0.for", "at most seven days"),
        (
            "maintenance: [{name: x, days: mon-fri, at: 22:00, for: 25h}]",
            "maintenance.0",
            "still be open when it opens",
        ),
        ("hours: [{from: 17:00, until: 09:00}]", "hours.0", "`until` must be after `from`"),
        ("hours: [{from: 09:00, until: 17:00, holidays: [christmas]}]", "hours.0.holidays.0", "valid date"),
    ],
)
def test_a_mistake_in_a_calendar_is_told_with_its_place(text: str, where: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        calendar(text)

    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == where
    assert told in error["msg"]


def test_an_environment_that_there_is_not_is_told_with_the_near_one() -> None:
    text = "freezes: [{name: Year end, from: 12-20, until: 01-04, environments: [prodution, prod-*, production]}]"

    assert calendar(text).find_strangers(["production", "staging"]) == [
        "Year end: 'prodution' is not an environment; did you mean 'production'?",
        "Year end: 'prod-*' is not an environment; known are production, staging, unassigned",
    ]
    assert calendar(text.replace("prodution, prod-*", "unassigned")).find_strangers(["production"]) == []


def test_a_calendar_is_written_as_it_is_read() -> None:
    assert Calendar.model_validate(YEAR.model_dump(mode="json")) == YEAR


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/St_Johns", "Asia/Kolkata")
CHANGES = (
    "2026-03-29",
    "2026-10-25",
    "2026-03-08",
    "2026-11-01",
    "2026-04-05",
    "2026-10-04",
    "2026-04-24",
    "2026-10-30",
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@st.composite
def _local(draw: st.DrawFn) -> datetime:
    day = datetime.fromisoformat(draw(st.sampled_from(CHANGES))) + timedelta(days=draw(st.integers(-1, 1)))
    return day + timedelta(minutes=15 * draw(st.integers(0, 95)))


@st.composite
def _freeze(draw: st.DrawFn) -> dict[str, Any]:
    begins, yearly = draw(_local()), draw(st.booleans())
    ends = begins + timedelta(minutes=15 * draw(st.integers(1, 4 * 40)))
    form = "%m-%d %H:%M" if yearly else "%Y-%m-%d %H:%M"
    return {"from": begins.strftime(form), "until": ends.strftime(form)}


@st.composite
def _weekly(draw: st.DrawFn) -> dict[str, Any]:
    minutes = 15 * draw(st.integers(0, 95))
    days = draw(st.sets(st.sampled_from(DAYS), min_size=1, max_size=3))
    return {"days": sorted(days), "at": minutes, "for": f"{draw(st.integers(15, 24 * 60))}m"}


@st.composite
def _hours(draw: st.DrawFn) -> dict[str, Any]:
    begins = draw(st.integers(0, 94))
    days = draw(st.sets(st.sampled_from(DAYS), min_size=1))
    return {"days": sorted(days), "from": 15 * begins, "until": 15 * draw(st.integers(begins + 1, 96))}


@st.composite
def _calendars(draw: st.DrawFn) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "freezes": draw(st.lists(_freeze(), max_size=2)),
        "maintenance": draw(st.lists(st.one_of(_weekly(), _freeze()), max_size=2)),
        "hours": draw(st.lists(_hours(), max_size=2)),
    }
    for each in (*entries["freezes"], *entries["maintenance"], *entries["hours"]):
        each["zone"] = draw(st.sampled_from(ZONES))
    for number, each in enumerate((*entries["freezes"], *entries["maintenance"])):
        each["name"] = str(number)
    return entries


@settings(deadline=None)
@given(_calendars(), st.lists(_local(), min_size=1, max_size=8), st.data())
def test_every_season_is_what_counting_the_minutes_by_the_clock_says(
    entries: dict[str, Any], moments: list[datetime], data: st.DataObject
) -> None:
    made = Calendar.model_validate(entries)
    asked = [local.replace(tzinfo=UTC).timestamp() + data.draw(st.integers(-60, 60)) for local in moments]

    assert [made.season(PROD, SHOP, at) for at in asked] == [_count(entries, at) for at in asked]


@settings(deadline=None)
@given(_calendars(), _local())
def test_changes_are_held_back_until_just_the_moment_that_is_told(entries: dict[str, Any], local: datetime) -> None:
    made, at = Calendar.model_validate(entries), local.replace(tzinfo=UTC).timestamp()
    closure, season = made.explain(PROD, SHOP, at), made.season(PROD, SHOP, at)

    def held(when: float) -> bool:
        then = made.season(PROD, SHOP, when)
        return then.frozen if season.frozen else then.frozen or then.closed

    assert (closure is not None) == held(at)
    if closure is not None:
        assert closure.frozen == season.frozen
        until = closure.until if closure.until is not None else at + 400 * 86_400
        assert all(held(at + (until - at) * step / 500) for step in range(500))
        assert closure.until is None or not held(closure.until)


def _count(entries: dict[str, Any], at: float) -> Season:
    """The obvious way: by looking at the clock in every minute around."""
    windows = [any(_opened(each, at)) for each in entries["maintenance"]]
    working = [_works(each, at) for each in entries["hours"]]
    return Season(
        frozen=any(any(_opened(each, at)) for each in entries["freezes"]),
        closed=bool(windows) and not any(windows),
        off_hours=bool(working) and not any(working),
    )


def _opened(entry: dict[str, Any], at: float) -> Iterator[bool]:
    zone = ZoneInfo(entry["zone"])
    if "days" in entry:
        lasts = 60 * int(entry["for"].removesuffix("m"))
        for day in _midnights(at, zone, back=8):
            if DAYS[day.weekday()] in entry["days"]:
                opening = day + timedelta(minutes=entry["at"])
                yield _shows(zone, at, opening) and not _shows(zone, at - lasts, opening)
    elif entry["from"].startswith("20"):
        yield _between(zone, at, datetime.fromisoformat(entry["from"]), datetime.fromisoformat(entry["until"]))
    else:
        for year in (2025, 2026, 2027):
            begins, ends = (datetime.fromisoformat(f"{year}-{entry[key]}") for key in ("from", "until"))
            yield _between(zone, at, begins, ends if ends > begins else ends.replace(year=year + 1))


def _works(entry: dict[str, Any], at: float) -> bool:
    zone = ZoneInfo(entry["zone"])
    return any(
        DAYS[day.weekday()] in entry["days"]
        and _between(zone, at, day + timedelta(minutes=entry["from"]), day + timedelta(minutes=entry["until"]))
        for day in _midnights(at, zone, back=2)
    )


def _midnights(at: float, zone: ZoneInfo, back: int) -> list[datetime]:
    today = datetime.fromtimestamp(at, zone).replace(tzinfo=None, hour=0, minute=0, second=0)
    return [today - timedelta(days=step) for step in range(-1, back + 1)]


def _between(zone: ZoneInfo, at: float, begins: datetime, ends: datetime) -> bool:
    return _shows(zone, at, begins) and _will_show_less(zone, at, ends)


def _shows(zone: ZoneInfo, at: float, local: datetime) -> bool:
    """Whether the clock shows that time or a later one, or did at any minute of the last hours."""
    return any(_clock(zone, when) >= local for when in (at, *_minutes(at, -1)))


def _will_show_less(zone: ZoneInfo, at: float, local: datetime) -> bool:
    """Whether the clock shows an earlier time, or will at any minute of the next hours."""
    return any(_clock(zone, when) < local for when in (at, *_minutes(at, 1)))


def _minutes(at: float, direction: int) -> Iterator[float]:
    """Just before, or at, each full minute of two hours: the clocks change at such."""
    full = at // 60 * 60
    for step in range(1, 121):
        yield full - 60 * (step - 1) - 1 if direction < 0 else full + 60 * step


def _clock(zone: ZoneInfo, at: float) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)
