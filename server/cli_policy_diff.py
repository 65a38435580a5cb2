"""`arborgate policy diff`: what another set of policies would change, shown on its cases and on what is on record."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ..policies.casebook import Case, judge
from ..policies.engine import LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import read_policies
from ..policies.model import Caller, Decision, Resource
from ..tools.text import quote_name
from .cli_policy_words import name_reasons, place, read_when, say_decision, say_door, say_person, say_place
from .cli_record import find_logs
from .comparison import CaseFlip, Comparison, Flip, ListFlip, compare_cases
from .replay import BrokenLog, count_reasons, name_places, read_past
from .settings import read_settings

_NAMED = 8
"""How many apps of a list are named."""


class Format(StrEnum):
    """How the differences are written."""

    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class _Found:
    """All that the two sets differ in."""

    old: LoadedPolicies
    new: LoadedPolicies
    asked: int
    failing: int
    cases: Sequence[CaseFlip]
    past: Comparison
    lists: Sequence[ListFlip]
    replayed: bool

    def __bool__(self) -> bool:
        return bool(self.cases or self.past.flips or self.lists)


def diff(
    old: Annotated[Path, typer.Argument(help="The folder of policies to compare with.")],
    new: Annotated[Path, typer.Argument(help="The folder of policies that would take over.")],
    record: Annotated[
        Path | None, typer.Option(help="A log, or the folder of all logs: what is on record is decided by both sets.")
    ] = None,
    since: Annotated[str, typer.Option(help="The records from then on: RFC 3339, or ago: 24h, 30d.")] = "30d",
    until: Annotated[str, typer.Option(help="The records until then, likewise; default: now.")] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The settings, for records that don't tell what theirs said."),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="The most differences of a kind to show.")] = 50,
    output: Annotated[Format, typer.Option("--format", help="For people or for programs.")] = Format.TEXT,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 even when something differs.")] = False,
) -> None:
    """Shows every decision that differs between two sets of policies: in the cases of both, and in real records.

    Exits 1 when there is one, and 2 when a set can't be loaded or a log can't be read."""
    (before, old_cases), (after, new_cases) = _read_sets(old, new)
    asked, cases = compare_cases(before, after, [*old_cases, *new_cases])
    failing = sum(bool(answer.problem) for answer in judge(after, new_cases))
    past = Comparison(before, after, read_settings(config).surroundings)
    if record is not None:
        _replay(past, find_logs(record), read_when(since, "--since"), read_when(until, "--until"))
    found = _Found(before, after, asked, failing, cases, past, past.compare_lists(), record is not None)
    if output is Format.JSON:
        typer.echo(orjson.dumps(_tell(found), option=orjson.OPT_INDENT_2))
    else:
        for line in _describe(found, most):
            typer.echo(line)
    if found and not exit_zero:
        raise typer.Exit(1)


def _read_sets(*directories: Path) -> list[tuple[LoadedPolicies, list[Case]]]:
    """The sets with their cases; ends the command with the mistakes of all that can't be read."""
    sets: list[tuple[LoadedPolicies, list[Case]]] = []
    for directory in directories:
        try:
            sets.append(read_policies(directory))
        except BadConfiguration as error:
            typer.echo(f"{directory} can't be loaded by this version:\n{error.message}", err=True)
    if len(sets) < len(directories):
        raise typer.Exit(2)
    return sets


def _replay(past: Comparison, paths: Sequence[Path], since: str, until: str) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    with shown as progress:
        task = progress.add_task("deciding again", total=sum(path.stat().st_size for path in paths))
        read = partial(progress.advance, task)
        try:
            for path in paths:
                for each in read_past(path, past.archive, since=since, until=until, on_read=read):
                    past.take(each)
        except BrokenLog as error:
            typer.echo(f"{error}; `arborgate record verify` looks at every line", err=True)
            raise typer.Exit(2) from error


def _describe(found: _Found, most: int) -> Iterator[str]:
    """All that opens comes first, in loud words, then what closes, then the numbers."""
    opening, closing = (
        [*_show_flips(found, loud, most), *_show_lists(found, loud, most), *_show_cases(found, loud, most)]
        for loud in (True, False)
    )
    if opening:
        yield typer.style("NEWLY ALLOWED", fg="red", bold=True)
        yield from opening
        yield ""
    if closing:
        yield typer.style("newly denied", bold=True)
        yield from closing
        yield ""
    yield from _sum_up(found)


def _show_cases(found: _Found, loud: bool, most: int) -> Iterator[str]:
    flips = [flip for flip in found.cases if flip.new.allowed is loud]
    for flip in flips[:most]:
        yield f"  case     {flip.case.title}"
        yield f"           {place(flip.case.location)}"
        yield from _show_decisions(found, flip.old, flip.new)
    if len(flips) > most:
        yield f"  and {len(flips) - most:,} more cases (--most)"


