"""`arborgate policy explain`: how one question is decided, by which policies, and where they stand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..policies.engine import Engine, LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import load_policies
from ..policies.model import COUNTED, INSTALLATION, Action, Basis, Binding, Channel, Resource
from ..policies.world import App, Person, Proposal, person_key
from .cli_policy_question import imagine, parse_grants, parse_uid, refuse

_BASIS = {
    Basis.ERROR: "deciding failed, and that is a denial",
    Basis.FORBID: "forbidden by",
    Basis.NO_PERMIT: "no policy permits it",
    Basis.PERMIT: "permitted by",
}


def explain(
    action: Annotated[Action, typer.Option(help="What is asked.")],
    resource: Annotated[str, typer.Option(help="What it is asked of, TYPE::ID.")] = INSTALLATION.uid,
    person: Annotated[
        str, typer.Option(help="Who asks: a name, or a key as in records (issuer#subject).")
    ] = "somebody",
    role: Annotated[list[str] | None, typer.Option(help="A role they have; may be repeated.")] = None,
    role_at: Annotated[
        list[str] | None,
        typer.Option(help="A role at one app and below it, ROLE=cluster/namespace/name; may be repeated."),
    ] = None,
    group: Annotated[list[str] | None, typer.Option(help="A group they are in; may be repeated.")] = None,
    agent: Annotated[str, typer.Option(help="The agent acting for them.")] = "copilot",
    channel: Annotated[Channel, typer.Option(help="The door they come through.")] = Channel.MCP,
    itself: Annotated[bool, typer.Option("--itself", help="An app or agent for itself: there is no person.")] = False,
    binding: Annotated[Binding | None, typer.Option(help="What binds the call; default: by the channel.")] = None,
    login_age: Annotated[int, typer.Option(min=0, help="Seconds since they logged in.")] = 0,
    acr: Annotated[str, typer.Option(help="How they logged in, in the provider's words.")] = "",
    environment: Annotated[str, typer.Option(help="The environment of the app; none counts as strict.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="That environment is strict.")] = False,
    app: Annotated[str, typer.Option(help="The app that a workload, keyspace or proposal is of.")] = "",
    parent: Annotated[str, typer.Option(help="The parent app.")] = "",
    project: Annotated[str, typer.Option(help="The app's project.")] = "default",
    label: Annotated[list[str] | None, typer.Option(help="A label of the app, key=value; may be repeated.")] = None,
    requester: Annotated[str, typer.Option(help="Who made the proposal: a name or a key.")] = "somebody-else",
    risk: Annotated[str, typer.Option(help="The proposal's risk.")] = "low",
    applied_today: Annotated[int, typer.Option(min=0, help="Changes of the app in 24 hours, before this one.")] = 0,
    unreviewed: Annotated[int, typer.Option(min=0, help="Seconds since they broke a glass not reviewed yet.")] = 0,
    policies: Annotated[Path | None, typer.Option(help="The folder of policies; default: the shipped ones.")] = None,
) -> None:
    """Says how a question is decided, by which policies, and where they stand."""
    try:
        loaded = load_policies(policies)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    kind, name = parse_uid(resource)
    labels = {key: value for key, _, value in (pair.partition("=") for pair in label or ())}
    place = App(environment=environment or None, parent=parent or None, project=project, labels=labels)
    asked = imagine(kind, name, app, place, strict, Proposal(app=app, requester=requester, risk=risk))
    now = int(time.time())
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
    counts = {"applied_today": applied_today, "unreviewed": unreviewed}
    context = tuple((name, counts[name]) for name in COUNTED.get(action, ()))
    decision = Engine(loaded).decide(who.caller(person, now), action, asked, context, at=now)

    typer.echo(f"who      {person_key(person)}, roles: {', '.join(sorted(roles)) or 'none'}")
    typer.echo(f"through  {channel}, {agent or 'an unknown agent'}, logged in {login_age} s ago")
    typer.echo(f"what     {action} ({action.group})")
    typer.echo(f"of       {' in '.join(_chain(asked))}")
    typer.echo(
        f"answer   {'allowed' if decision.allowed else 'denied'}: {_BASIS[decision.basis]}{decision.error and ':'}"
    )
    for line in (*_reasons(loaded, decision.policies), decision.error):
        if line:
            typer.echo(f"         {line}")


def _chain(resource: Resource) -> Iterator[str]:
    yield resource.uid
    for parent in resource.parents[:1]:
        yield from _chain(parent)


def _reasons(loaded: LoadedPolicies, policies: tuple[str, ...]) -> Iterator[str]:
    for policy in policies:
        file, line = loaded.location(policy)
        yield f"{policy}  {file}:{line}"
