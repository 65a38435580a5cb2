"""The policies about one action, and which of them can matter to whom and where.

What a policy demands of who asks and what is asked of, in its scope or first thing in its conditions, is compared here
with the entities at hand: a policy whose demand is not met could neither hold nor fail, so Cedar need not be told of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cedarpy
import orjson
from cedarpy import pst

from .context import OF_CALLER, names_of
from .model import Action
from .narrowing import Narrowing, find_narrowings
from .places import find_lens, limit_to_resources
from .recent import Recent
from .sight import Sight, Uid, find_compared, find_sight, merge_sights, read_uid

_FEW = 16
"""Up to so many policies Cedar evaluates them all faster than a set without some of them is made."""

_MOST_SETS = 1_024
"""How many sets of policies are kept ready of each part."""

PERSON_ATTRIBUTES = ("issuer", "key", "name")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: what it looks at, of resources and besides, and of which entities who asks and what is asked of must be
    or be in one; None where it demands nothing that is known before."""

    template: pst.Template
    sight: Sight
    of_resources: Sight
    who: frozenset[Uid] | None
    what: frozenset[Uid] | None


def prepare(template: pst.Template) -> Policy:
    """The policy with what follows from its text."""
    sight = find_sight(template)
    return Policy(
        template,
        sight,
        limit_to_resources(sight),
        who=_find_demand("principal", template.principal, template.clauses),
        what=_find_demand("resource", template.resource, template.clauses),
    )


class Part:
    """The policies whose scope takes in one action: the others could not matter to it."""

    def __init__(self, action: Action, policies: Sequence[Policy]) -> None:
        self.action = action
        self.named = frozenset(uid for policy in policies for uid in policy.sight.named)
        self._groups = self._names("Group")
        self._policies = policies
        self._by_who = _Index([policy.who for policy in policies])
        self.by_what = _Index([policy.what for policy in policies])
        self._always = _look([policies[number] for number in self._by_who.always])
        self.people: Recent[Hashable, cedarpy.Entities] = Recent(_MOST_SETS)
        self._outlooks: Recent[frozenset[Uid], Outlook] = Recent(_MOST_SETS)
        self._chosen: Recent[frozenset[int], Outlook] = Recent(_MOST_SETS)
        self._sets: Recent[frozenset[int], cedarpy.PolicySet] = Recent(_MOST_SETS)

    @cached_property
    def policies(self) -> cedarpy.PolicySet:
        """All of them."""
        return self._make(range(len(self._policies)))

    @cached_property
    def entities(self) -> cedarpy.Entities:
        """What is the same in all questions: the action."""
        return cedarpy.Entities.from_json_str(orjson.dumps([self.action_entity]).decode())

    @property
    def action_entity(self) -> dict[str, object]:
        """The action and its group, in the form of Cedar's JSON."""
        parents = [{"type": "Action", "id": str(self.action.group)}]
        return {"uid": {"type": "Action", "id": str(self.action)}, "attrs": {}, "parents": parents}

    @cached_property
    def stand_in(self) -> str:
        """An id for persons that no policy names."""
        name = "caller"
        while ("Person", name) in self.named:
            name += "'"
        return name

    @cached_property
    def roles(self) -> frozenset[str]:
        """The roles that the policies name."""
        return self._names("Role")

    def recognise(self, key: str, groups: frozenset[str], roles: frozenset[str]) -> frozenset[Uid]:
        """The entities that the policies name among a person and what they are in."""
        found = [("Group", name) for name in self._groups & groups]
        found += [("Role", name) for name in self.roles & roles]
        if ("Person", key) in self.named:
            found.append(("Person", key))
        return frozenset(found)

    def outlook(self, seen: frozenset[Uid]) -> Outlook:
        """The policies that can matter to somebody of whom these entities were recognised."""
        outlook = self._outlooks.get(seen)
        if outlook is None:
            met = self._by_who.find(seen)
            chosen = self._by_who.always | met
            outlook = self._chosen.get(chosen)
            if outlook is None:
                sights = zip(self._always, _look([self._policies[number] for number in met]), strict=True)
                outlook = Outlook(self, chosen, *map(merge_sights, sights))
                self._chosen.put(chosen, outlook)
            self._outlooks.put(seen, outlook)
        return outlook

    def choose(self, chosen: frozenset[int]) -> cedarpy.PolicySet:
        """These of the policies, perhaps with others that can't matter then."""
        if len(self._policies) <= _FEW:
            return self.policies
        found = self._sets.get(chosen)
        if found is None:
            found = self._make(sorted(chosen))
            self._sets.put(chosen, found)
        return found

    def _make(self, numbers: Iterable[int]) -> cedarpy.PolicySet:
        templates = [self._policies[number].template for number in numbers]
        return cedarpy.PolicySet.from_pst(
            pst.PolicySet(templates={}, static_policies={each.id: each for each in templates}, template_links=())
        )

    def _names(self, kind: str) -> frozenset[str]:
        return frozenset(uid[1] for uid in self.named if uid[0] == kind)