def _show_flips(found: _Found, loud: bool, most: int) -> Iterator[str]:
    flips = [flip for flip in found.past.flips if flip.loud is loud]
    for flip in flips[:most]:
        yield f"  {say_person(flip.caller)} through {say_door(flip.caller)}"
        yield f"  {flip.action} of {_say_places(flip.resources)}"
        yield f"           {_times(flip.count)}, {_say_span(flip)}, as {flip.example}"
        yield from _show_decisions(found, flip.old, flip.new)
    if len(flips) > most:
        yield f"  and {len(flips) - most:,} more like these (--most)"


def _show_decisions(found: _Found, old: Decision, new: Decision) -> Iterator[str]:
    for name, loaded, decision in (("old", found.old, old), ("new", found.new, new)):
        yield f"    {name}    {say_decision(decision)}"
        for line in name_reasons(loaded, decision):
            yield f"           {line}"


def _show_lists(found: _Found, loud: bool, most: int) -> Iterator[str]:
    shown = [(flip.caller, flip.appearing if loud else flip.vanishing) for flip in found.lists]
    shown = [(caller, apps) for caller, apps in shown if apps]
    for caller, apps in shown[:most]:
        named = ", ".join(quote_name(app.id) for app in apps[:_NAMED])
        rest = f" and {len(apps) - _NAMED:,} more" if len(apps) > _NAMED else ""
        words = "newly visible to" if loud else "no longer visible to"
        yield f"  {_count(len(apps), 'app')} {words} {say_person(caller)} through {say_door(caller)}"
        yield f"           {named}{rest}"
    if len(shown) > most:
        yield f"  and {len(shown) - most:,} more callers (--most)"


def _sum_up(found: _Found) -> Iterator[str]:
    opened = sum(flip.new.allowed for flip in found.cases)
    yield (
        f"cases    {found.asked:,} questions, {found.asked - len(found.cases):,} decided the same, {opened:,} newly "
        f"allowed, {len(found.cases) - opened:,} newly denied"
    )
    if found.failing:
        yield f"         {_count(found.failing, 'case')} of the new set not held by it (`arborgate policy test`)"
    if not found.replayed:
        yield "records  none; --record compares what is on record too"
        return
    tally = found.past.tally
    yield (
        f"records  {tally.replayed:,} decided again, {tally.same:,} the same, {tally.opened:,} newly allowed, "
        f"{tally.closed:,} newly denied"
    )
    if skipped := tally.skipped.total():
        yield f"         {skipped:,} not decided again: {count_reasons(tally.skipped)}"
    if tally.otherwise:
        yield f"         {tally.otherwise:,} decided otherwise by the old set than they were at the time"
    if tally.around_today:
        yield f"         {tally.around_today:,} with the agents and the calendar of today's settings"
    callers, apps = found.past.listed
    yield (
        f"lists    {_count(callers, 'caller')} of lists, {_count(apps, 'app')} on record: "
        f"{len(found.lists):,} would be shown others"
    )


def _tell(found: _Found) -> dict[str, object]:
    """The same for programs."""
    tally = found.past.tally
    callers, apps = found.past.listed
    return {
        "old": found.old.digest,
        "new": found.new.digest,
        "cases": {
            "questions": found.asked,
            "failing": found.failing,
            "flips": [
                {"case": flip.case.title, "at": str(flip.case.location), **_tell_decisions(found, flip.old, flip.new)}
                for flip in found.cases
            ],
        },
        "records": {
            "replayed": tally.replayed,
            "same": tally.same,
            "newly_allowed": tally.opened,
            "newly_denied": tally.closed,
            "skipped": dict(tally.skipped),
            "otherwise_on_record": tally.otherwise,
            "by_todays_settings": tally.around_today,
            "flips": [_tell_flip(found, flip) for flip in found.past.flips],
        },
        "lists": {
            "callers": callers,
            "apps": apps,
            "flips": [
                {
                    **_tell_caller(flip.caller),
                    "newly_visible": [app.id for app in flip.appearing],
                    "no_longer_visible": [app.id for app in flip.vanishing],
                }
                for flip in found.lists
            ],
        },
    }


def _tell_flip(found: _Found, flip: Flip) -> dict[str, object]:
    return {
        **_tell_caller(flip.caller),
        "action": flip.action,
        "resources": [name_places(resource) for resource in flip.resources],
        "count": flip.count,
        "first": flip.first,
        "last": flip.last,
        "example": flip.example,
        **_tell_decisions(found, flip.old, flip.new),
    }


def _tell_caller(caller: Caller) -> dict[str, object]:
    return {
        "caller": caller.key,
        "name": caller.name,
        "agent": caller.agent,
        "actors": caller.actors,
        "channel": caller.channel,
    }


def _tell_decisions(found: _Found, old: Decision, new: Decision) -> dict[str, object]:
    sides = (("old", found.old, old), ("new", found.new, new))
    return {
        side: {
            "allowed": decision.allowed,
            "basis": decision.basis,
            "policies": {name: str(loaded.locations.get(name, "")) for name in decision.policies},
        }
        for side, loaded, decision in sides
    }


def _say_places(resources: Sequence[Resource]) -> str:
    return " and ".join(say_place(resource) for resource in resources)


def _say_span(flip: Flip) -> str:
    return flip.first if flip.first == flip.last else f"{flip.first} to {flip.last}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
