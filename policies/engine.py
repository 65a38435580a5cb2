"""The engine: asks Cedar, and turns whatever comes back, errors included, into a decision."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import cedarpy
import orjson

from .model import (
    Action,
    ActionGroup,
    Attribute,
    Basis,
    Caller,
    Channel,
    Decision,
    Resource,
    ResourceType,
)
from .sight import Sight, Uid
from .statements import Location

NEVER = 2**53
"""The login age, in seconds, of somebody whose provider does not say when they logged in."""

_CLOCK_LEEWAY = 60
"""Seconds by which the provider's clock may be ahead; a login further in the future is none."""

_NOWHERE = 2**53
"""The distance to an environment where there is none above."""

_INTERACTIVE = frozenset({Channel.PAGES, Channel.TERMINAL})

_Extra = tuple[tuple[str, Attribute], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The policies whose scope takes in one action: the others could not matter to it. `reads` says whether any of them
    reads an attribute of the resource."""

    policies: cedarpy.PolicySet
    reads: bool


@dataclass(frozen=True, slots=True)
class LoadedPolicies:
    """A checked set of policies; `load_policies` makes it. `digest` is hexadecimal SHA-256 over all of its files."""

    parts: Mapping[Action, Part]
    schema: cedarpy.Schema
    sight: Sight
    digest: str
    locations: Mapping[str, Location]

    def location(self, policy_id: str) -> tuple[str, int]:
        """File and line of a policy, by its `@id`; raises `KeyError`."""
        found = self.locations[policy_id]
        return str(found.file), found.line


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """What the policies can see of some resources. Equal views are one object, so that comparing them costs nothing."""

    attributes: tuple[tuple[str, Attribute], ...]
    above: frozenset[Uid]
    strict: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """A resource as the engine knows it: its view, and what its children take from it. `visible` are the entities at or
    above it that policies name, `distance` the number of steps up to the environment that `strict` comes from."""

    resource: Resource
    view: _View
    visible: frozenset[Uid]
    strict: bool
    distance: int


class Engine:
    """Decides by one set of policies, on one thread. `clock` gives seconds since the epoch."""

    def __init__(self, loaded: LoadedPolicies, clock: Callable[[], float] = time.time) -> None:
        self._loaded = loaded
        self._clock = clock
        self._stand_in = "caller"
        while ("Person", self._stand_in) in loaded.sight.named:
            self._stand_in += "'"
        self._askers: _Recent[tuple[object, ...], cedarpy.Entities] = _Recent(4_096)
        self._places: _Recent[int, _Place] = _Recent(65_536)
        self._views: _Recent[tuple[object, ...], _View] = _Recent(16_384)
        self._decisions: _Recent[tuple[object, ...], Decision] = _Recent(65_536)
        self._possible: _Recent[tuple[object, ...], bool] = _Recent(16_384)

    @property
    def digest(self) -> str:
        """Which policies these are: the digest that records name."""
        return self._loaded.digest

    def decide(
        self, caller: Caller, action: Action, resource: Resource, context: _Extra = (), *, at: float | None = None
    ) -> Decision:
        """Whether the caller may do this, and by which policies. Never raises: an error while deciding is a denial.

        `context` adds attributes that the schema must know. `at` (seconds since the epoch, default now) is the moment
        that the age of a login is counted to: an approval is judged later as of the time it was given.
        """
        try:
            return self._decide(caller, action, self._place(resource), context, at)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in Cedar is not an Exception
            return _failed(error)

    def visible(
        self, caller: Caller, action: Action, resources: Sequence[Resource], context: _Extra = ()
    ) -> list[bool]:
        """One answer per resource, in order, the same as `decide` gives; what looks the same is decided once."""
        at = self._clock()
        answers: dict[_View, bool] = {}
        result: list[bool] = []
        for resource in resources:
            try:
                place = self._place(resource)
                answer = answers.get(place.view)
            except Exception:  # `decide` says why; here there is no room for a reason
                result.append(False)
                continue
            if answer is None:
                answer = self.decide(caller, action, resource, context, at=at).allowed
                answers[place.view] = answer
            result.append(answer)
        return result

    def could(self, caller: Caller, action: Action) -> bool:
        """Whether there can be any resource on which the caller may do this, having just logged in.

        It may say yes where in the end no resource fits, never no where one does."""
        key = (_key(caller), action)
        answer = self._possible.get(key)
        if answer is None:
            try:
                answer = any(self._could(caller, action, strict) for strict in (False, True))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # what cannot be decided is not offered
                return False
            self._possible.put(key, answer)
        return answer

    def _decide(self, caller: Caller, action: Action, place: _Place, extra: _Extra, at: float | None) -> Decision:
        if action.group is ActionGroup.APPROVE:  # the age of a login changes by itself: never from the cache
            age = _login_age(caller, self._clock() if at is None else at)
            return self._ask(caller, action, place, (*extra, ("login_age", age)))
        key = (_key(caller), action, place.view, _exact(extra))
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._ask(caller, action, place, extra)
            if decision.basis is not Basis.ERROR:  # what went wrong names this one resource
                self._decisions.put(key, decision)
        return decision

    def _ask(self, caller: Caller, action: Action, place: _Place, extra: _Extra) -> Decision:
        resource, view, part = place.resource, place.view, self._loaded.parts[action]
        uid = {"type": str(resource.type), "id": resource.id}
        entities = self._entities(caller, action)
        if view.above or part.reads:
            parents = [{"type": kind, "id": name} for kind, name in view.above]
            entity = {"uid": uid, "attrs": dict(view.attributes), "parents": parents}
            entities = entities.with_added_json_str(_json([entity]))
        answer = cedarpy.is_authorized(
            {
                "principal": {"type": "Person", "id": caller.key},
                "action": {"type": "Action", "id": str(action)},
                "resource": uid,
                "context": _json(_context(caller, view.strict, extra)),
            },
            part.policies,
            entities,
            self._loaded.schema,
        )
        found = answer.diagnostics
        # Cedar leaves out a policy that fails, a forbid as well: what it decides without it is not an answer.
        if found.errors or answer.decision is cedarpy.Decision.NoDecision:
            return Decision(allowed=False, basis=Basis.ERROR, error="; ".join(found.errors) or "no decision")
        policies = tuple(sorted(found.reasons))
        if answer.allowed:
            return Decision(allowed=True, basis=Basis.PERMIT, policies=policies)
        return Decision(allowed=False, basis=Basis.FORBID if policies else Basis.NO_PERMIT, policies=policies)

    def _could(self, caller: Caller, action: Action, strict: bool) -> bool:
        """Partial evaluation takes the principal as Cedar text, so a caller whom no policy names goes by a stand-in."""
        name = caller.key if ("Person", caller.key) in self._loaded.sight.named else self._stand_in
        extra: _Extra = (("login_age", 0),) if action.group is ActionGroup.APPROVE else ()
        answer = cedarpy.is_authorized_partial(
            {
                "principal": f"Person::{json.dumps(name, ensure_ascii=False)}",
                "action": f'Action::"{action}"',
                "resource": None,
                "context": _context(caller, strict, extra),
            },
            self._loaded.parts[action].policies,
            _json([_action(action), _person(caller, name)]),
            self._loaded.schema,
        )
        if answer.diagnostics.errors:
            raise ValueError("; ".join(answer.diagnostics.errors))
        return answer.decision is not cedarpy.Decision.Deny

    def _entities(self, caller: Caller, action: Action) -> cedarpy.Entities:
        """The part of a question that stays the same for all resources."""
        key = (_key(caller), action)
        entities = self._askers.get(key)
        if entities is None:
            entities = cedarpy.Entities.from_json_str(_json([_action(action), _person(caller, caller.key)]))
            self._askers.put(key, entities)
        return entities

    def _place(self, resource: Resource) -> _Place:
        """The resource's place, remembered by the object: the entry holds on to it, so its `id()` stays its own."""
        place = self._places.get(id(resource))
        if place is None:
            place = self._find_place(resource)
            self._places.put(id(resource), place)
        return place

    def _find_place(self, resource: Resource) -> _Place:
        sight = self._loaded.sight
        parents = [self._place(parent) for parent in resource.parents]
        above = frozenset[Uid]().union(*(parent.visible for parent in parents))
        if resource.type is ResourceType.ENVIRONMENT:
            distance, strict = 0, dict(resource.attributes).get("strict") is not False
        else:
            near = min((parent.distance for parent in parents), default=_NOWHERE)
            distance, strict = near + 1, any(parent.strict for parent in parents if parent.distance == near)
            if near >= _NOWHERE:  # in no environment: treated like production
                distance, strict = _NOWHERE, True
        attributes = tuple(
            (name, value) for name, value in resource.attributes if sight.whole or name in sight.attributes
        )
        uid = (str(resource.type), resource.id)
        itself = frozenset({uid}) if sight.sees(uid) else frozenset[Uid]()
        key = (resource.type, itself, _exact(attributes), above, strict)
        view = self._views.get(key)
        if view is None:
            view = _View(attributes, above, strict)
            self._views.put(key, view)
        return _Place(resource, view, above | itself, strict, distance)


def _key(caller: Caller) -> tuple[object, ...]:
    """All of a caller that a decision can depend on, but the time of the login."""
    return (
        caller.issuer,
        caller.subject,
        caller.name,
        caller.groups,
        caller.roles,
        caller.agent,
        caller.actors,
        caller.channel,
    )


def _exact(attributes: _Extra) -> tuple[tuple[str, type, Attribute], ...]:
    """The attributes as part of a key: in Python `True == 1`, in Cedar not."""
    return tuple((name, type(value), value) for name, value in attributes)


def _action(action: Action) -> dict[str, object]:
    parents = [{"type": "Action", "id": str(action.group)}]
    return {"uid": {"type": "Action", "id": str(action)}, "attrs": {}, "parents": parents}


def _person(caller: Caller, name: str) -> dict[str, object]:
    groups = [{"type": "Group", "id": group} for group in caller.groups]
    roles = [{"type": "Role", "id": role} for role in caller.roles]
    return {
        "uid": {"type": "Person", "id": name},
        "attrs": {"issuer": caller.issuer, "key": caller.key, "name": caller.name},
        "parents": groups + roles,
    }


def _context(caller: Caller, strict: bool, extra: _Extra) -> dict[str, object]:
    derived: dict[str, object] = {
        "actors": list(caller.actors),
        "agent": caller.agent,
        "channel": str(caller.channel),
        "interactive": caller.channel in _INTERACTIVE,
        "strict": strict,
    }
    for name, value in extra:
        if name in derived:
            raise ValueError(f"the context {name!r} is derived by the engine and can't be given")
        derived[name] = list(value) if isinstance(value, tuple) else value
    return derived


def _login_age(caller: Caller, now: float) -> int:
    if caller.authenticated_at <= 0:
        return NEVER
    age = int(now) - caller.authenticated_at
    return NEVER if age < -_CLOCK_LEEWAY else max(age, 0)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _failed(error: BaseException) -> Decision:
    return Decision(allowed=False, basis=Basis.ERROR, error=f"{type(error).__name__}: {error}")


K = TypeVar("K")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """The most recently used entries, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._entries[key] = value
        return value

    def put(self, key: K, value: V) -> None:
        if len(self._entries) >= self._limit:
            self._entries.pop(next(iter(self._entries)), None)
        self._entries[key] = value