class Outlook:
    """The policies of a part that can matter to some callers, and what they look at. Equal ones are one object."""

    def __init__(self, part: Part, chosen: frozenset[int], sight: Sight, of_resources: Sight) -> None:
        self.part = part
        self.named = sight.named
        self.whole = "principal" in sight.whole
        self.principal: Mapping[str, Narrowing] = find_narrowings(sight, "principal", PERSON_ATTRIBUTES)
        known = names_of(part.action)
        read = find_narrowings(sight, "context", known)
        self.context: Mapping[str, Narrowing] = {name: read[name] for name in read if name in known}
        self.moment = [name for name in self.context if name not in OF_CALLER and name != "strict"]
        self.lens = find_lens(of_resources, "strict" in self.context)
        self._chosen = chosen
        self._everywhere = chosen & part.by_what.always

    @cached_property
    def policies(self) -> cedarpy.PolicySet:
        """All of them."""
        return self.part.choose(self._chosen)

    def at(self, seen: frozenset[Uid]) -> cedarpy.PolicySet | None:
        """Those that can matter to what is, or is in, these entities; None when none can."""
        if len(self._chosen) <= _FEW:
            return self.policies if self._chosen else None
        chosen = self._everywhere | (self._chosen & self.part.by_what.find(seen))
        return self.part.choose(chosen) if chosen else None


class _Index:
    """Finds by entities which of many demands they meet; `always` are those that demand nothing."""

    def __init__(self, demands: Sequence[frozenset[Uid] | None]) -> None:
        self.always = frozenset(number for number, demand in enumerate(demands) if demand is None)
        self._by_entity: dict[Uid, list[int]] = {}
        for number, demand in enumerate(demands):
            for uid in demand or ():
                self._by_entity.setdefault(uid, []).append(number)

    def find(self, entities: frozenset[Uid]) -> frozenset[int]:
        """Which of the others they meet."""
        return frozenset().union(*[self._by_entity[uid] for uid in entities if uid in self._by_entity])


def _look(policies: Sequence[Policy]) -> tuple[Sight, Sight]:
    """What they look at, and of resources."""
    return merge_sights([each.sight for each in policies]), merge_sights([each.of_resources for each in policies])


def _find_demand(
    variable: str, scope: pst.PrincipalOrResourceConstraint, clauses: Sequence[pst.Clause]
) -> frozenset[Uid] | None:
    """What stands in the scope; else what stands first in the conditions, where nothing can fail before it is asked."""
    match scope:
        case pst.ScopeEq(entity=uid) | pst.ScopeIn(entity=uid) | pst.ScopeIsIn(entity=uid) if isinstance(
            uid, pst.EntityUid
        ):
            return frozenset({read_uid(uid)})
        case _:
            pass
    first = clauses[0].expr if clauses and isinstance(clauses[0], pst.When) else None
    while isinstance(first, pst.BinaryOp) and first.op == "and":
        first = first.left
    return find_compared(variable, first)
