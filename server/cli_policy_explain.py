"""`arborgate policy explain`: how one question is decided, by which policies, and where they stand."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ..policies.context import UNTOLD
from ..policies.engine import Engine
from ..policies.errors import BadConfiguration
from ..policies.loader import read_policies
from ..policies.model import COUNTED, INSTALLATION, Action, Channel, Question
from ..policies.world import App, Person, Proposal, World, person_key
from .cli_policy_question import (
    AcrOption,
    AgentOption,
    AppOption,
    BindingOption,
    ChannelOption,
    EnvironmentOption,
    GroupOption,
    ItselfOption,
    LabelOption,
    ParentOption,
    ProjectOption,
    RequesterOption,
    RiskOption,
    RoleAtOption,
    RoleOption,
    StrictOption,
    imagine,
    parse_grants,
    parse_uid,
    refuse,
)
from .cli_policy_record import explain_record
from .cli_policy_words import look_closer, name_reasons, read_when, say_decision, say_place
from .retelling import Wanted
from .settings import read_settings


def explain(
    action: Annotated[Action | None, typer.Option(help="What is asked.")] = None,
    resource: Annotated[str, typer.Option(help="What it is asked of, TYPE::ID.")] = INSTALLATION.uid,
    person: Annotated[
        str, typer.Option(help="Who asks: a name, or a key as in records (issuer#subject).")
    ] = "somebody",
    role: RoleOption = None,
    role_at: RoleAtOption = None,
    group: GroupOption = None,
    agent: AgentOption = "copilot",
    channel: ChannelOption = Channel.MCP,
    itself: ItselfOption = False,
    binding: BindingOption = None,
    login_age: Annotated[int, typer.Option(min=0, help="Seconds since they logged in.")] = 0,
    acr: AcrOption = "",
    environment: EnvironmentOption = "",
    strict: StrictOption = False,
    app: AppOption = "",
    parent: ParentOption = "",
    project: ProjectOption = "default",
    label: LabelOption = None,
    requester: RequesterOption = "somebody-else",
    risk: RiskOption = "low",
    applied_today: Annotated[int, typer.Option(min=0, help="Changes of the app in 24 hours, before this one.")] = 0,
    unreviewed: Annotated[int, typer.Option(min=0, help="Seconds since they broke a glass not reviewed yet.")] = 0,
    signed: Annotated[bool, typer.Option("--signed", help="The approval is signed with a passkey.")] = False,
    approvals: Annotated[int, typer.Option(min=0, help="How many have approved what is to be applied.")] = 1,
    signed_approvals: Annotated[int, typer.Option(min=0, help="How many of them with a passkey.")] = 0,
    changes: Annotated[
        list[str] | None, typer.Option("--change", help="A kind of change of the app: restart, …")
    ] = None,
    healthy: Annotated[bool, typer.Option("--healthy", help="The app is healthy now.")] = False,
    proven: Annotated[bool, typer.Option("--proven", help="What it brings runs well in a lower environment.")] = False,
    policies: Annotated[
        Path | None,
        typer.Option(help="The folder of policies; default: the shipped ones, with --record those of the settings."),
    ] = None,
    record: Annotated[str, typer.Option(help="A decision on record: replica:number, a trace id, or `latest`.")] = "",
    caller: Annotated[str, typer.Option(help="With --record latest: a person's name or key.")] = "",
    tool: Annotated[str, typer.Option(help="With --record latest: a tool.")] = "",
    since: Annotated[str, typer.Option(help="With --record latest: not before then; RFC 3339, or ago: 24h, 7d.")] = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="A log, or the folder of all logs; default: that of the settings.")
    ] = None,
    at: Annotated[str, typer.Option(help="When, for the calendar of the settings; RFC 3339; default: now.")] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The settings: agents and calendar; without them all agents are trusted."),
    ] = None,
) -> None:
    """Says how a question is decided, by which policies, where they stand, and what a denial hangs on.

    With --record, of what was decided once: why, and whether it would be decided the same today."""
    if record or caller or tool or since:
        wanted = Wanted(record or "latest", caller, tool, read_when(since, "--since"))
        explain_record(wanted, directory=directory, config=config, policies=policies)
        return
    if action is None:
        raise typer.BadParameter("say what is asked, or give --record", param_hint="--action")
    try:
        loaded, _ = read_policies(policies)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    kind, name = parse_uid(resource)
    labels = {key: value for key, _, value in (pair.partition("=") for pair in label or ())}
    place = App(environment=environment or None, parent=parent or None, project=project, labels=labels)
    asked = imagine(kind, name, app, place, strict, Proposal(app=app, requester=requester, risk=risk))
    when = read_when(at, "--at")
    now = int(datetime.fromisoformat(when).timestamp() if when else time.time())
    roles, groups = frozenset(role or ()), frozenset(group or ())
    who = Person(
        roles=roles,
        grants=parse_grants(role_at or ()),
        groups=groups,
        agent=agent,
        channel=channel,
        itself=itself,
        binding=binding,
        login_age=login_age,
        acr=acr,
    )
    looked = {"healthy": healthy, "kinds": tuple(changes) if changes else UNTOLD["kinds"], "proven": proven}
    given = {"approvals": approvals, "signed": signed, "signed_approvals": signed_approvals}
    counts = {"applied_today": applied_today, "unreviewed": unreviewed, **looked, **given}
    context = tuple((name, counts[name]) for name in COUNTED.get(action, ()))
    engine = Engine(loaded, surroundings=read_settings(config).surroundings if config else World().surroundings)
    question = Question(who.caller(person, now), action, (asked,), (context,), now)
    decision = engine.answer(question)

    typer.echo(f"who      {person_key(person)}, roles: {', '.join(sorted(roles)) or 'none'}")
    typer.echo(f"through  {channel}, {agent or 'an unknown agent'}, logged in {login_age} s ago")
    typer.echo(f"what     {action} ({action.group})")
    typer.echo(f"of       {say_place(asked)}")
    typer.echo(f"answer   {say_decision(decision)}")
    for line in name_reasons(loaded, decision):
        typer.echo(f"         {line}")
    for line in look_closer(engine, question):
        typer.echo(line)
