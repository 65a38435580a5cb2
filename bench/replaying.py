"""Replaying a past: 100,000 decisions on record, made again by two sets of policies, and what keeping their facts costs."""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from arborgate.policies.agents import Agents
from arborgate.policies.engine import Engine
from arborgate.policies.loader import SHIPPED, read_policies
from arborgate.policies.model import INSTALLATION, Action, Binding, Caller, Channel, Question, Resource, ResourceType
from arborgate.policies.surroundings import Surroundings
from arborgate.server.audit import AuditLog
from arborgate.server.comparison import Comparison
from arborgate.server.notes import Notes
from arborgate.server.replay import read_past
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.record import Entry, Event, name_caller, name_decision
from arborgate.tools.tree import AppTree

from .report import Line, Part
from .world import build_world

_RECORDS: Final = 100_000
_AT_ONCE: Final = 1_000
_BEGAN: Final = 1_760_000_000
_DAYS: Final = 30
_PEOPLE: Final = 200
_AROUND: Final = Surroundings(Agents(trusted=("ide-copilot", "ops-chat")))
_RULES: Final = (
    EnvironmentRule(name="production", strict=True, labels={"env": "production"}),
    EnvironmentRule(name="staging", labels={"env": "staging"}),
)
_CALLS: Final = {
    Action.APP_READ: 60,
    Action.APP_LIST: 15,
    Action.REDIS_READ_VALUE: 12,
    Action.ROLLOUT_PROPOSE: 8,
    Action.PROPOSAL_APPROVE: 5,
}
"""How often each is asked, in a hundred calls."""


def measure_replaying(folder: Path, apps: int) -> Part:
    """Two months of work between two sets that differ in three policies, on one core."""
    lines = asyncio.run(_measure(folder, apps))
    return Part(f"{_RECORDS:,} decisions on record, made again", lines)


async def _measure(folder: Path, apps: int) -> Sequence[Line]:
    (old, _), (new, _) = read_policies(None), read_policies(_change_policies(folder / "replaying-new"))
    engine = Engine(old, surroundings=_AROUND)
    questions = list(_ask(_read_apps(apps), random.Random(7)))  # made-up work, not a secret
    entries = [_enter(engine, question) for question in questions]
    async with AuditLog.open(folder / "replaying", "bench") as log:
        await log.write(Entry(event=Event.POLICY_LOADED, policy_set=engine.digest, surroundings=_AROUND))
        for start in range(0, len(entries), _AT_ONCE):
            await asyncio.gather(*(log.write(entry) for entry in entries[start : start + _AT_ONCE]))
    comparison = Comparison(old, new, _AROUND)
    began = time.perf_counter()
    for past in read_past(log.path, comparison.archive):
        comparison.take(past)
    replayed = time.perf_counter() - began
    began = time.perf_counter()
    lists = comparison.compare_lists()
    listed = time.perf_counter() - began
    tally = comparison.tally
    assert (tally.replayed, tally.otherwise) == (_RECORDS, 0)
    assert comparison.flips
    assert lists
    callers, _ = comparison.listed
    return [
        Line("deciding all of them again by two sets", replayed, "s", at_most=20),
        Line(f"comparing what {callers} callers see in their lists", listed, "s"),
        Line("records decided otherwise by the new set", tally.replayed - tally.same, "of them"),
        Line("log on disk, a record", log.path.stat().st_size / _RECORDS, "bytes"),
        Line("naming a decision's facts, told before", _time_notes(entries), "µs", at_most=2),
    ]


def _change_policies(to: Path) -> Path:
    """The shipped policies with one more permit, and two more forbids that read the resource and the time."""
    shutil.copytree(SHIPPED, to, ignore=lambda _, names: [name for name in names if not name.endswith(".cedar")])
    (to / "more.cedar").write_text(
        """
@id("viewers-read-values-of-staging") permit (
  principal in Role::"viewer", action == Action::"redis:read_value", resource in Environment::"staging");
@id("team-07-is-closed") forbid (principal, action == Action::"app:read", resource)
when { resource has name && resource.name like "team-07-*" };
@id("proposals-need-a-fresh-login") forbid (principal, action == Action::"rollout:propose", resource)
when { context.login_age > 3600 };
"""
    )
    return to


def _read_apps(count: int) -> list[Resource]:
    environments = Environments(_RULES)
    parser, tree = AppParser("live", environments, {}), AppTree(environments)
    tree.replace("live", [parser.parse(manifest) for manifest in build_world(count)])
    return [node.resource for node in tree.nodes()]


def _ask(apps: Sequence[Resource], chance: random.Random) -> Iterator[Question]:
    """People at work through the days: each logs in every day, asks mostly about the same few apps, and again."""
    people = [_person(number) for number in range(_PEOPLE)]
    own = [chance.sample(apps, 12) for _ in people]
    actions, weights = list(_CALLS), list(_CALLS.values())
    for number in range(_RECORDS):
        at = _BEGAN + number * _DAYS * 86_400 / _RECORDS
        who = chance.randrange(_PEOPLE)
        caller, morning = people[who], int(at // 86_400) * 86_400
        if caller.authenticated_at < morning:
            caller = people[who] = replace(caller, authenticated_at=morning)
        app = chance.choice(own[who] if chance.random() < 0.8 else apps)
        action = chance.choices(actions, weights)[0]
        if action is Action.PROPOSAL_APPROVE:
            caller = caller.alone
        yield Question(caller, action, (_place(action, app, number),), at=at)


def _place(action: Action, app: Resource, number: int) -> Resource:
    match action:
        case Action.APP_LIST:
            return INSTALLATION
        case Action.REDIS_READ_VALUE:
            attributes = (("prefix", f"{app.id}:"), ("source", "main"))
            return Resource(ResourceType.KEYSPACE, f"main:{app.id}:", (app,), attributes)
        case Action.PROPOSAL_APPROVE:
            told = (("breaker", ""), ("factors", ()), ("requester", "https://issuer.example#u0"), ("risk", "low"))
            return Resource(ResourceType.PROPOSAL, f"p-{number // 3}", (app,), told)
        case _:
            return app


def _person(number: int) -> Caller:
    role = ("viewer", "developer", "developer", "approver")[number % 4]
    return Caller(
        issuer="https://issuer.example",
        subject=f"u{number}",
        name=f"User {number}",
        groups=frozenset({f"arborgate-{role}s", *(f"group-{number % 50}-{index}" for index in range(20))}),
        roles=frozenset({role}),
        agent=("ide-copilot", "ops-chat", "new-agent")[number % 3],
        channel=Channel.MCP,
        binding=Binding.DPOP,
    )


def _enter(engine: Engine, question: Question) -> Entry:
    decision = engine.answer(question)
    return Entry(
        event=Event.CALL_ANSWERED if decision.allowed else Event.CALL_DENIED,
        **name_caller(question.caller),
        tool="bench",
        action=question.action,
        resource=question.resources[0].uid,
        outcome="ok" if decision.allowed else "denied",
        **name_decision(decision, question, engine.digest),
    )


def _time_notes(entries: Sequence[Entry]) -> float:
    """Microseconds a record more than one without facts, on the event loop."""
    notes, some = Notes(str), [entry for entry in entries if entry.action == Action.APP_READ][:1_000]
    for entry in some:
        notes.missing(notes.cite(entry), told := set[str]())
        notes.settle(told)
    took = []
    for _ in range(50):
        began, told = time.perf_counter(), set()
        for entry in some:
            notes.missing(notes.cite(entry), told)
        took.append((time.perf_counter() - began) / len(some) * 1e6)
    return statistics.median(took)
