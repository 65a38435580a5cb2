"""The cases beside the policies: who may and may not do what, on what, by which policy, and why.

A case file declares a small world, the people in it, and the cases:

    world:
      environments: {prod: {strict: true}}
      apps: {main/argocd/shop: {environment: prod}}
      proposals: {p-1: {app: main/argocd/shop, requester: dana}}
      agents: {trusted: [copilot]}
      calendar:
        freezes: [{name: Year end, from: 12-20, until: 01-03, environments: [prod]}]
    people:
      dana: {roles: [developer], agent: copilot}
      amy: {roles: [approver], channel: pages, agent: arborgate-pages}
    cases:
      - who: dana
        may: rollout:propose
        of: App::main/argocd/shop
        by: developers-propose
        why: A proposal changes nothing by itself.
      - who: amy
        may_not: proposal:approve
        of: Proposal::p-1
        at: 2026-12-24T12:00:00+01:00
        by: nothing-changes-in-a-freeze
        why: The shop is busy, and half the team is away.

`agents` and `calendar` are written as in the settings. In a file without `agents` every agent that has a name is trusted;
in one without `calendar` nothing is frozen or closed, and every hour is a working hour. `at` is a moment with its offset
from UTC, of one case or, at the top, of all cases of the file that have none; without any it is `NOW`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from .declarations import Declaration, Steps, suggest
from .engine import Engine, LoadedPolicies
from .errors import BadConfiguration
from .locations import Location, Passage
from .model import COUNTED, INSTALLATION, Action, Attribute, Basis, Caller, Decision, Resource
from .surroundings import Surroundings
from .world import Closed, Misplaced, Person, World

NOW = 2_000_000_000
"""The moment that cases are judged at where they do not say when, in seconds since the epoch: 2033-05-18, 03:33:20 UTC."""


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class _Case(Closed):
    who: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    may: Annotated[tuple[Action, ...], BeforeValidator(_listed)] = ()
    may_not: Annotated[tuple[Action, ...], BeforeValidator(_listed)] = ()
    of: Annotated[tuple[str, ...], BeforeValidator(_listed)] = (INSTALLATION.uid,)
    by: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    applied_today: Annotated[int, Field(ge=0)] = 0
    unreviewed: Annotated[int, Field(ge=0)] = 0
    approvals: Annotated[int, Field(ge=0)] = 1
    signed: bool = False
    signed_approvals: Annotated[int, Field(ge=0)] = 0
    healthy: bool = False
    kinds: tuple[str, ...] = ("unknown",)
    proven: bool = False
    at: AwareDatetime | None = None
    why: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if bool(self.may) == bool(self.may_not):
            raise ValueError("a case has either `may` or `may_not`")
        if self.by == ("nothing",) and self.may:
            raise ValueError("`by: nothing` is for `may_not`: something must permit")
        return self

    def context(self, action: Action) -> tuple[tuple[str, Attribute], ...]:
        """What is counted or looked at for the action."""
        return tuple((name, getattr(self, name)) for name in COUNTED.get(action, ()))


class _File(Closed):
    world: World = World()
    people: Mapping[str, Person]
    cases: tuple[_Case, ...]
    at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One question with the answer that is expected: `by` are the policies that must be among the deciding ones, none
    where nothing may permit. `at` is the moment it is asked at, in seconds since the epoch, `surroundings` what the
    settings would say. `passage` is where it stands, `cited` where the policies are named."""

    passage: Passage
    cited: Passage
    caller: Caller
    action: Action
    resource: Resource
    allowed: bool
    by: tuple[str, ...]
    why: str
    context: tuple[tuple[str, Attribute], ...] = ()
    at: int = NOW
    surroundings: Surroundings = World().surroundings

    @property
    def location(self) -> Location:
        return self.passage.location

    @property
    def title(self) -> str:
        """The case as a sentence."""
        verb = "may" if self.allowed else "may not"
        through = f"{self.caller.channel}, {self.caller.agent or 'an unknown agent'}"
        when = "" if self.at == NOW else f" at {datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M} UTC"
        return f"{self.caller.name} ({through}) {verb} {self.action} on {self.resource.uid}{when}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A case and what the policies decided."""

    case: Case
    decision: Decision

    @property
    def problem(self) -> str:
        """How the decision differs from what the case expects; `""` when it does not."""
        case, decision = self.case, self.decision
        if decision.basis is Basis.ERROR:
            return f"{case.title}: deciding failed: {decision.error}"
        deciding = ", ".join(decision.policies) or "nothing"
        if decision.allowed != case.allowed:
            return f"{case.title}, but {'allowed' if decision.allowed else 'denied'} by {deciding}"
        missing = [policy for policy in case.by if policy not in decision.policies]
        if missing or (not case.by and decision.policies):
            return f"{case.title} by {', '.join(case.by) or 'nothing'}, but it is by {deciding}"
        return ""


