"""What is asked of, as the engine knows it: a resource's place in the tree, and what policies can see of it there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from .context import Attributes
from .model import Action, ActionGroup, Resource, ResourceType
from .narrowing import find_narrowings
from .sight import Sight, Uid

_NOWHERE = 2**53
"""The distance to an environment where there is none above."""

_NOTHING: frozenset[Uid] = frozenset()

_MOST_PLACES = 65_536
_MOST_VIEWS = 16_384
_MOST_LENSES = 64


class Lens:
    """What some policies look at of resources. Equal ones are one object, so that comparing them costs nothing."""

    def __init__(self, sight: Sight, strict: bool) -> None:
        self.attributes = find_narrowings(sight, "resource", ())
        self.named = sight.named
        self.ids = frozenset(name for _, name in sight.named)
        self.whole = "resource" in sight.whole
        self.strict = strict
        self.reads = self.whole or bool(self.attributes)

    def keep(self, attributes: Attributes) -> Attributes:
        """What is read of the attributes."""
        if self.whole:
            return attributes
        return tuple([pair for pair in attributes if pair[0] in self.attributes]) if self.attributes else ()

    def narrow(self, attributes: Attributes) -> Hashable:
        """The attributes as far as the policies can tell them apart."""
        if self.whole:
            return tuple([(name, type(value), value) for name, value in attributes])
        if not self.attributes:
            return ()
        return tuple([(name, self.attributes[name](value)) for name, value in attributes if name in self.attributes])


find_lens = lru_cache(4_096)(Lens)
"""The lens of a sight that is limited to resources; `strict`: also of how strict their environment is."""

_TYPES = frozenset(map(str, ResourceType))


def limit_to_resources(sight: Sight) -> Sight:
    """What is looked at of resources."""
    return Sight(
        readings=frozenset(reading for reading in sight.readings if reading.variable == "resource"),
        named=frozenset(uid for uid in sight.named if uid[0] in _TYPES),
        whole=sight.whole & {"resource"},
    )


@dataclass(slots=True, eq=False)
class View:
    """What policies can see of some resources: of which type they are, which entities that they name they are or are
    in, and whether they are `strict` (None where no policy asks). Equal views are one object."""

    type: ResourceType
    seen: frozenset[Uid]
    above: frozenset[Uid]
    strict: bool | None


class Stem:
    """What resources with the same parents have in common. It is found out when it is asked for: often no policy asks."""

    def __init__(self, parents: Sequence[Place]) -> None:
        self._parents = parents

    @cached_property
    def above(self) -> frozenset[Uid]:
        """The entities above."""
        uids = frozenset([(str(place.resource.type), place.resource.id) for place in self._parents])
        return uids.union(*[place.stem.above for place in self._parents])

    @cached_property
    def apps(self) -> frozenset[str]:
        """The ids of the apps above."""
        return frozenset[str]().union(*[place.apps for place in self._parents])

    @cached_property
    def distance(self) -> int:
        """The number of steps up to the nearest environment."""
        near = min([place.distance for place in self._parents], default=_NOWHERE)
        return near + 1 if near < _NOWHERE else _NOWHERE

    @cached_property
    def environment(self) -> str:
        """The id of the nearest environment, `""` where there is none."""
        return next((place.environment for place in self._nearest), "")

    @cached_property
    def strict(self) -> bool:
        """Whether the nearest environment is strict; what is in none is treated like production."""
        nearest = self._nearest
        return not nearest or any(place.strict for place in nearest)

    @property
    def _nearest(self) -> Sequence[Place]:
        if self.distance == _NOWHERE:
            return ()
        return [place for place in self._parents if place.distance == self.distance - 1]


@dataclass(slots=True, eq=False)
class Place:
    """A resource and where it is in the tree."""

    resource: Resource
    stem: Stem

    @property
    def apps(self) -> frozenset[str]:
        """The ids of the apps that the resource is or is below."""
        apps = self.stem.apps
        return apps | {self.resource.id} if self.resource.type is ResourceType.APP else apps

    @property
    def environment(self) -> str:
        """The id of the nearest environment, `""` where there is none."""
        return self.resource.id if self.resource.type is ResourceType.ENVIRONMENT else self.stem.environment

    @property
    def strict(self) -> bool:
        """Whether the nearest environment is strict, or there is none."""
        if self.resource.type is ResourceType.ENVIRONMENT:
            return dict(self.resource.attributes).get("strict") is not False
        return self.stem.strict

    def lists(self, action: Action) -> bool:
        """Whether the action here is to list."""
        return lists(action, self.resource)

    @property
    def distance(self) -> int:
        """The number of steps up to the nearest environment."""
        return 0 if self.resource.type is ResourceType.ENVIRONMENT else self.stem.distance


@dataclass(slots=True, eq=False)
class _Gallery:
    """What was seen through one lens: views by the `id()` of the resource, and what they are made of."""

    views: dict[int, View] = field(default_factory=dict)
    above: dict[Stem, frozenset[Uid]] = field(default_factory=dict)
    shared: dict[Hashable, View] = field(default_factory=dict)


class Places:
    """The places of resources, and what policies see of them. They are remembered by the object: an entry holds on to its
    resource, so that its `id()` stays its own, until all are forgotten together."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}
        self._stems: dict[tuple[int, ...], Stem] = {}
        self._galleries: dict[Lens, _Gallery] = {}

    def find(self, resource: Resource) -> Place:
        place = self._places.get(id(resource))
        if place is None:
            of = tuple(map(id, resource.parents))
            stem = self._stems.get(of)
            if stem is None:
                stem = self._stems[of] = Stem([self.find(parent) for parent in resource.parents])
            if len(self._places) >= _MOST_PLACES:
                self._forget()
            place = self._places[id(resource)] = Place(resource, stem)
        return place

    def look(self, lens: Lens, resources: Iterable[Resource]) -> list[View]:
        """What can be seen of each resource through the lens."""
        gallery = self._galleries.get(lens)
        if gallery is None:
            if len(self._galleries) >= _MOST_LENSES:
                del self._galleries[next(iter(self._galleries))]
            gallery = self._galleries[lens] = _Gallery()
        views = gallery.views
        return [views.get(id(each)) or self._see(gallery, lens, each) for each in resources]

    def _see(self, gallery: _Gallery, lens: Lens, resource: Resource) -> View:
        place = self.find(resource)
        stem = place.stem
        above = gallery.above.get(stem)
        if above is None:
            named = lens.named & stem.above if lens.named else _NOTHING
            above = gallery.above[stem] = stem.above if lens.whole else named
        itself = lens.whole or (resource.id in lens.ids and (resource.type, resource.id) in lens.named)
        strict = place.strict if lens.strict else None
        key = (resource.type, above, strict, itself and resource.id, lens.narrow(resource.attributes))
        view = gallery.shared.get(key)
        if view is None:
            seen = above | {(str(resource.type), resource.id)} if itself else above
            if len(gallery.shared) >= _MOST_VIEWS:
                gallery.shared.clear()
            view = gallery.shared[key] = View(resource.type, seen, above, strict)
        gallery.views[id(resource)] = view
        return view

    def _forget(self) -> None:
        self._places.clear()
        self._stems.clear()
        for gallery in self._galleries.values():
            gallery.views.clear()
            gallery.above.clear()


def lists(action: Action, resource: Resource) -> bool:
    """Whether the action is to list: what is read of the whole installation is judged again, row by row."""
    return resource.type is ResourceType.INSTALLATION and action.group is ActionGroup.READ
