"""Deciding: one call, a list of ten thousand apps, a thousand policies, a thousand groups; and how long loading takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

from arborgate.policies.engine import Engine, LoadedPolicies
from arborgate.policies.loader import assemble, load_policies, read_policies
from arborgate.policies.model import INSTALLATION, Action, Caller, Channel, Resource, ResourceType
from arborgate.policies.statements import read_statements

from .report import Line, Part

_APPS: Final = 10_000
_FEW, _MANY = 10, 1_000
_KINDS: Final = (
    (
        'permit (principal in Group::"team-{n}", action in [Action::"read", Action::"propose"], '
        'resource in App::"live/argocd/parent-{m}");'
    ),
    (
        'permit (principal in Group::"team-{n}", action in Action::"read", resource) '
        'when {{ resource has labels && resource.labels.contains("team=t{m}") }};'
    ),
    (
        'permit (principal, action in Action::"read", resource in Environment::"staging") '
        'when {{ principal in Role::"role-{n}" && !context.strict }};'
    ),
    (
        'forbid (principal, action in Action::"read", resource == App::"live/argocd/app-{n}") '
        'unless {{ principal in Group::"team-{n}" }};'
    ),
    (
        'forbid (principal in Group::"team-{n}", action in Action::"propose", resource) '
        'when {{ context.calendar.frozen || context.agent like "bot-{n}-*" }};'
    ),
)
"""What teams write: grants at an app, by label, by role; exceptions for one app; brakes for agents and freezes."""

_UNIQUE: Final = (
    '@id("own") permit (principal, action in Action::"read", resource) when { principal.key != context.agent };'
)
"""By this no two callers look the same, so that each decision is one of Cedar's."""


def measure_deciding(folder: Path) -> Part:
    """Times of one core: the best of several rounds, what the machine takes when nobody disturbs it."""
    shipped, few, many = load_policies(None), _assemble(_FEW), _assemble(_MANY)
    lines = [
        *_measure_lists("shipped policies", shipped, _caller()),
        *_measure_lists(f"{_MANY:,} policies and groups", many, _in_many_groups()),
        *_measure_decisions(shipped, few, many),
        _measure_loading(folder, _FEW),
        _measure_loading(folder, _MANY),
    ]
    return Part("Deciding", lines)


def _measure_lists(what: str, loaded: LoadedPolicies, caller: Caller) -> Iterator[Line]:
    goals = {Action.APP_READ: (40.0, 3.0), Action.ROLLOUT_PROPOSE: (None, None)}
    for action, (cold, warm) in goals.items():
        engine, apps = Engine(loaded), _apps()

        def see_first(action: Action = action) -> Callable[[], object]:
            engine, apps = Engine(loaded), _apps()
            return lambda: engine.visible(replace(caller), action, apps)

        engine.visible(caller, action, apps)
        yield Line(f"{_APPS:,} apps, {action}, {what}, first time", _best_first(see_first) / 1e3, "ms", at_most=cold)
        again = _best(lambda: engine.visible(caller, action, apps), 5)  # noqa: B023  # called at once
        yield Line(f"{_APPS:,} apps, {action}, {what}, again", again / 1e3, "ms", at_most=warm)


def _measure_decisions(shipped: LoadedPolicies, few: LoadedPolicies, many: LoadedPolicies) -> Iterator[Line]:
    engine, caller, apps = Engine(shipped), _caller(), _apps()
    strangers, unseen = (replace(caller, subject=f"p{number}") for number in count()), iter(apps)
    yield Line(
        "caller and resource not met before",
        _best(lambda: engine.decide(next(strangers), Action.APP_READ, next(unseen)), 400),
        "µs",
        at_most=60,
    )

    def start() -> Callable[[], object]:
        engine, stranger, app = Engine(shipped), replace(caller), apps[0]
        return lambda: engine.decide(stranger, Action.APP_READ, app)

    yield Line("the first decision of an engine", _best_first(start, 400), "µs", at_most=60)
    engine.decide(caller, Action.APP_READ, apps[0])
    yield Line("decided before", _best(lambda: engine.decide(caller, Action.APP_READ, apps[0]), 5_000), "µs", at_most=5)
    times = [_time_of_cedar(loaded) for loaded in (few, many)]
    yield Line(
        f"a decision of Cedar's, {_MANY:,} policies", times[1], "µs", f"{_FEW} policies", times[0], ratio_at_most=3
    )
    numbers = iter(range(len(_KINDS), _MANY))
    fresh = Engine(_assemble(_MANY))

    def meet_a_team() -> object:
        number = next(numbers)
        member = replace(caller, subject=f"m{number}", groups=frozenset({f"team-{number}"}))
        return fresh.decide(member, Action.APP_READ, apps[number])

    yield Line("the first of a team, its policies put together", _best(meet_a_team, 100), "µs")


