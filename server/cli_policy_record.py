"""`arborgate policy explain --record`: why something was decided on record, and how it would be decided now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path

import typer

from ..policies.engine import Engine, LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.facts import Unreadable
from ..policies.loader import read_policies
from ..policies.model import Basis, Decision, Question
from ..policies.nearness import find_attributes
from ..policies.surroundings import Surroundings
from ..tools.record import Record
from ..tools.text import quote_name
from ..tools.times import write_age
from .cli_policy_question import refuse
from .cli_policy_words import look_closer, name_reasons, place, say_decision, say_door, say_person, say_place
from .cli_record import find_logs
from .replay import Archive, BrokenLog, Past, find_past, is_decision
from .settings import read_settings

_ALLOWED = {"allow": "allowed", "deny": "denied"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which record: `ref` is `replica:number` (as `record_search` tells it, `replica/number`) or a trace id, `latest` the
    newest that fits the rest: a person's name or key, a tool, a moment it is not older than (as records write it)."""

    ref: str
    caller: str = ""
    tool: str = ""
    since: str = ""

    def mark(self) -> str:
        """A text that the record's line must hold."""
        if self.ref != "latest":
            _, number = self._place()
            return f'"seq":{number},' if number else self.ref
        return f'"tool":"{self.tool}"' if self.tool else ""

    def fits(self, record: Record) -> bool:
        if not is_decision(record):
            return False
        if self.ref != "latest":
            replica, number = self._place()
            return (record.replica, str(record.seq)) == (replica, number) or record.trace_id == self.ref
        return (
            self.caller in ("", record.caller, record.caller_name)
            and self.tool in ("", record.tool)
            and record.time >= self.since
        )

    def _place(self) -> tuple[str, str]:
        replica, _, number = self.ref.replace("/", ":").rpartition(":")
        return (replica, number) if replica and number.isdigit() else ("", "")


def explain_record(wanted: Wanted, *, directory: Path | None, config: Path | None, policies: Path | None) -> None:
    """Says what a record's decision was made on, and how the policies of now decide the same, then and now."""
    settings = read_settings(config)
    archive = Archive()
    try:
        past = find_past(find_logs(directory or settings.record.dir), archive, wanted.fits, wanted.mark())
    except BrokenLog as error:
        typer.echo(f"{error}; `arborgate record verify` looks at every line", err=True)
        raise typer.Exit(2) from error
    if past is None:
        typer.echo("No decision like that is on record here (`arborgate record search` shows what is).", err=True)
        raise typer.Exit(2)
    try:
        loaded, _ = read_policies(policies or settings.policies.dir)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    for line in _describe(past, archive, loaded, settings.surroundings):
        typer.echo(line)


def _describe(past: Past, archive: Archive, loaded: LoadedPolicies, today: Surroundings) -> Iterator[str]:
    record = past.record
    yield f"record   {record.replica}:{record.seq}, {record.event}, {record.time}"
    try:
        question = archive.question(record)
        redacted = archive.hides(record, find_attributes(loaded.statements.values()))
    except Unreadable as error:
        yield from _describe_barely(record, loaded, str(error))
        return
    yield from _describe_question(record, question)
    yield from _describe_then(record, loaded)
    if redacted:
        yield "again    can't be told: what these policies look at was redacted in the record"
        return
    around = archive.surroundings(past.settings)
    engine = Engine(loaded, surroundings=around or today)
    again = engine.answer(question)
    yield f"again    {say_decision(again)}"
    yield from (f"         {line}" for line in name_reasons(loaded, again))
    yield f"         by {_say_set(record, loaded)}, {_say_settings(around, today)}"
    now = time.time()
    current = _answer_today(loaded, today, question, now)
    if (current.allowed, current.policies) == (again.allowed, again.policies):
        yield "today    the same"
    else:
        yield f"today    {say_decision(current)}"
        yield from (f"         {line}" for line in name_reasons(loaded, current))
        yield "         with today's calendar and agents, and a login as old as it was then"
    yield from look_closer(engine, question)
    for policy in again.policies:
        if statement := loaded.statements.get(policy):
            yield f"policy   {place(statement.location)}"
            yield from (f"         {line}" for line in statement.text.splitlines())


