"""A question to the policies as it is described by options on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ..policies.model import Binding, Channel, Resource, ResourceType
from ..policies.world import App, Environment, Keyspace, Misplaced, Proposal, Workload, World

Directory = Annotated[
    Path | None,
    typer.Argument(help="The folder of *.cedar and cases/*.yaml; default: the shipped policies.", show_default=False),
]

PoliciesOption = Annotated[Path | None, typer.Option(help="The folder of policies; default: the shipped ones.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The settings: which groups have a role, which agents are trusted."),
]
WorldOption = Annotated[Path | None, typer.Option(help="A case file, or another that declares a `world`.")]
PeopleOption = Annotated[Path | None, typer.Option(help="A case file, or another that declares `people`.")]

AppOption = Annotated[str, typer.Option(help="The app that a workload, keyspace or proposal is of.")]
EnvironmentOption = Annotated[str, typer.Option(help="The environment of the app; none counts as strict.")]
LabelOption = Annotated[list[str] | None, typer.Option(help="A label of the app, key=value; may be repeated.")]
ParentOption = Annotated[str, typer.Option(help="The parent app.")]
ProjectOption = Annotated[str, typer.Option(help="The app's project.")]
RequesterOption = Annotated[str, typer.Option(help="Who made the proposal: a name or a key.")]
RiskOption = Annotated[str, typer.Option(help="The proposal's risk.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="That environment is strict.")]


class Format(StrEnum):
    """How an answer is written: for people or for programs."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="For people or for programs.")]

RoleOption = Annotated[list[str] | None, typer.Option(help="A role they have; may be repeated.")]
RoleAtOption = Annotated[
    list[str] | None,
    typer.Option(help="A role at one app and below it, ROLE=cluster/namespace/name; may be repeated."),
]
GroupOption = Annotated[list[str] | None, typer.Option(help="A group they are in; may be repeated.")]
AgentOption = Annotated[str, typer.Option(help="The agent acting for them.")]
ChannelOption = Annotated[Channel, typer.Option(help="The door they come through.")]
ItselfOption = Annotated[bool, typer.Option("--itself", help="An app or agent for itself: there is no person.")]
BindingOption = Annotated[Binding | None, typer.Option(help="What binds the call; default: by the channel.")]
AcrOption = Annotated[str, typer.Option(help="How they logged in, in the provider's words.")]
"""Who asks, as options describe them."""


def refuse(problems: str) -> typer.Exit:
    """What to raise when the policies are not in order: says the problems on standard error and exits 1."""
    from .redaction import Redactor

    typer.echo(Redactor().clean_text(problems), err=True)  # they quote lines, and are kept in the logs of CI
    return typer.Exit(1)


def parse_grants(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        role, _, app = pair.partition("=")
        if not app:
            raise typer.BadParameter("write ROLE=cluster/namespace/name", param_hint="--role-at")
        found[role] = (*found.get(role, ()), app)
    return found


def parse_uid(uid: str) -> tuple[ResourceType, str]:
    kind, _, name = uid.partition("::")
    if kind not in set(ResourceType) or not name:
        raise typer.BadParameter(f"write TYPE::ID with one of {', '.join(ResourceType)}", param_hint="--resource")
    return ResourceType(kind), name


def imagine(kind: ResourceType, name: str, app: str, place: App, strict: bool, proposal: Proposal) -> Resource:
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


def chain(resource: Resource) -> str:
    """The resource and what it is in, up to the installation."""
    above = f" in {chain(resource.parents[0])}" if resource.parents else ""
    return f"{resource.uid}{above}"


def apps_above(resource: Resource) -> frozenset[str]:
    """The ids of the apps that the resource is or lies in: where a role at an app holds for it."""
    own = {resource.id} if resource.type is ResourceType.APP else set[str]()
    return frozenset(own).union(*(apps_above(parent) for parent in resource.parents))
