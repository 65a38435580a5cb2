"""Asking Cedar: a question in its words, and its answer in ours."""

from __future__ import annotations

import json
from collections.abc import Iterable

import cedarpy
import orjson

from .askers import Asker
from .context import Attributes, Told
from .model import Action, Basis, Decision, Resource
from .places import View
from .sight import Uid

Posed = tuple[dict[str, object], cedarpy.Entities]
"""A question in the form that Cedar takes, and the entities that it is about."""

NOTHING_PERMITS = Decision(allowed=False, basis=Basis.NO_PERMIT)


def ask(asker: Asker, resource: Resource, view: View, context: Told) -> Decision:
    """What the policies decide of a resource, seen as the asker's outlook sees it."""
    outlook = asker.outlook
    policies = outlook.at(view.seen)
    if policies is None:  # there is none that could be about this
        return NOTHING_PERMITS
    entities = _find_person(asker)
    if view.above or outlook.lens.reads:
        entities = _add(entities, _describe(resource, outlook.lens.keep(resource.attributes), view.above))
    answer = cedarpy.is_authorized(pose(asker.name, outlook.part.action, resource, context), policies, entities)
    found = answer.diagnostics
    # Cedar leaves out a policy that fails, a forbid as well: what it decides without it is not an answer.
    if found.errors or answer.decision is cedarpy.Decision.NoDecision:
        return Decision(allowed=False, basis=Basis.ERROR, error="; ".join(found.errors) or "no decision")
    reasons = tuple(sorted(found.reasons))
    if answer.allowed:
        return Decision(allowed=True, basis=Basis.PERMIT, policies=reasons)
    return Decision(allowed=False, basis=Basis.FORBID, policies=reasons) if reasons else NOTHING_PERMITS


def _find_person(asker: Asker) -> cedarpy.Entities:
    """The entities of a question about nothing yet: the same for all who are in the same groups and roles."""
    part = asker.outlook.part
    key = (asker.name, asker.parents, *asker.attributes.items())
    entities = part.people.get(key)
    if entities is None:
        entities = _add(part.entities, asker.entity())
        part.people.put(key, entities)
    return entities


def ask_partly(asker: Asker, context: Told) -> bool:
    """Whether the policies could allow this of some resource; raises `ValueError` where that can't be decided."""
    part = asker.outlook.part
    answer = cedarpy.is_authorized_partial(
        {
            "principal": f"Person::{json.dumps(asker.name, ensure_ascii=False)}",  # it takes the principal as text alone
            "action": f'Action::"{part.action}"',
            "resource": None,
            "context": dict(context),
        },
        asker.outlook.policies,
        _json([part.action_entity, asker.entity()]),
    )
    if answer.diagnostics.errors:
        raise ValueError("; ".join(answer.diagnostics.errors))
    return answer.decision is not cedarpy.Decision.Deny


def pose(person: str, action: Action, resource: Resource, context: Told) -> dict[str, object]:
    """The question in the form that Cedar takes."""
    return {
        "principal": {"type": "Person", "id": person},
        "action": {"type": "Action", "id": str(action)},
        "resource": {"type": str(resource.type), "id": resource.id},
        "context": _json(context),
    }


def pose_whole(asker: Asker, resource: Resource, above: Iterable[Uid], context: Told) -> Posed:
    """The question and all that there is to know for it, for asking policies one by one."""
    part = asker.outlook.part
    entities = _add(part.entities, asker.entity(), _describe(resource, resource.attributes, above))
    return pose(asker.name, part.action, resource, context), entities


def _describe(resource: Resource, attributes: Attributes, above: Iterable[Uid]) -> dict[str, object]:
    return {
        "uid": {"type": str(resource.type), "id": resource.id},
        "attrs": dict(attributes),
        "parents": [{"type": kind, "id": name} for kind, name in above],
    }


def _add(entities: cedarpy.Entities, *added: dict[str, object]) -> cedarpy.Entities:
    return entities.with_added_json_str(_json(added))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
