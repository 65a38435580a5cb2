"""`arborgate policy what-can`: for every action, what a person may do it to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated

import typer

from ..policies.casebook import NOW
from ..policies.engine import Engine, LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import read_policies
from ..policies.model import Action, Caller, Channel, ResourceType
from ..policies.residue import Ways, what_can
from ..policies.world import Person
from .cli_policy_question import (
    AgentOption,
    BindingOption,
    ChannelOption,
    ConfigOption,
    Format,
    FormatOption,
    GroupOption,
    ItselfOption,
    PeopleOption,
    PoliciesOption,
    RoleAtOption,
    RoleOption,
    WorldOption,
    parse_grants,
    refuse,
)
from .cli_policy_staff import Staff, read_staff
from .cli_policy_ways import as_json, tell_blocked, tell_way


def show_what_can(
    person: Annotated[str, typer.Argument(help="Who: a name in --people or --world, else any name or key.")],
    people: PeopleOption = None,
    world: WorldOption = None,
    config: ConfigOption = None,
    role: RoleOption = None,
    role_at: RoleAtOption = None,
    group: GroupOption = None,
    agent: AgentOption = "copilot",
    channel: ChannelOption = Channel.MCP,
    itself: ItselfOption = False,
    binding: BindingOption = None,
    login_age: Annotated[
        int | None, typer.Option(min=0, help="Seconds since they logged in; default: say which would do.")
    ] = None,
    acr: Annotated[str, typer.Option(help="With --login-age: how they logged in, in the provider's words.")] = "",
    policies: PoliciesOption = None,
    output: FormatOption = Format.TEXT,
) -> None:
    """Says for every action what this person may do it to: everywhere, nowhere, or under which condition.

    With --world also the resources in it, one by one. Conditions are Cedar, and leave nothing out."""
    try:
        loaded = read_policies(policies)[0]
        staff = read_staff(config, world, people)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    described = Person(
        roles=frozenset(role or ()),
        grants=parse_grants(role_at or ()),
        groups=frozenset(group or ()),
        agent=agent,
        channel=channel,
        itself=itself,
        binding=binding,
        login_age=login_age or 0,
        acr=acr,
    )
    caller = (staff.find(person) or staff.promote(described)).caller(person, NOW)
    found = what_can(loaded, caller, staff.surroundings, login_age=login_age)
    reached = {action: _reach(loaded, staff, caller, action) for action in Action}
    if output is Format.JSON:
        typer.echo(json.dumps(_as_json(loaded, caller, found, reached), indent=2))
        return
    typer.echo(f"who      {caller.key}")
    typer.echo(f"roles    {', '.join(sorted(caller.roles)) or 'none'}{_granted(caller)}")
    typer.echo(f"through  {caller.channel}, {caller.agent or 'an unknown agent'}\n")
    for action, group_of in groupby(found, key=lambda ways: ways.action):
        for line in _tell(action, list(group_of)):
            typer.echo(line)
        if staff.scene.resources:
            typer.echo(f"{'':<20}  in this world: {', '.join(reached[action]) or 'nothing'}")


def _granted(caller: Caller) -> str:
    return "".join(f", {role} at {ResourceType.APP}::{app}" for role, app in sorted(caller.grants))


def _reach(loaded: LoadedPolicies, staff: Staff, caller: Caller, action: Action) -> list[str]:
    """The resources of the world that the engine allows, one by one."""
    engine = Engine(loaded, surroundings=staff.surroundings)
    return [
        uid
        for uid, resource in staff.scene.resources.items()
        if engine.decide(caller, action, resource, at=NOW).allowed
    ]


def _tell(action: Action, found: Sequence[Ways]) -> Iterator[str]:
    """The answer once for all types of resources that have the same."""
    answers: dict[tuple[str, ...], list[ResourceType]] = {}
    for ways in found:
        answers.setdefault(tuple(_answer(ways)), []).append(ways.type)
    for (first, *more), kinds in answers.items():
        yield f"{action:<20}  {first}  ({', '.join(kinds)})"
        for line in more:
            yield f"{'':<20}    {line}"


def _answer(ways: Ways) -> Iterator[str]:
    if ways.always:
        yield f"everywhere, by {', '.join(way.policy for way in ways.ways)}"
    elif not ways.ways:
        yield "nowhere"
        yield from tell_blocked(ways)
    else:
        yield "where"
        for way in ways.ways:
            yield from tell_way(way)


def _as_json(
    loaded: LoadedPolicies, caller: Caller, found: Sequence[Ways], reached: dict[Action, list[str]]
) -> dict[str, object]:
    return {
        "person": caller.key,
        "roles": sorted(caller.roles),
        "grants": [{"role": role, "at": app} for role, app in sorted(caller.grants)],
        "answers": [
            {
                "action": ways.action,
                "type": ways.type,
                "always": ways.always,
                "condition": "true" if ways.always else ways.condition,
                "ways": [as_json(way) for way in ways.ways],
                "blocked": [{"policy": each.policy, "by": list(each.by)} for each in ways.blocked],
            }
            for ways in found
        ],
        "resources": {action: uids for action, uids in reached.items() if uids},
        "policies": loaded.digest,
    }