def read_cases(file: Path, text: str) -> list[Case]:
    """The cases of one file, one per person, action and resource.

    Raises `BadConfiguration` naming file, line, column and field."""
    declaration = Declaration(file, text)
    parsed = declaration.parse(_File)
    try:
        resources = parsed.world.resources()
    except Misplaced as error:
        raise BadConfiguration(declaration.tell(("world", *error.path), str(error))) from error
    strangers = [
        declaration.tell(path, f"{name!r} is not {among} of this file{suggest(name, known)}")
        for path, name, among, known in _names(parsed, resources)
        if name not in known
    ]
    if strangers:
        raise BadConfiguration("\n".join(strangers))
    surroundings = parsed.world.surroundings
    return [
        Case(
            passage=declaration.passage(("cases", index)),
            cited=declaration.value(("cases", index, "by")),
            caller=parsed.people[name].caller(name, _moment(entry, parsed)),
            action=action,
            resource=resources[uid],
            allowed=bool(entry.may),
            by=() if entry.by == ("nothing",) else entry.by,
            why=entry.why,
            context=entry.context(action),
            at=_moment(entry, parsed),
            surroundings=surroundings,
        )
        for index, entry in enumerate(parsed.cases)
        for name in entry.who
        for action in entry.may or entry.may_not
        for uid in entry.of
    ]


def _moment(case: _Case, file: _File) -> int:
    at = case.at or file.at
    return int(at.timestamp()) if at else NOW


def _names(parsed: _File, resources: Mapping[str, Resource]) -> Iterator[tuple[Steps, str, str, Iterable[str]]]:
    """Where the file names a person, an app or a resource that it must declare, and what it declares of the kind."""
    people, world = parsed.people, parsed.world
    for name, proposal in world.proposals.items():
        yield ("world", "proposals", name, "requester"), proposal.requester, "among the people", people
        if proposal.breaker:
            yield ("world", "proposals", name, "breaker"), proposal.breaker, "among the people", people
    for name, declared in people.items():
        for role, apps in declared.grants.items():
            for app in apps:
                yield ("people", name, "grants", role), app, "among the apps", world.apps
    for index, entry in enumerate(parsed.cases):
        for number, name in enumerate(entry.who):
            yield ("cases", index, "who", number), name, "among the people", people
        for number, uid in enumerate(entry.of):
            yield ("cases", index, "of", number), uid, "in the world", resources


def judge(loaded: LoadedPolicies, cases: Iterable[Case]) -> list[Answer]:
    """What the policies decide in each case, at its moment and in its surroundings."""
    engines: dict[Surroundings, Engine] = {}
    answers: list[Answer] = []
    for case in cases:
        engine = engines.get(case.surroundings)
        if engine is None:
            engine = engines[case.surroundings] = Engine(loaded, surroundings=case.surroundings)
        answers.append(Answer(case, engine.decide(case.caller, case.action, case.resource, case.context, at=case.at)))
    return answers


def find_gaps(
    cases: Sequence[Case], policies: Mapping[str, Location], file: Path, covered: Collection[str] = ()
) -> list[str]:
    """What to tell of each policy and each action that no case is about, and of each policy that a case knows alone. The
    policies `covered` have cases elsewhere."""
    named = {policy for case in cases for policy in case.by}
    asked = {case.action for case in cases}
    gaps = [
        f"{at}: no case is decided by the policy {policy!r}"
        for policy, at in policies.items()
        if policy not in named and policy not in covered
    ]
    gaps += [
        case.cited.tell(f"by: there is no policy {policy!r}{suggest(policy, policies)}")
        for case in cases
        for policy in case.by
        if policy not in policies
    ]
    gaps += [f"{file}: no case asks for {action}" for action in Action if action not in asked]
    return list(dict.fromkeys(gaps))
