"""`arborgate policy`: check policies, run their cases, explain one decision; reads files, changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ..policies.casebook import Case
from ..policies.engine import Engine, LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import check_cases, find_missing_cases, load_policies, read_policies
from ..policies.model import INSTALLATION, Action, Basis, Binding, Channel, Resource, ResourceType
from ..policies.world import App, Environment, Keyspace, Misplaced, Person, Proposal, Workload, World, person_key

commands = typer.Typer(help="Policies: check them, run their cases, explain a decision.", no_args_is_help=True)

Directory = Annotated[
    Path | None,
    typer.Argument(help="The folder of *.cedar and cases/*.yaml; default: the shipped policies.", show_default=False),
]

_BASIS = {
    Basis.ERROR: "deciding failed, and that is a denial",
    Basis.FORBID: "forbidden by",
    Basis.NO_PERMIT: "no policy permits it",
    Basis.PERMIT: "permitted by",
}


@commands.command()
def check(directory: Directory = None) -> None:
    """Checks policies as a start does: syntax, ids, schema and every case; exits 1 when they would be refused."""
    try:
        loaded = load_policies(directory)
    except BadConfiguration as error:
        raise _refuse(error.message) from error
    typer.echo(f"{len(loaded.locations)} policies in order, digest {loaded.digest}")


@commands.command("test")
def run_cases(
    directory: Directory = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the cases that hold, too, and why.")] = False,
) -> None:
    """Decides every case; exits 1 when one fails, or when a policy or an action has no case."""
    try:
        loaded, cases = read_policies(directory)
    except BadConfiguration as error:
        raise _refuse(error.message) from error
    problems = find_missing_cases(loaded, cases, directory)
    for file, group in groupby(check_cases(loaded, cases), key=lambda answer: answer.case.location.file):
        answers = list(group)
        failed = [f"{answer.case.location}: {answer.problem}" for answer in answers if answer.problem]
        typer.echo(f"{file.name}: {len(answers) - len(failed)} of {len(answers)} hold")
        if verbose:
            for answer in answers:
                _show_case(answer.case, holds=not answer.problem)
        problems += failed
    if problems:
        raise _refuse("\n".join(problems))


@commands.command()
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
    policies: Annotated[Path | None, typer.Option(help="The folder of policies; default: the shipped ones.")] = None,
) -> None:
    """Says how a question is decided, by which policies, and where they stand."""
    try:
        loaded = load_policies(policies)
    except BadConfiguration as error:
        raise _refuse(error.message) from error
    kind, name = _parse_uid(resource)
    labels = {key: value for key, _, value in (pair.partition("=") for pair in label or ())}
    place = App(environment=environment or None, parent=parent or None, project=project, labels=labels)
    asked = _imagine(kind, name, app, place, strict, Proposal(app=app, requester=requester, risk=risk))
    now = int(time.time())
    roles, groups = frozenset(role or ()), frozenset(group or ())
    who = Person(
        roles=roles,
        grants=_parse_grants(role_at or ()),
        groups=groups,
        agent=agent,
        channel=channel,
        itself=itself,
        binding=binding,
        login_age=login_age,
        acr=acr,
    )
    decision = Engine(loaded).decide(who.caller(person, now), action, asked, at=now)

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


def _parse_grants(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        role, _, app = pair.partition("=")
        if not app:
            raise typer.BadParameter("write ROLE=cluster/namespace/name", param_hint="--role-at")
        found[role] = (*found.get(role, ()), app)
    return found


def _parse_uid(uid: str) -> tuple[ResourceType, str]:
    kind, _, name = uid.partition("::")
    if kind not in set(ResourceType) or not name:
        raise typer.BadParameter(f"write TYPE::ID with one of {', '.join(ResourceType)}", param_hint="--resource")
    return ResourceType(kind), name


def _imagine(kind: ResourceType, name: str, app: str, place: App, strict: bool, proposal: Proposal) -> Resource:
    """The resource in a world that holds it and what is above it."""
    if kind is ResourceType.APP:
        app = name
    elif not app and kind in (ResourceType.KEYSPACE, ResourceType.PROPOSAL, ResourceType.WORKLOAD):
        raise typer.BadParameter(f"say which app the {kind} is of", param_hint="--app")
    environments = {place.environment} if place.environment else set()
    if kind is ResourceType.ENVIRONMENT:
        environments.add(name)
    apps = {place.parent: App(environment=place.environment)} if place.parent else {}
    if app:
        apps[app] = place
    try:
        world = World(
            environments={environment: Environment(strict=strict) for environment in environments},
            apps=apps,
            workloads={name: Workload(app=app)} if kind is ResourceType.WORKLOAD else {},
            keyspaces={name: Keyspace(app=app)} if kind is ResourceType.KEYSPACE else {},
            proposals={name: proposal} if kind is ResourceType.PROPOSAL else {},
        )
        return world.resources()[f"{kind}::{name}"]
    except ValidationError as error:
        shape = "an app is written cluster/namespace/name, a keyspace source:prefix"
        raise typer.BadParameter(shape, param_hint="--resource") from error
    except (KeyError, Misplaced) as error:
        raise typer.BadParameter(f"there is no such thing: {error}", param_hint="--resource") from error


def _chain(resource: Resource) -> Iterator[str]:
    yield resource.uid
    for parent in resource.parents[:1]:
        yield from _chain(parent)


def _reasons(loaded: LoadedPolicies, policies: tuple[str, ...]) -> Iterator[str]:
    for policy in policies:
        file, line = loaded.location(policy)
        yield f"{policy}  {file}:{line}"


def _show_case(case: Case, *, holds: bool) -> None:
    typer.echo(f"  {'holds' if holds else 'FAILS'}  {case.title}")
    typer.echo(f"         {case.why}")


def _refuse(problems: str) -> typer.Exit:
    typer.echo(problems, err=True)
    return typer.Exit(1)
