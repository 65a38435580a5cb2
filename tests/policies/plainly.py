"""Cedar asked about everything there is, with nothing shared, cut or remembered: what an engine has to agree with."""

import json
from collections.abc import Collection, Mapping

import cedarpy

from arborgate.policies.context import UNTOLD, find_login_age
from arborgate.policies.engine import LoadedPolicies
from arborgate.policies.model import (
    COUNTED,
    INSTALLATION,
    NO_SCOPE,
    OUTSIDE,
    Action,
    ActionGroup,
    Basis,
    Channel,
    Decision,
    Question,
    Resource,
    ResourceType,
)
from arborgate.policies.surroundings import Surroundings

_OF_LOGINS = (ActionGroup.APPROVE, ActionGroup.PROPOSE)


def is_allowed(loaded: LoadedPolicies, question: Question, surroundings: Surroundings) -> bool:
    """Whether every resource of the question is allowed by the set."""
    return bool(question.resources) and all(
        decide_plainly(loaded, question, resource, dict(context), surroundings).allowed
        for resource, context in question.each()
    )


def decide_plainly(
    loaded: LoadedPolicies, question: Question, resource: Resource, counted: Mapping[str, object], around: Surroundings
) -> Decision:
    """The decision about one resource; an error is told without its text."""
    caller, action = question.caller, question.action
    lists = resource == INSTALLATION and action.group is ActionGroup.READ
    apps = {each.id for each in _above(resource) if each.type is ResourceType.APP}
    if caller.within:
        good = action is not Action.RECORD_SEARCH if lists else caller.within in apps
        if not good or (action.group is ActionGroup.DELEGATE and not lists):
            return OUTSIDE
    if any(group is action.group for group, _ in caller.withheld):
        return NO_SCOPE
    roles = caller.roles | {role for role, app in caller.grants if lists or app in apps}
    direct = caller.channel in (Channel.PAGES, Channel.TERMINAL, Channel.APPLIER)
    context: dict[str, object] = {
        "actors": list(caller.actors),
        "agent": caller.agent,
        "bound": caller.binding.bound,
        "channel": str(caller.channel),
        "interactive": caller.channel in (Channel.PAGES, Channel.TERMINAL),
        "itself": caller.itself,
        "strict": not lists and _is_strict(_find_environments([resource])),
        "trust": str(around.agents.trust(caller.agent, caller.actors, direct=direct)),
        **{name: counted.get(name, UNTOLD.get(name, 2**53)) for name in COUNTED.get(action, ())},
    }
    if action.group in (*_OF_LOGINS, ActionGroup.APPLY):
        nearest = _find_environments([resource])
        season = around.calendar.season(nearest[0].id if nearest else "", frozenset(apps), question.at)
        context["calendar"] = {"closed": season.closed, "frozen": season.frozen, "off_hours": season.off_hours}
    if action.group in _OF_LOGINS:
        context |= {"acr": caller.acr, "login_age": find_login_age(caller, question.at)}
    person = {
        "uid": {"type": "Person", "id": caller.key},
        "attrs": {"key": caller.key, "issuer": caller.issuer, "name": caller.name},
        "parents": [
            *({"type": "Role", "id": role} for role in roles),
            *({"type": "Group", "id": group} for group in caller.groups),
        ],
    }
    answer = cedarpy.is_authorized(
        {
            "principal": person["uid"],
            "action": {"type": "Action", "id": str(action)},
            "resource": {"type": str(resource.type), "id": resource.id},
            "context": context,
        },
        "\n".join(statement.text for statement in loaded.statements.values()),
        cedarpy.Entities.from_json_str(json.dumps([person, *_ACTIONS, *_entities_of(resource)])),
        loaded.schema,
    )
    if answer.diagnostics.errors:
        return Decision(False, Basis.ERROR)
    named = answer.diagnostics.id_annotations_by_reason
    policies = tuple(sorted(named[reason] for reason in answer.diagnostics.reasons))
    if answer.allowed:
        return Decision(True, Basis.PERMIT, policies)
    return Decision(False, Basis.FORBID if policies else Basis.NO_PERMIT, policies)


_ACTIONS = [
    {
        "uid": {"type": "Action", "id": str(action)},
        "attrs": {},
        "parents": [{"type": "Action", "id": str(action.group)}],
    }
    for action in Action
]


def _entities_of(resource: Resource) -> Collection[dict[str, object]]:
    return {each.uid: _describe(each) for each in _above(resource)}.values()


def _above(resource: Resource) -> list[Resource]:
    return [resource, *(each for parent in resource.parents for each in _above(parent))]


def _find_environments(level: list[Resource]) -> list[Resource]:
    """By level: those of the first that has any."""
    found = [each for each in level if each.type is ResourceType.ENVIRONMENT]
    return found or (_find_environments([parent for each in level for parent in each.parents]) if level else [])


def _is_strict(environments: list[Resource]) -> bool:
    return not environments or any(dict(each.attributes)["strict"] is True for each in environments)


def _describe(resource: Resource) -> dict[str, object]:
    return {
        "uid": {"type": str(resource.type), "id": resource.id},
        "attrs": {name: list(value) if isinstance(value, tuple) else value for name, value in resource.attributes},
        "parents": [{"type": str(parent.type), "id": parent.id} for parent in resource.parents],
    }