def _describe_question(record: Record, question: Question) -> Iterator[str]:
    caller, action = question.caller, question.action
    yield f"who      {say_person(caller)}, {'for itself, ' if caller.itself else ''}{_say_roles(question)}"
    if caller.groups:
        yield f"         groups: {', '.join(quote_name(group) for group in sorted(caller.groups))}"
    yield f"through  {say_door(caller)}, {caller.binding}{_say_login(question, record)}"
    yield f"what     {action} ({action.group}){f', by the tool {quote_name(record.tool)}' if record.tool else ''}"
    for resource, context in question.each():
        counts = ", ".join(f"{name} {value}" for name, value in context)
        yield f"of       {say_place(resource)}{f' ({counts})' if counts else ''}"


def _describe_then(record: Record, loaded: LoadedPolicies) -> Iterator[str]:
    yield f"then     {_ALLOWED.get(record.decision, record.decision)}, by the set {record.policy_set[:12]}"
    decided = Decision(record.decision == "allow", Basis.PERMIT, record.policies)
    yield from (f"         {line}" for line in name_reasons(loaded, decided))
    if record.detail:
        yield f"         {quote_name(record.detail)}"


def _describe_barely(record: Record, loaded: LoadedPolicies, why: str) -> Iterator[str]:
    """What can be said of a record without its facts."""
    yield f"who      {quote_name(record.caller_name or record.caller)}"
    yield f"through  {record.channel}, {quote_name(record.agent) or 'no agent that anybody named'}"
    yield f"what     {quote_name(record.action)}{f', by the tool {quote_name(record.tool)}' if record.tool else ''}"
    yield f"of       {quote_name(record.resource)}"
    yield from _describe_then(record, loaded)
    yield f"again    can't be told: {why}"
    if record.policy_set == loaded.digest:
        yield "         The policies are the same now, so only the caller, the resource or the settings could differ."
    else:
        yield f"         The policies are others now ({loaded.digest[:12]})."


def _answer_today(loaded: LoadedPolicies, today: Surroundings, question: Question, now: float) -> Decision:
    """The same question at this minute, after a login as long ago as it was then."""
    caller = question.caller
    if question.at and caller.authenticated_at:
        caller = replace(caller, authenticated_at=int(now - (question.at - caller.authenticated_at)))
    return Engine(loaded, surroundings=today).answer(replace(question, caller=caller, at=now))


def _say_set(record: Record, loaded: LoadedPolicies) -> str:
    if record.policy_set == loaded.digest:
        return "the same set"
    return f"the set {loaded.digest[:12]}, as of then"


def _say_settings(around: Surroundings | None, today: Surroundings) -> str:
    """Whose agents and calendar it was decided with again."""
    if around is None:
        return "with the agents and the calendar of today's settings, since those of then are not on record"
    changed = [each.name for each in fields(Surroundings) if getattr(around, each.name) != getattr(today, each.name)]
    if not changed:
        return "with the agents and the calendar of the settings, which have not changed"
    return f"with the settings as they were then; changed since: {' and '.join(changed)}"


def _say_roles(question: Question) -> str:
    caller = question.caller
    granted = [f"{role} at {app}" for role, app in sorted(caller.grants)]
    roles = ", ".join(quote_name(role) for role in (*sorted(caller.roles), *granted))
    within = f", with a token for {quote_name(caller.within)} alone" if caller.within else ""
    withheld = ", ".join(group for group, _ in caller.withheld)
    return f"roles: {roles or 'none'}{within}{f', with a token without {withheld}' if withheld else ''}"


def _say_login(question: Question, record: Record) -> str:
    caller = question.caller
    at = question.at or datetime.fromisoformat(record.time).timestamp()
    if not caller.authenticated_at:
        return ""
    acr = f" ({quote_name(caller.acr)})" if caller.acr else ""
    return f", logged in {write_age(at - caller.authenticated_at)} before{acr}"
