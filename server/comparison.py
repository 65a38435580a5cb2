"""Two sets of policies over the same past: what was asked on record is decided by both, and what they differ in is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..policies.casebook import Case, judge
from ..policies.engine import Engine, LoadedPolicies
from ..policies.facts import Unreadable
from ..policies.model import (
    INSTALLATION,
    Action,
    Basis,
    Caller,
    Decision,
    Question,
    Resource,
    ResourceType,
)
from ..policies.nearness import find_attributes
from ..policies.recent import Recent
from ..policies.surroundings import Surroundings
from ..tools.record import Record
from .replay import Archive, Past, is_decision

_REDACTED = "what the policies look at was redacted"
_UNDECIDED = "deciding them failed with either set"


@dataclass(slots=True)
class Flip:
    """Something that the two sets decide otherwise, `count` times: by whom (their logins left aside), what, of what."""

    caller: Caller
    action: Action
    resources: tuple[Resource, ...]
    old: Decision
    new: Decision
    count: int = 0
    first: str = ""
    last: str = ""
    example: str = ""

    @property
    def loud(self) -> bool:
        """Whether something opens that was closed."""
        return self.new.allowed


@dataclass(frozen=True, slots=True)
class CaseFlip:
    """A case that the two sets decide otherwise."""

    case: Case
    old: Decision
    new: Decision


@dataclass(frozen=True, slots=True)
class ListFlip:
    """What a caller who listed apps would see more, or less, of them."""

    caller: Caller
    appearing: tuple[Resource, ...]
    vanishing: tuple[Resource, ...]


@dataclass(slots=True)
class Tally:
    """The comparison in numbers, of records. `otherwise`: the old set decides them otherwise than is on record."""

    replayed: int = 0
    same: int = 0
    opened: int = 0
    closed: int = 0
    otherwise: int = 0
    around_today: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Answer:
    question: Question
    old: Decision
    new: Decision


class Comparison:
    """Takes records one by one. What is asked again on the same facts is decided once; nothing is kept of a record but
    what it adds to the numbers."""

    def __init__(self, old: LoadedPolicies, new: LoadedPolicies, today: Surroundings) -> None:
        """`today`: what the settings say, for records that do not tell what they said then."""
        self._sets = old, new
        self._attributes = find_attributes([*old.statements.values(), *new.statements.values()])
        self._today = today
        self._archive = Archive()
        self._engines: Recent[Surroundings, tuple[Engine, Engine]] = Recent(8)
        self._answers: Recent[tuple[object, ...], _Answer | str] = Recent(200_000)
        self._flips: dict[tuple[object, ...], Flip] = {}
        self._people: dict[str, Caller] = {}
        self._same: dict[Caller, Caller] = {}
        self._listing: dict[Caller, str] = {}
        self._met: set[str] = set()
        self._apps: dict[str, tuple[str, Resource]] = {}
        self.tally = Tally()

    @property
    def archive(self) -> Archive:
        """Where the facts of the records that will be taken have to be."""
        return self._archive

    def take(self, past: Past) -> None:
        """Decides a record by both sets, where it tells of a decision."""
        record = past.record
        if not is_decision(record):
            return
        try:
            person = self._find_person(record.asker)
        except Unreadable as error:
            self.tally.skipped[str(error)] += 1
            return
        # Where the moment does not matter, neither does which login of a person it was.
        asker = record.asker if record.decided_at else id(person)
        key = (asker, record.action, record.places, past.settings, record.decided_at, _frozen(record.context))
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answer(past)
            self._answers.put(key, answer)
        if isinstance(answer, str):
            self.tally.skipped[answer] += 1
        else:
            self._count(record, person, answer, past.settings)

    @property
    def flips(self) -> list[Flip]:
        """What is decided otherwise, most frequent first, what opens before what closes."""
        return sorted(self._flips.values(), key=lambda flip: (not flip.loud, -flip.count, flip.first))

    @property
    def listed(self) -> tuple[int, int]:
        """How many callers listed apps, and how many apps the records tell of."""
        return len(self._listing), len(self._apps)

    def compare_lists(self) -> list[ListFlip]:
        """For everybody who listed apps: which of those that the records tell of they would see by one set alone."""
        apps = [resource for _, (_, resource) in sorted(self._apps.items())]
        found: list[ListFlip] = []
        for caller, settings in self._listing.items():
            before, after = (_list(engine, caller, apps) for engine in self._pair(settings))
            appearing = tuple(app for app, was, now in zip(apps, before, after, strict=True) if now and not was)
            vanishing = tuple(app for app, was, now in zip(apps, before, after, strict=True) if was and not now)
            if appearing or vanishing:
                found.append(ListFlip(caller, appearing, vanishing))
        return sorted(found, key=lambda flip: (-len(flip.appearing), -len(flip.vanishing), flip.caller.key))

    def _answer(self, past: Past) -> _Answer | str:
        """The decisions of both sets, or why there are none."""
        try:
            question = self._archive.question(past.record)
            if self._archive.hides(past.record, self._attributes):
                return _REDACTED
        except Unreadable as error:
            return str(error)
        old, new = (engine.answer(question) for engine in self._pair(past.settings))
        if old.basis is new.basis is Basis.ERROR:
            return _UNDECIDED
        return _Answer(question, old, new)

    def _count(self, record: Record, person: Caller, answer: _Answer, settings: str) -> None:
        tally, old, new = self.tally, answer.old, answer.new
        tally.replayed += 1
        for digest in record.places:
            if digest not in self._met:
                self._met.add(digest)
                self._keep_apps(record, (self._archive.resource(digest),))
        tally.otherwise += old.allowed != (record.decision == "allow")
        tally.around_today += self._archive.surroundings(settings) is None
        if record.action == Action.APP_LIST and answer.question.resources == (INSTALLATION,):
            self._listing[person] = settings
        if old.allowed == new.allowed:
            tally.same += 1
            return
        tally.opened += new.allowed
        tally.closed += old.allowed
        key = (person, record.action, record.places, old, new)
        flip = self._flips.get(key)
        if flip is None:
            flip = Flip(person, answer.question.action, answer.question.resources, old, new)
            self._flips[key] = flip
        flip.count += 1
        if not flip.first or record.time < flip.first:
            flip.first = record.time
        if record.time >= flip.last:
            flip.last, flip.example = record.time, f"{record.replica}:{record.seq}"

    def _find_person(self, asker: str) -> Caller:
        """The caller without what differs from login to login, one object for all of them; raises `Unreadable`."""
        found = self._people.get(asker)
        if found is None:
            nameless = replace(self._archive.caller(asker), authenticated_at=0)
            found = self._people[asker] = self._same.setdefault(nameless, nameless)
        return found

    def _pair(self, settings: str) -> tuple[Engine, Engine]:
        around = self._archive.surroundings(settings) or self._today
        pair = self._engines.get(around)
        if pair is None:
            old, new = (Engine(loaded, surroundings=around) for loaded in self._sets)
            pair = old, new
            self._engines.put(around, pair)
        return pair

    def _keep_apps(self, record: Record, resources: Iterable[Resource]) -> None:
        """The newest facts of every app that is asked about, or is above what is."""
        for resource in resources:
            self._keep_apps(record, resource.parents)
            if resource.type is ResourceType.APP:
                known = self._apps.get(resource.id)
                if known is None or known[0] <= record.time:
                    self._apps[resource.id] = record.time, resource


def compare_cases(old: LoadedPolicies, new: LoadedPolicies, cases: Sequence[Case]) -> tuple[int, list[CaseFlip]]:
    """How many questions the cases ask, and those of them that the two sets decide otherwise."""
    asked = {
        (case.caller, case.action, case.resource, case.context, case.at, case.surroundings): case for case in cases
    }
    different = list(asked.values())
    answers = zip(judge(old, different), judge(new, different), strict=True)
    flips = [
        CaseFlip(before.case, before.decision, after.decision)
        for before, after in answers
        if before.decision.allowed != after.decision.allowed
    ]
    return len(different), sorted(flips, key=lambda flip: not flip.new.allowed)


def _list(engine: Engine, caller: Caller, apps: Sequence[Resource]) -> list[bool]:
    if not engine.decide(caller, Action.APP_LIST, INSTALLATION).allowed:
        return [False] * len(apps)
    return engine.visible(caller, Action.APP_READ, apps)


def _frozen(contexts: Sequence[Mapping[str, object]]) -> tuple[object, ...]:
    return tuple(tuple(sorted(context.items())) for context in contexts)
