"""Who asks, as the engine knows them: a caller with the roles that they have at a place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .agents import Agents
from .model import Action, ActionGroup, Caller, Channel
from .places import Place
from .recent import Recent

_INTERACTIVE = frozenset({Channel.PAGES, Channel.TERMINAL})

_DIRECT = _INTERACTIVE | {Channel.APPLIER}
"""The doors that no agent stands at."""

_MOST_SETS = 64
"""How many sets of roles that may hold together somewhere are tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Asker:
    """All of a caller that a decision can depend on, but how they logged in, with the roles of one place. Equal askers
    are one object, so that comparing them costs nothing."""

    key: str
    person: Mapping[str, object]
    parents: tuple[tuple[str, str], ...]
    context: Mapping[str, object]

    def entity(self, name: str) -> dict[str, object]:
        """The person as an entity, in the form of Cedar's JSON, by that id."""
        return {
            "uid": {"type": "Person", "id": name},
            "attrs": self.person,
            "parents": [{"type": kind, "id": each} for kind, each in self.parents],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """A caller: as asker with the roles they have everywhere, what they were granted at which apps, as which asker they
    were met below which of these apps, and what their credential is not good for. `plain`: they ask the same everywhere,
    and nothing is kept from them."""

    caller: Caller
    everywhere: Asker
    granted: Mapping[str, frozenset[str]]
    apps: frozenset[str]
    met: dict[frozenset[str], Asker]
    withheld: frozenset[ActionGroup]
    plain: bool

    def within(self, action: Action, place: Place) -> bool:
        """Whether the credential is good for this there: one for a single app opens that app, what is below it or its
        own, and the lists, but not the record, which knows no apps. It makes no other tokens, or it would never end."""
        inside = self.caller.within
        if not inside:
            return True
        if place.lists(action):
            return action is not Action.RECORD_SEARCH
        return inside in place.apps and action.group is not ActionGroup.DELEGATE


class Askers:
    """The callers that were met lately."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._standings: Recent[int, Standing] = Recent(4_096)
        self._askers: Recent[tuple[object, ...], Asker] = Recent(4_096)

    def meet(self, caller: Caller) -> Standing:
        """The caller's standing, remembered by the object: the entry holds on to it, so its `id()` stays its own."""
        standing = self._standings.get(id(caller))
        if standing is None:
            granted: dict[str, frozenset[str]] = {}
            for role, app in caller.grants:
                granted[app] = granted.get(app, frozenset()) | {role}
            withheld = frozenset(group for group, _ in caller.withheld)
            plain = not (granted or withheld or caller.within)
            everywhere = self._find(caller, caller.roles)
            standing = Standing(caller, everywhere, granted, frozenset(granted), {}, withheld, plain)
            self._standings.put(id(caller), standing)
        return standing

    def at(self, standing: Standing, action: Action, place: Place) -> Asker:
        """The caller with the roles that hold at the place: those granted at an app hold there and below it. A list
        shows what may be seen, so any granted role opens it."""
        if not standing.apps:
            return standing.everywhere
        apps = standing.apps if place.lists(action) else place.apps & standing.apps
        asker = standing.met.get(apps)
        if asker is None:
            granted = (standing.granted[app] for app in apps)
            asker = standing.met[apps] = self._find(standing.caller, standing.caller.roles.union(*granted))
        return asker

    def anywhere(self, standing: Standing, roles: frozenset[str]) -> Iterator[Asker | None]:
        """The caller as they may be met somewhere, as far as these roles matter: with each set of roles that may hold
        together, that of no app first. None at the end when there are too many to try."""
        sets = {standing.caller.roles: None}
        for granted in {roles & each for each in standing.granted.values()}:
            sets |= dict.fromkeys([each | granted for each in sets])
            if len(sets) > _MOST_SETS:
                break
        for each in sets:
            yield self._find(standing.caller, each)
        if len(sets) > _MOST_SETS:
            yield None

    def _find(self, caller: Caller, roles: frozenset[str]) -> Asker:
        bound, interactive = caller.binding.bound, caller.channel in _INTERACTIVE
        key = (
            caller.issuer,
            caller.subject,
            caller.name,
            caller.groups,
            roles,
            caller.agent,
            caller.actors,
            caller.channel,
            bound,
            caller.itself,
        )
        asker = self._askers.get(key)
        if asker is None:
            asker = Asker(
                key=caller.key,
                person={"issuer": caller.issuer, "key": caller.key, "name": caller.name},
                parents=(*(("Group", group) for group in caller.groups), *(("Role", role) for role in roles)),
                context={
                    "actors": list(caller.actors),
                    "agent": caller.agent,
                    "bound": bound,
                    "channel": str(caller.channel),
                    "interactive": interactive,
                    "itself": caller.itself,
                    "trust": str(self._agents.trust(caller.agent, caller.actors, direct=caller.channel in _DIRECT)),
                },
            )
            self._askers.put(key, asker)
        return asker
