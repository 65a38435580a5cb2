"""What is asked of, as the engine knows it: a resource's place in the tree, and what the policies can see of it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .model import Action, ActionGroup, Attribute, Resource, ResourceType
from .recent import Recent
from .sight import Sight, Uid

Attributes = tuple[tuple[str, Attribute], ...]

_NOWHERE = 2**53
"""The distance to an environment where there is none above."""

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the policies can see of some resources. Equal views are one object, so that comparing them costs nothing."""

    attributes: Attributes
    above: frozenset[Uid]
    strict: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A resource as the engine knows it: its view, and what its children take from it. `visible` are the entities at or
    above it that policies name, `apps` the ids of the apps at or above it, `distance` the number of steps up to the
    environment that `strict` comes from, `environment` and `app` the nearest of each ("" where there is none)."""

    resource: Resource
    view: View
    visible: frozenset[Uid]
    apps: frozenset[str]
    strict: bool
    distance: int
    environment: str
    app: str

    def lists(self, action: Action) -> bool:
        """Whether the action here is to list: what is read of the whole installation is judged again, row by row."""
        return self.resource.type is ResourceType.INSTALLATION and action.group is ActionGroup.READ


class Places:
    """The places of resources, by what one set of policies sees."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._places: Recent[int, Place] = Recent(65_536)
        self._views: Recent[tuple[object, ...], View] = Recent(16_384)

    def find(self, resource: Resource) -> Place:
        """The resource's place, remembered by the object: the entry holds on to it, so its `id()` stays its own."""
        place = self._places.get(id(resource))
        if place is None:
            place = self._make(resource)
            self._places.put(id(resource), place)
        return place

    def _make(self, resource: Resource) -> Place:
        sight = self._sight
        parents = [self.find(parent) for parent in resource.parents]
        above = frozenset[Uid]().union(*(parent.visible for parent in parents))
        apps = parents[0].apps if len(parents) == 1 else _NONE.union(*(parent.apps for parent in parents))
        if resource.type is ResourceType.APP:
            apps |= {resource.id}
        near_environment, near_app = _nearest(resource, parents)
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
        key = (resource.type, itself, exact(attributes), above, strict)
        view = self._views.get(key)
        if view is None:
            view = View(attributes, above, strict)
            self._views.put(key, view)
        return Place(resource, view, above | itself, apps, strict, distance, near_environment, near_app)


def _nearest(resource: Resource, parents: Sequence[Place]) -> tuple[str, str]:
    """The ids of the environment and of the app that the resource is, or is in."""
    environment = min((parent for parent in parents), key=lambda parent: parent.distance, default=None)
    app = next((parent.app for parent in parents if parent.app), "")
    match resource.type:
        case ResourceType.ENVIRONMENT:
            return resource.id, ""
        case ResourceType.APP:
            return environment.environment if environment else "", resource.id
        case _:
            return environment.environment if environment else "", app


def exact(attributes: Attributes) -> tuple[tuple[str, type, Attribute], ...]:
    """The attributes as part of a key: in Python `True == 1`, in Cedar not."""
    return tuple((name, type(value), value) for name, value in attributes)
