"""The cases beside the policies: who may and may not do what, on what, by which policy, and why.

A case file declares a small world, the people in it, and the cases:

    world:
      environments: {prod: {strict: true}}
      apps: {main/argocd/shop: {environment: prod}}
    people:
      dana: {roles: [developer], agent: copilot}
    cases:
      - who: dana
        may: rollout:propose
        of: App::main/argocd/shop
        by: developers-propose
        why: A proposal changes nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BeforeValidator, StringConstraints, ValidationError, model_validator

from .engine import Engine
from .errors import BadConfiguration
from .model import INSTALLATION, Action, Basis, Caller, Decision, Resource
from .statements import Location
from .world import Closed, Misplaced, Person, World

NOW = 2_000_000_000
"""The moment that cases are judged at, in seconds since the epoch."""


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class _Case(Closed):
    who: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    may: Annotated[tuple[Action, ...], BeforeValidator(_listed)] = ()
    may_not: Annotated[tuple[Action, ...], BeforeValidator(_listed)] = ()
    of: Annotated[tuple[str, ...], BeforeValidator(_listed)] = (INSTALLATION.uid,)
    by: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    why: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if bool(self.may) == bool(self.may_not):
            raise ValueError("a case has either `may` or `may_not`")
        if self.by == ("nothing",) and self.may:
            raise ValueError("`by: nothing` is for `may_not`: something must permit")
        return self


class _File(Closed):
    world: World = World()
    people: Mapping[str, Person]
    cases: tuple[_Case, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One question with the answer that is expected: `by` are the policies that must be among the deciding ones, none
    where nothing may permit."""

    location: Location
    caller: Caller
    action: Action
    resource: Resource
    allowed: bool
    by: tuple[str, ...]
    why: str

    @property
    def title(self) -> str:
        """The case as a sentence."""
        verb = "may" if self.allowed else "may not"
        through = f"{self.caller.channel}, {self.caller.agent or 'an unknown agent'}"
        return f"{self.caller.name} ({through}) {verb} {self.action} on {self.resource.uid}"


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

    Raises `BadConfiguration` naming file, line and field."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise BadConfiguration(f"{file}:{line}: is not YAML: {getattr(error, 'problem', None) or error}") from error
    try:
        parsed = _File.model_validate(raw)
    except ValidationError as error:
        raise BadConfiguration("\n".join(_explain(file, node, item) for item in error.errors())) from error
    try:
        resources = parsed.world.resources()
    except Misplaced as error:
        path = ("world", *error.path)
        raise BadConfiguration(f"{file}:{_line(node, path)}: {'.'.join(path)}: {error}") from error
    for path, problem in _find_strangers(parsed):
        raise BadConfiguration(f"{file}:{_line(node, path)}: {'.'.join(path)}: {problem}")
    cases: list[Case] = []
    for index, entry in enumerate(parsed.cases):
        location = Location(file, _line(node, ("cases", index)))
        for name in entry.who:
            if name not in parsed.people:
                raise BadConfiguration(f"{location}: who: {name!r} is not among the people of this file")
        for uid in entry.of:
            if uid not in resources:
                raise BadConfiguration(f"{location}: of: {uid!r} is not in the world of this file")
        cases += [
            Case(
                location=location,
                caller=parsed.people[name].caller(name, NOW),
                action=action,
                resource=resources[uid],
                allowed=bool(entry.may),
                by=() if entry.by == ("nothing",) else entry.by,
                why=entry.why,
            )
            for name in entry.who
            for action in entry.may or entry.may_not
            for uid in entry.of
        ]
    return cases


def _find_strangers(parsed: _File) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where the file names a person or an app that it does not declare, and how."""
    for name, proposal in parsed.world.proposals.items():
        for field, who in (("requester", proposal.requester), ("breaker", proposal.breaker)):
            if who and who not in parsed.people:
                yield ("world", "proposals", name, field), f"{who!r} is not among the people of this file"
    for name, person in parsed.people.items():
        for role, apps in person.grants.items():
            for app in apps:
                if app not in parsed.world.apps:
                    yield ("people", name, "grants", role), f"{app!r} is not among the apps of this file"


def judge(engine: Engine, cases: Iterable[Case]) -> list[Answer]:
    """What the engine decides in each case, as of `NOW`."""
    return [Answer(case, engine.decide(case.caller, case.action, case.resource, at=NOW)) for case in cases]


def find_gaps(cases: Sequence[Case], policies: Mapping[str, Location], file: Path) -> list[str]:
    """One line for each policy and each action that no case is about, and for each policy that a case knows alone."""
    named = {policy for case in cases for policy in case.by}
    asked = {case.action for case in cases}
    gaps = [
        f"{at}: no case is decided by the policy {policy!r}" for policy, at in policies.items() if policy not in named
    ]
    gaps += [
        f"{case.location}: by: there is no policy {policy!r}"
        for case in cases
        for policy in case.by
        if policy not in policies
    ]
    gaps += [f"{file}: no case asks for {action}" for action in Action if action not in asked]
    return list(dict.fromkeys(gaps))


def _explain(file: Path, node: yaml.Node | None, item: Mapping[str, object]) -> str:
    where = item["loc"]
    path = where if isinstance(where, tuple) else ()
    field = ".".join(str(part) for part in path)
    what = "unknown field" if item["type"] == "extra_forbidden" else item["msg"]
    return f"{file}:{_line(node, path)}: {field}: {what}"


def _line(node: yaml.Node | None, path: Sequence[str | int]) -> int:
    """The line of what the path leads to, or of the last of its parts that there is."""
    line = node.start_mark.line + 1 if node else 1
    for part in path:
        child: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if found:
                line, child = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            item: yaml.Node = node.value[part]
            line, child = item.start_mark.line + 1, item
        if child is None:
            break
        node = child
    return line
