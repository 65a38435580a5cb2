"""Decisions on record, read back so that they can be made again: the question as it was, from the facts in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..policies.facts import (
    Json,
    Unreadable,
    above_of,
    altered,
    caller_from,
    digest_facts,
    resource_from,
    surroundings_from,
)
from ..policies.model import Action, Caller, Question, Resource
from ..policies.surroundings import Surroundings
from ..tools.record import Event, Record
from .chain import open_line

_FACTS: Final = b'"event":"%b"' % Event.FACTS_NOTED.encode()
_LOADED: Final = tuple(b'"event":"%b"' % event.encode() for event in (Event.POLICY_LOADED, Event.LOG_CONTINUED))
_TIME: Final = b'"time":"'
_MICROSECONDS: Final = len("2026-11-17T10:22:03.123456Z")

NO_FACTS: Final = "its facts are not in this log (an older version wrote it)"
"""Why a decision can't be made again that was recorded before facts were."""


class BrokenLog(Exception):
    """A line that is no record, or that was changed."""


@dataclass(frozen=True, slots=True)
class Past:
    """A record, and the digest of what the settings told the policies at the time ("" where that was not noted)."""

    record: Record
    settings: str = ""


class Archive:
    """The facts that were read so far, and what they tell of, each made once."""

    def __init__(self) -> None:
        self._told: dict[str, Json] = {}
        self._callers: dict[str, Caller] = {}
        self._resources: dict[str, Resource] = {}
        self._surroundings: dict[str, Surroundings | None] = {}
        self._redacted: dict[str, frozenset[str]] = {}

    def note(self, told: Json) -> None:
        """Takes one piece, by what it says rather than by what anybody calls it."""
        self._told[digest_facts(told)] = told

    def caller(self, digest: str) -> Caller:
        """Raises `Unreadable`."""
        found = self._callers.get(digest)
        if found is None:
            found = self._callers[digest] = caller_from(self._find(digest))
        return found

    def resource(self, digest: str) -> Resource:
        """Raises `Unreadable`."""
        found = self._resources.get(digest)
        if found is None:
            found = self._resources[digest] = resource_from(self._find(digest), self.resource)
        return found

    def surroundings(self, digest: str) -> Surroundings | None:
        """What the settings told the policies; None where that was not noted, or is of another version."""
        if digest not in self._surroundings:
            try:
                self._surroundings[digest] = surroundings_from(self._find(digest))
            except Unreadable:
                self._surroundings[digest] = None
        return self._surroundings[digest]

    def question(self, record: Record) -> Question:
        """What was asked, as it was then; raises `Unreadable` saying why that can't be told."""
        if not record.asker:
            raise Unreadable(NO_FACTS)
        try:
            action = Action(record.action)
        except ValueError as error:
            raise Unreadable(f"this version knows no action {record.action}") from error
        return Question(
            caller=self.caller(record.asker),
            action=action,
            resources=tuple(self.resource(digest) for digest in record.places),
            contexts=tuple(tuple(context.items()) for context in record.context),
            at=record.decided_at,
        )

    def hides(self, record: Record, attributes: frozenset[str]) -> bool:
        """Whether policies that read these attributes might decide otherwise but for what was redacted in the facts."""
        names = self._altered(record.asker).union(*map(self._altered, record.places))
        return "id" in names or bool(names & attributes)

    def _altered(self, digest: str) -> frozenset[str]:
        found = self._redacted.get(digest)
        if found is None:
            told = self._find(digest)
            found = frozenset(altered(told)).union(*(self._altered(each) & {"id"} for each in above_of(told)))
            self._redacted[digest] = found
        return found

    def _find(self, digest: str) -> Json:
        try:
            return self._told[digest]
        except KeyError:
            raise Unreadable(NO_FACTS) from None


def is_decision(record: Record) -> bool:
    """Whether the record tells of a decision by policies that no other record tells of: what a tool intends is told
    again with its outcome."""
    return bool(record.decision and record.policy_set) and not (record.tool and record.outcome == "intended")


def read_past(
    path: Path,
    archive: Archive,
    *,
    since: str = "",
    until: str = "",
    wanted: Callable[[bytes], bool] | None = None,
    on_read: Callable[[int], object] | None = None,
) -> Iterator[Past]:
    """The records of one log in order, from one moment to another (as records write them), as far as their lines are
    `wanted`; all facts go to the archive. `on_read` is told of bytes read. Raises `BrokenLog`."""
    settings, number, untold = "", 0, 0
    try:
        opened = path.open("rb")
    except FileNotFoundError:
        return  # just being put away under another name
    with opened as file:
        for line in file:
            number, untold = number + 1, untold + len(line)
            if on_read and number % 256 == 0:
                on_read(untold)
                untold = 0
            if not line.endswith(b"\n"):
                break
            try:
                if _FACTS in line:
                    archive.note(open_line(line).facts)
                    continue
                if _LOADED[0] in line or _LOADED[1] in line:
                    settings = open_line(line).settings
                time = _read_time(line)
                if time < since or (until and time > until) or (wanted and not wanted(line)):
                    continue
                yield Past(open_line(line), settings)
            except (ValueError, TypeError) as error:
                raise BrokenLog(f"{path.name}: line {number}: {error}") from error
    if on_read:
        on_read(untold)


def find_past(paths: Sequence[Path], archive: Archive, wanted: Callable[[Record], bool], mark: str) -> Past | None:
    """The newest record of a decision that is wanted, over all logs. `mark` is a text that its line must hold."""
    newest: Past | None = None
    needle = mark.encode()
    for path in paths:
        for past in read_past(path, archive, wanted=lambda line: needle in line):
            if (newest is None or past.record.time >= newest.record.time) and wanted(past.record):
                newest = past
    return newest


def _read_time(line: bytes) -> str:
    start = line.index(_TIME) + len(_TIME)
    return line[start : start + _MICROSECONDS].decode()


def name_places(resource: Resource) -> str:
    """A resource in its place: `App::… in App::… in Environment::…`, by the first of its parents at each step."""
    above = f" in {name_places(resource.parents[0])}" if resource.parents else ""
    return f"{resource.uid}{above}"


def count_reasons(reasons: Mapping[str, int]) -> str:
    """Reasons with their numbers, the most frequent first."""
    return "; ".join(f"{number:,} {why}" for why, number in sorted(reasons.items(), key=lambda each: -each[1]))
