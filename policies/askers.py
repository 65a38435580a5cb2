"""Who asks, as the engine knows them: of a caller with the roles they have at a place, what the policies can see."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .agents import Agents
from .context import Told, names_of, tell_caller
from .model import Action, ActionGroup, Caller
from .parts import PERSON_ATTRIBUTES, Outlook, Part
from .places import Place, lists
from .recent import Recent
from .sight import Uid

_EVERYWHERE: frozenset[str] = frozenset()
"""The apps at which roles were granted that hold here, where none were."""

_MOST_SETS = 64
"""How many sets of roles that may hold together somewhere are tried."""


@dataclass(slots=True, eq=False)
class Asker:
    """All of a caller that a decision about one action can depend on, but the time. Equal askers are one object, so that
    comparing them costs nothing; they are told apart by no policy, so the name and the context are of one of them."""

    outlook: Outlook
    name: str
    attributes: Told
    parents: frozenset[Uid]
    context: Told

    def entity(self) -> dict[str, object]:
        """The person as an entity, in the form of Cedar's JSON."""
        return {
            "uid": {"type": "Person", "id": self.name},
            "attrs": self.attributes,
            "parents": [{"type": kind, "id": name} for kind, name in self.parents],
        }


@dataclass(slots=True, eq=False)
class Standing:
    """A caller: what they were granted at which apps, as which asker they were met about which action below which of these
    apps, and what their credential is not good for. `plain`: they ask the same everywhere, and nothing is kept from
    them."""

    caller: Caller
    granted: Mapping[str, frozenset[str]]
    apps: frozenset[str]
    withheld: frozenset[ActionGroup]
    plain: bool
    met: dict[tuple[Action, frozenset[str]], Asker] = field(default_factory=dict)

    def apps_at(self, action: Action, place: Place) -> frozenset[str]:
        """The apps of which the roles granted hold at the place."""
        return self.apps if lists(action, place.resource) else place.apps & self.apps

    def roles(self, apps: Iterable[str]) -> frozenset[str]:
        """The roles where what was granted at these apps holds."""
        return self.caller.roles.union(*(self.granted[app] for app in apps))

    def within(self, action: Action, place: Place) -> bool:
        """Whether the credential is good for this there: one for a single app opens that app, what is below it or its
        own, and the lists, but not the record, which knows no apps. It makes no other tokens, or it would never end."""
        inside = self.caller.within
        if not inside:
            return True
        if lists(action, place.resource):
            return action is not Action.RECORD_SEARCH
        return inside in place.apps and action.group is not ActionGroup.DELEGATE


class Askers:
    """The callers that were met lately."""

    def __init__(self, agents: Agents, parts: Mapping[Action, Part]) -> None:
        self._agents = agents
        self._parts = parts
        self._standings: Recent[int, Standing] = Recent(4_096)
        self._askers: Recent[Hashable, Asker] = Recent(16_384)

    def meet(self, caller: Caller) -> Standing:
        """The caller's standing, remembered by the object: the entry holds on to it, so its `id()` stays its own. Raises
        `UnicodeEncodeError` for a name that is not text."""
        standing = self._standings.get(id(caller))
        if standing is None:
            caller.key.encode()
            granted: dict[str, frozenset[str]] = {}
            for role, app in caller.grants:
                granted[app] = granted.get(app, _EVERYWHERE) | {role}
            withheld = frozenset(group for group, _ in caller.withheld)
            plain = not (granted or withheld or caller.within)
            standing = Standing(caller, granted, frozenset(granted), withheld, plain)
            self._standings.put(id(caller), standing)
        return standing

    def everywhere(self, standing: Standing, action: Action) -> Asker:
        """The caller with the roles that they have at every place."""
        asker = standing.met.get((action, _EVERYWHERE))
        if asker is None:
            asker = standing.met[action, _EVERYWHERE] = self._find(standing.caller, action, standing.caller.roles)
        return asker

    def at(self, standing: Standing, action: Action, place: Place) -> Asker:
        """The caller with the roles that hold at the place: those granted at an app hold there and below it. A list
        shows what may be seen, so any granted role opens it."""
        if not standing.apps:
            return self.everywhere(standing, action)
        apps = standing.apps_at(action, place)
        asker = standing.met.get((action, apps))
        if asker is None:
            asker = standing.met[action, apps] = self._find(standing.caller, action, standing.roles(apps))
        return asker

    def anywhere(self, standing: Standing, action: Action) -> Iterator[Asker | None]:
        """The caller as they may be met somewhere, with each set of roles that may hold together as far as policies name
        them, that of no app first. None at the end when there are too many to try."""
        named = self._parts[action].roles
        sets = {standing.caller.roles: None}
        for granted in {named & each for each in standing.granted.values()}:
            sets |= dict.fromkeys([each | granted for each in sets])
            if len(sets) > _MOST_SETS:
                break
        for each in sets:
            yield self._find(standing.caller, action, each)
        if len(sets) > _MOST_SETS:
            yield None

    def describe(self, standing: Standing, action: Action, place: Place) -> Asker:
        """The caller at the place with all that there is to say of them, whoever may read it."""
        caller, outlook = standing.caller, self.at(standing, action, place).outlook
        parents = _parents(caller, standing.roles(standing.apps_at(action, place)))
        context = tell_caller(caller, self._agents, names_of(action))
        return Asker(outlook, caller.key, tell_person(caller, PERSON_ATTRIBUTES), parents, context)

    def _find(self, caller: Caller, action: Action, roles: frozenset[str]) -> Asker:
        part = self._parts[action]
        recognised = part.recognise(caller.key, caller.groups, roles)
        outlook = part.outlook(recognised)
        itself = frozenset({("Person", caller.key)})
        seen = itself | _parents(caller, roles) if outlook.whole else recognised & outlook.named
        person = tell_person(caller, outlook.principal)
        context = tell_caller(caller, self._agents, outlook.context)
        key = (
            outlook,
            seen,
            *[outlook.principal[name](value) for name, value in person.items()],
            *[outlook.context[name](value) for name, value in context.items()],
        )
        asker = self._askers.get(key)
        if asker is None:
            name = caller.key if itself <= seen else part.stand_in
            asker = Asker(outlook, name, person, seen - itself, context)
            self._askers.put(key, asker)
        return asker


def tell_person(caller: Caller, names: Iterable[str]) -> dict[str, str]:
    """Those of the attributes of a person."""
    return {name: getattr(caller, name) for name in names}


def _parents(caller: Caller, roles: frozenset[str]) -> frozenset[Uid]:
    return frozenset([*(("Group", name) for name in caller.groups), *(("Role", name) for name in roles)])
