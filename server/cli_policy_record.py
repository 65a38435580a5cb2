"""`arborgate policy explain --record`: why something was decided on record, and how it would be decided now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import typer

from ..policies.engine import LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import read_policies
from ..policies.model import Basis, Decision, Question
from ..tools.record import Record
from ..tools.text import quote_name
from ..tools.times import write_age
from .cli_policy_question import refuse
from .cli_policy_words import look_closer, name_reasons, place, say_decision, say_door, say_person, say_place
from .cli_record import find_logs
from .replay import Archive, BrokenLog, find_past
from .retelling import Retold, Wanted, retell
from .settings import read_settings

_ALLOWED = {"allow": "allowed", "deny": "denied"}


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
    for line in _describe(retell(past, archive, loaded, settings.surroundings, time.time()), loaded):
        typer.echo(line)


def _describe(retold: Retold, loaded: LoadedPolicies) -> Iterator[str]:
    record, question, again, today = retold.record, retold.question, retold.again, retold.today
    yield f"record   {record.replica}:{record.seq}, {record.event}, {record.time}"
    if question is None:
        yield from _describe_barely(retold, loaded)
        return
    yield from _describe_question(record, question)
    yield from _describe_then(record, loaded)
    if retold.engine is None or again is None or today is None:
        yield f"again    can't be told: {retold.untold}"
        return
    yield f"again    {say_decision(again)}"
    yield from (f"         {line}" for line in name_reasons(loaded, again))
    yield f"         by {_say_set(retold, loaded)}, {_say_settings(retold.changed)}"
    if (today.allowed, today.policies) == (again.allowed, again.policies):
        yield "today    the same"
    else:
        yield f"today    {say_decision(today)}"
        yield from (f"         {line}" for line in name_reasons(loaded, today))
        yield "         with today's calendar and agents, and a login as old as it was then"
    yield from look_closer(retold.engine, question)
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


def _describe_barely(retold: Retold, loaded: LoadedPolicies) -> Iterator[str]:
    """What can be said of a record without its facts."""
    record = retold.record
    yield f"who      {quote_name(record.caller_name or record.caller)}"
    yield f"through  {record.channel}, {quote_name(record.agent) or 'no agent that anybody named'}"
    yield f"what     {quote_name(record.action)}{f', by the tool {quote_name(record.tool)}' if record.tool else ''}"
    yield f"of       {quote_name(record.resource)}"
    yield from _describe_then(record, loaded)
    yield f"again    can't be told: {retold.untold}"
    if retold.same_set:
        yield "         The policies are the same now, so only the caller, the resource or the settings could differ."
    else:
        yield f"         The policies are others now ({loaded.digest[:12]})."


def _say_set(retold: Retold, loaded: LoadedPolicies) -> str:
    return "the same set" if retold.same_set else f"the set {loaded.digest[:12]}, as of then"


def _say_settings(changed: tuple[str, ...] | None) -> str:
    """Whose agents and calendar it was decided with again."""
    if changed is None:
        return "with the agents and the calendar of today's settings, since those of then are not on record"
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
