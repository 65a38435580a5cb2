"""A past: decisions that were really made, written by the real audit log."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from arborgate.policies.engine import Engine
from arborgate.policies.model import Action, Caller, Decision, Question, Resource
from arborgate.server.audit import AuditLog
from arborgate.server.replay import Archive, is_decision, read_past
from arborgate.tools.record import Entry, Event, Record, name_caller, name_decision

TOOLS = {Action.APP_LIST: "app_list", Action.APP_READ: "app_get", Action.REDIS_READ_VALUE: "redis_read"}


def entry_of(question: Question, decision: Decision, policy_set: str) -> Entry:
    """The outcome of a call, as the gate writes it."""
    return Entry(
        event=Event.CALL_ANSWERED if decision.allowed else Event.CALL_DENIED,
        **name_caller(question.caller),
        tool=TOOLS.get(question.action, ""),
        action=question.action,
        resource=" ".join(resource.uid for resource in question.resources),
        outcome="ok" if decision.allowed else "denied",
        **name_decision(decision, question, policy_set),
    )


async def write(log: AuditLog, engine: Engine, questions: Sequence[Question]) -> list[Record]:
    """Decides the questions in order and puts them on record."""
    return await asyncio.gather(*(log.write(entry_of(each, engine.answer(each), engine.digest)) for each in questions))


async def write_past(directory: Path, engine: Engine, questions: Sequence[Question], replica: str = "serve-1") -> Path:
    """One run of a replica; returns its log."""
    async with AuditLog.open(directory, replica) as log:
        loaded = Entry(event=Event.POLICY_LOADED, policy_set=engine.digest, surroundings=engine.surroundings)
        await log.write(loaded)
        await write(log, engine, questions)
        return log.path


def ask(caller: Caller, action: Action, *resources: Resource, at: float = 0.0) -> Question:
    return Question(caller, action, resources, at=at)


def decide_again(path: Path, engine: Engine) -> list[tuple[Record, Decision]]:
    """Every decision in a log, and what the engine decides of it from the facts in the same log."""
    archive = Archive()
    records = [past.record for past in read_past(path, archive) if is_decision(past.record)]
    return [(record, engine.answer(archive.question(record))) for record in records]
