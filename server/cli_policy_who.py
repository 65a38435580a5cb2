"""`arborgate policy who-can`: every way for an action to be allowed on one resource, and the people who have one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from ..policies.casebook import NOW
from ..policies.engine import Engine, LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import read_policies
from ..policies.model import INSTALLATION, Action, Resource
from ..policies.residue import Way, Ways, who_can
from ..policies.world import App, Proposal
from .cli_policy_question import (
    AppOption,
    ConfigOption,
    EnvironmentOption,
    Format,
    FormatOption,
    LabelOption,
    ParentOption,
    PeopleOption,
    PoliciesOption,
    ProjectOption,
    RequesterOption,
    RiskOption,
    StrictOption,
    WorldOption,
    apps_above,
    chain,
    imagine,
    parse_uid,
    refuse,
)
from .cli_policy_staff import Staff, read_staff
from .cli_policy_ways import as_json, tell_blocked, tell_way


def show_who_can(
    action: Annotated[Action, typer.Argument(help="What is asked.")],
    resource: Annotated[str, typer.Argument(help="What it is asked of, TYPE::ID.")] = INSTALLATION.uid,
    world: WorldOption = None,
    people: PeopleOption = None,
    config: ConfigOption = None,
    environment: EnvironmentOption = "",
    strict: StrictOption = False,
    app: AppOption = "",
    parent: ParentOption = "",
    project: ProjectOption = "default",
    label: LabelOption = None,
    requester: RequesterOption = "somebody-else",
    risk: RiskOption = "low",
    policies: PoliciesOption = None,
    output: FormatOption = Format.TEXT,
) -> None:
    """Says who may do this: every way to be allowed, what it takes, and which policy forbids it otherwise.

    The resource is taken from --world, else as it is described by options. Conditions are Cedar. The ways are all there
    are; people are those of --world and --people."""
    try:
        loaded = read_policies(policies)[0]
        staff = read_staff(config, world, people)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    kind, name = parse_uid(resource)
    asked = staff.scene.resources.get(resource)
    if asked is None and world is not None:
        raise typer.BadParameter(f"{resource} is not in the world of {world}", param_hint="RESOURCE")
    if asked is None:
        labels = {key: value for key, _, value in (pair.partition("=") for pair in label or ())}
        place = App(environment=environment or None, parent=parent or None, project=project, labels=labels)
        asked = imagine(kind, name, app, place, strict, Proposal(app=app, requester=requester, risk=risk))
    found = who_can(loaded, action, asked)
    answers = dict(_judge(loaded, staff, action, asked))
    if output is Format.JSON:
        typer.echo(json.dumps(_as_json(loaded, found, staff, asked, answers), indent=2))
        return
    typer.echo(f"what     {action} ({action.group})")
    typer.echo(f"of       {chain(asked)}")
    for line in (*_tell_ways(found, staff, asked), *_tell_people(answers)):
        typer.echo(line)


def _judge(
    loaded: LoadedPolicies, staff: Staff, action: Action, asked: Resource
) -> Iterator[tuple[str, tuple[bool, str]]]:
    """What the engine decides for each person of the files, and by which policies."""
    engine = Engine(loaded, surroundings=staff.surroundings)
    for name, person in staff.people.items():
        decision = engine.decide(staff.promote(person).caller(name, NOW), action, asked, at=NOW)
        by = decision.error or ", ".join(decision.policies) or "nothing"
        yield name, (decision.allowed, by)


def _tell_ways(found: Ways, staff: Staff, asked: Resource) -> Iterator[str]:
    if not found.ways:
        yield "answer   nobody"
    elif found.always:
        yield "answer   everybody, always"
    else:
        yield f"answer   in {len(found.ways)} way{'s' if len(found.ways) > 1 else ''}"
    for way in found.ways:
        yield ""
        yield from (f"  {line}" for line in tell_way(way, _holders(way, staff, asked)))
    if found.blocked:
        yield ""
        yield from (f"  {line}" for line in tell_blocked(found))


def _holders(way: Way, staff: Staff, asked: Resource) -> Iterator[str]:
    apps = apps_above(asked)
    for role in way.roles if staff.roles else ():
        holders = list(staff.holders(role, apps))
        yield f"role {role}: {'; '.join(holders) or 'no group has it here'}"


def _tell_people(answers: dict[str, tuple[bool, str]]) -> Iterator[str]:
    if not answers:
        return
    yield ""
    width = max(len(name) for name in answers)
    for name, (allowed, by) in answers.items():
        yield f"{name:<{width}}  {'may' if allowed else 'may not'}, by {by}"


def _as_json(
    loaded: LoadedPolicies, found: Ways, staff: Staff, asked: Resource, answers: dict[str, tuple[bool, str]]
) -> dict[str, object]:
    return {
        "action": found.action,
        "resource": asked.uid,
        "always": found.always,
        "ways": [{**as_json(way), "holders": list(_holders(way, staff, asked))} for way in found.ways],
        "blocked": [{"policy": each.policy, "by": list(each.by)} for each in found.blocked],
        "people": [{"name": name, "allowed": allowed, "by": by} for name, (allowed, by) in answers.items()],
        "policies": loaded.digest,
    }