def _time_of_cedar(loaded: LoadedPolicies) -> float:
    """One decision about somebody who looks like nobody before them."""
    engine, apps = Engine(loaded), _apps()
    people = (replace(_caller(), subject=f"p{number}", groups=frozenset({f"team-{number % 5}"})) for number in count())
    unseen = iter(apps)
    return _best(lambda: engine.decide(next(people), Action.APP_READ, next(unseen)), 400)


def _measure_loading(folder: Path, number: int) -> Line:
    into = folder / f"policies-{number}"
    into.mkdir()
    (into / "teams.cedar").write_text(_write(number))
    return Line(f"loading {number:,} policies, without cases", _best(lambda: read_policies(into), 1, 3) / 1e3, "ms")


def _write(number: int) -> str:
    texts = [_KINDS[n % len(_KINDS)].format(n=n, m=n % 40) for n in range(number - 1)]
    return "\n".join([_UNIQUE, *(f'@id("p{n}") {text}' for n, text in enumerate(texts))])


def _assemble(number: int) -> LoadedPolicies:
    return assemble(read_statements(Path("teams.cedar"), _write(number)))


def _apps() -> Sequence[Resource]:
    """Objects of their own, as after a change in the cluster."""
    environments = [
        Resource(ResourceType.ENVIRONMENT, name, (INSTALLATION,), (("name", name), ("strict", strict)))
        for name, strict in (("production", True), ("staging", False))
    ]
    root = _app("root", ("team=platform",), environments[0])
    parents = [_app(f"parent-{n}", (f"team=t{n}",), root, environments[n % 2]) for n in range(40)]
    return [
        _app(f"app-{n}", (f"number={n}", f"team=t{n % 40}"), parents[n % 40], environments[n % 2]) for n in range(_APPS)
    ]


def _app(name: str, labels: tuple[str, ...], *parents: Resource) -> Resource:
    attributes = (
        ("cluster", "live"),
        ("environment", parents[-1].id),
        ("labels", labels),
        ("name", name),
        ("namespace", "argocd"),
        ("project", "default"),
    )
    return Resource(ResourceType.APP, f"live/argocd/{name}", parents, attributes)


def _caller() -> Caller:
    return Caller(
        issuer="https://issuer.example",
        subject="ada",
        name="Ada",
        groups=frozenset({"team-0", "team-1"}),
        roles=frozenset({"developer"}),
        agent="bench",
        channel=Channel.MCP,
    )


def _in_many_groups() -> Caller:
    """A thousand groups, of which policies name every hundredth."""
    return replace(_caller(), groups=frozenset(f"team-{n}" if n % 100 == 0 else f"club-{n}" for n in range(1_000)))


def _best(work: Callable[[], object], times: int, rounds: int = 5) -> float:
    """Microseconds of one call in the best of the rounds."""
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(times):
            work()
        found.append((time.thread_time() - began) / times * 1e6)
    return min(found)


def _best_first(prepare: Callable[[], Callable[[], object]], times: int = 5) -> float:
    """Microseconds of the first call of something, in the best of as many as that."""
    found = []
    for _ in range(times):
        work = prepare()
        began = time.thread_time()
        work()
        found.append((time.thread_time() - began) * 1e6)
    return min(found)
