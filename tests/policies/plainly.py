"""Cedar asked about everything there is, with nothing shared, cut or remembered: what an engine has to agree with."""

import cedarpy

from arborgate.policies.context import find_login_age
from arborgate.policies.engine import LoadedPolicies
from arborgate.policies.loader import SCHEMA
from arborgate.policies.model import (
    COUNTED,
    INSTALLATION,
    Action,
    ActionGroup,
    Channel,
    Question,
    Resource,
    ResourceType,
)
from arborgate.policies.surroundings import Surroundings

_OF_LOGINS = (ActionGroup.APPROVE, ActionGroup.PROPOSE)


def is_allowed(loaded: LoadedPolicies, question: Question, surroundings: Surroundings) -> bool:
    """Whether every resource of the question is allowed by the set."""
    return bool(question.resources) and all(
        _is_allowed(loaded, question, resource, dict(context), surroundings) for resource, context in question.each()
    )


def _is_allowed(
    loaded: LoadedPolicies, question: Question, resource: Resource, counted: dict[str, object], around: Surroundings
) -> bool:
    caller, action = question.caller, question.action
    lists = resource == INSTALLATION and action.group is ActionGroup.READ
    apps = {each.id for each in _above(resource) if each.type is ResourceType.APP}
    if caller.within:
        good = action is not Action.RECORD_SEARCH if lists else caller.within in apps
        if not good or (action.group is ActionGroup.DELEGATE and not lists):
            return False
    if any(group is action.group for group, _ in caller.withheld):
        return False
    roles = caller.roles | {role for role, app in caller.grants if lists or app in apps}
    direct = caller.channel in (Channel.PAGES, Channel.TERMINAL, Channel.APPLIER)
    context: dict[str, object] = {
        "actors": list(caller.actors),
        "agent": caller.agent,
        "bound": caller.binding.bound,
        "channel": str(caller.channel),
        "interactive": caller.channel in (Channel.PAGES, Channel.TERMINAL),
        "itself": caller.itself,
        "strict": not lists and _find_strict([resource]),
        "trust": str(around.agents.trust(caller.agent, caller.actors, direct=direct)),
        **{name: counted.get(name, 2**53) for name in COUNTED.get(action, ())},
    }
    if action.group in (*_OF_LOGINS, ActionGroup.APPLY):
        environments = [each.id for each in _above(resource) if each.type is ResourceType.ENVIRONMENT]
        season = around.calendar.season(environments[0] if environments else "", frozenset(apps), question.at)
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
        [person, *({each.uid: _describe(each) for each in _above(resource)}).values()],
        SCHEMA.read_text(),
    )
    return answer.allowed and not answer.diagnostics.errors


def _above(resource: Resource) -> list[Resource]:
    return [resource, *(each for parent in resource.parents for each in _above(parent))]


def _find_strict(level: list[Resource]) -> bool:
    """By level: the first that has environments says it."""
    if not level:
        return True
    found = [dict(each.attributes)["strict"] is True for each in level if each.type is ResourceType.ENVIRONMENT]
    return any(found) if found else _find_strict([parent for each in level for parent in each.parents])


def _describe(resource: Resource) -> dict[str, object]:
    return {
        "uid": {"type": str(resource.type), "id": resource.id},
        "attrs": {name: list(value) if isinstance(value, tuple) else value for name, value in resource.attributes},
        "parents": [{"type": str(parent.type), "id": parent.id} for parent in resource.parents],
    }
