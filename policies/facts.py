"""Facts: what a decision was made on, as small pieces of JSON that are named by their content, so that it can be made again.

A caller is one piece, a resource another, with the resources above it named by theirs: the top of the tree is told once.
Everything that a policy can look at is in them. Sessions are not, nor is anything else that no policy sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, cast

import orjson
from pydantic import ValidationError

from .agents import Agents
from .calendar import Calendar
from .model import (
    ActionGroup,
    Attribute,
    Binding,
    Caller,
    Channel,
    Resource,
    ResourceType,
)
from .surroundings import Surroundings

VERSION: Final = 1
"""Of the form that facts are written in."""

_DIGITS: Final = 32
"""Of a digest: 128 bits, hexadecimal."""

Json = Mapping[str, object]
Clean = Callable[[str], str]


class Unreadable(ValueError):
    """Facts that this version can't make what they tell of."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One piece: its digest (the first 128 bits of SHA-256 over its canonical JSON, hexadecimal), what it tells, and the
    pieces that it names."""

    digest: str
    told: Json
    above: tuple[Facts, ...] = ()


def digest_facts(told: Json) -> str:
    """The name of a piece; raises `TypeError` for what JSON can't hold."""
    canonical = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()[:_DIGITS]


def describe_caller(caller: Caller, clean: Clean = str) -> Facts:
    """The facts of a caller. `clean` redacts what comes from outside; `altered` then names the fields that it changed."""
    name = clean(caller.name)
    told: dict[str, object] = {
        "issuer": caller.issuer,
        "subject": caller.subject,
        "name": name,
        "groups": sorted(caller.groups),
        "roles": sorted(caller.roles),
        "grants": sorted(list(pair) for pair in caller.grants),
        "agent": caller.agent,
        "actors": list(caller.actors),
        "channel": str(caller.channel),
        "itself": caller.itself,
        "binding": str(caller.binding),
        "acr": caller.acr,
        "authenticated_at": caller.authenticated_at,
        "within": caller.within,
        "withheld": [[str(group), scope] for group, scope in caller.withheld],
        "altered": [] if name == caller.name else ["name"],
    }
    return _facts("caller", told)


def describe_resource(resource: Resource, clean: Clean = str) -> Facts:
    """The facts of a resource and of all above it. `clean` redacts, and `altered` names what it changed: `id`, or
    attributes."""
    name = clean(resource.id)
    attributes = {key: _cleaned(value, clean) for key, value in resource.attributes}
    altered = [key for key, value in resource.attributes if attributes[key] != value]
    above = tuple(describe_resource(parent, clean) for parent in resource.parents)
    told: dict[str, object] = {
        "type": str(resource.type),
        "id": name,
        "in": [parent.digest for parent in above],
        "attributes": attributes,
        "altered": sorted([*altered, *(["id"] if name != resource.id else [])]),
    }
    return _facts("resource", told, above)


def describe_surroundings(surroundings: Surroundings) -> Facts:
    """The facts of what the settings tell the policies: all agents and the whole calendar."""
    told: dict[str, object] = {
        each.name: getattr(surroundings, each.name).model_dump(mode="json") for each in fields(surroundings)
    }
    return _facts("surroundings", told)


def caller_from(told: Json) -> Caller:
    """The caller that facts tell of; raises `Unreadable`."""
    _require(told, "caller")
    try:
        return Caller(
            issuer=_text(told, "issuer"),
            subject=_text(told, "subject"),
            name=_text(told, "name"),
            groups=frozenset(_texts(told, "groups")),
            roles=frozenset(_texts(told, "roles")),
            agent=_text(told, "agent"),
            channel=Channel(_text(told, "channel")),
            actors=_texts(told, "actors"),
            authenticated_at=int(cast("int", told.get("authenticated_at", 0))),
            itself=bool(told.get("itself", False)),
            binding=Binding(_text(told, "binding")),
            acr=_text(told, "acr"),
            grants=frozenset((role, app) for role, app in _pairs(told, "grants")),
            within=_text(told, "within"),
            withheld=tuple((ActionGroup(group), scope) for group, scope in _pairs(told, "withheld")),
        )
    except (TypeError, ValueError) as error:
        raise Unreadable(f"the facts of a caller are not what this version writes: {error}") from error


def resource_from(told: Json, find: Callable[[str], Resource]) -> Resource:
    """The resource that facts tell of, where `find` gives those above it by digest; raises `Unreadable`."""
    _require(told, "resource")
    parents = tuple(find(digest) for digest in _texts(told, "in"))
    try:
        attributes = cast("Mapping[str, Attribute | list[str]]", told.get("attributes", {}))
        return Resource(
            ResourceType(_text(told, "type")),
            _text(told, "id"),
            parents,
            tuple((key, tuple(each) if isinstance(each, list) else each) for key, each in sorted(attributes.items())),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"the facts of a resource are not what this version writes: {error}") from error


def surroundings_from(told: Json) -> Surroundings:
    """The surroundings that facts tell of; raises `Unreadable` also for settings of another version."""
    _require(told, "surroundings")
    try:
        return Surroundings(
            agents=Agents.model_validate(told.get("agents", {})),
            calendar=Calendar.model_validate(told.get("calendar", {})),
        )
    except ValidationError as error:
        raise Unreadable("the settings of then are not what this version reads") from error


def above_of(told: Json) -> tuple[str, ...]:
    """The digests of the resources right above the one that facts tell of."""
    return _texts(told, "in")


def altered(told: Json) -> tuple[str, ...]:
    """The fields or attributes that were redacted before they were noted."""
    return _texts(told, "altered")


def _facts(kind: str, told: Mapping[str, object], above: tuple[Facts, ...] = ()) -> Facts:
    """What is empty is left out, so that a field that comes later changes no digest where it is not used."""
    kept = {name: told[name] for name in sorted(told) if told[name] not in ("", [], {}, False)}
    kept = {"kind": kind, "v": VERSION, **kept}
    return Facts(digest_facts(kept), kept, above)


def _cleaned(value: Attribute, clean: Clean) -> Attribute:
    if isinstance(value, str):
        return clean(value)
    return tuple(clean(each) for each in value) if isinstance(value, tuple) else value


def _require(told: Json, kind: str) -> None:
    if told.get("kind") != kind:
        raise Unreadable(f"the facts are not those of a {kind}")
    if told.get("v") != VERSION:
        raise Unreadable(f"the facts are of version {told.get('v')}, and this version reads {VERSION}")


def _text(told: Json, name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _texts(told: Json, name: str) -> tuple[str, ...]:
    value = told.get(name, ())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{name} is no list")
    return tuple(str(each) for each in value)


def _pairs(told: Json, name: str) -> list[tuple[str, str]]:
    value = told.get(name, ())
    if not isinstance(value, Sequence):
        raise TypeError(f"{name} is no list")
    return [(str(first), str(second)) for first, second in value]
