"""The engine: asks Cedar, and turns whatever comes back, errors included, into a decision."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cedarpy
import orjson

from .askers import Asker, Askers, Standing
from .calendar import Season
from .model import COUNTED, NO_SCOPE, OUTSIDE, Action, ActionGroup, Basis, Caller, Decision, Question, Resource
from .places import Attributes, Place, Places, exact
from .recent import Recent
from .sight import Sight
from .statements import Location
from .surroundings import Surroundings

NEVER = 2**53
"""The login age, in seconds, of somebody whose provider does not say when they logged in; and what nobody counted."""

NO_MOMENT: Mapping[str, object] = {}
"""What is asked without the time mattering."""

_CLOCK_LEEWAY = 60
"""Seconds by which the provider's clock may be ahead; a login further in the future is none."""

_OF_LOGINS = frozenset({ActionGroup.APPROVE, ActionGroup.PROPOSE})
"""The groups whose actions are judged by how and when the person logged in."""

_OF_SEASONS = _OF_LOGINS | {ActionGroup.APPLY}
"""The groups whose actions are judged by the calendar."""


def _unknown(name: str) -> Mapping[str, object]:
    return {"__extn": {"fn": "unknown", "arg": name}}


_UNKNOWN = {name: _unknown(name) for name in ("closed", "frozen", "off_hours")}
"""Any moment of the calendar, for partial evaluation."""


Posed = tuple[dict[str, object], cedarpy.Entities]
"""One question as Cedar is asked it: the request, and what is known of who asks and what is asked of."""


@dataclass(frozen=True, slots=True)
class Part:
    """The policies whose scope takes in one action: the others could not matter to it. `reads` says whether any of them
    reads an attribute of the resource, `roles` are those that they name."""

    policies: cedarpy.PolicySet
    reads: bool
    roles: frozenset[str]


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


class Engine:
    """Decides by one set of policies, on one thread. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        loaded: LoadedPolicies,
        clock: Callable[[], float] = time.time,
        surroundings: Surroundings = Surroundings(),  # noqa: B008  # a constant
    ) -> None:
        self._loaded = loaded
        self._clock = clock
        self._calendar = surroundings.calendar
        self._stand_in = "caller"
        while ("Person", self._stand_in) in loaded.sight.named:
            self._stand_in += "'"
        self._callers = Askers(surroundings.agents)
        self._places = Places(loaded.sight)
        self._entities: Recent[tuple[Asker, Action], cedarpy.Entities] = Recent(4_096)
        self._decisions: Recent[tuple[object, ...], Decision] = Recent(65_536)
        self._possible: Recent[tuple[object, ...], bool] = Recent(16_384)

    @property
    def digest(self) -> str:
        """Which policies these are: the digest that records name."""
        return self._loaded.digest

    def now(self) -> float:
        """The moment by this engine's clock, in seconds since the epoch."""
        return self._clock()

    def decide(
        self, caller: Caller, action: Action, resource: Resource, context: Attributes = (), *, at: float | None = None
    ) -> Decision:
        """Whether the caller may do this, and by which policies. Never raises: an error while deciding is a denial.

        `context` adds attributes that the schema must know. `at` (seconds since the epoch, default now) is the moment
        that the age of a login is counted to: an approval is judged later as of the time it was given. What the
        caller's credential is not good for is denied before any policy is asked, with `OUTSIDE` or `NO_SCOPE`.
        """
        try:
            return self._decide(self._callers.meet(caller), action, self._places.find(resource), context, at)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in Cedar is not an Exception
            return _failed(error)

    def answer(self, question: Question) -> Decision:
        """As `decide`, of all the resources: each must be allowed, and the first that is not is the answer."""
        policies: dict[str, None] = {}
        for resource, context in question.each():
            decision = self.decide(question.caller, question.action, resource, context, at=question.at or None)
            if not decision.allowed:
                return decision
            policies.update(dict.fromkeys(decision.policies))
        # What is asked of nothing is permitted by nothing.
        return Decision(bool(policies), Basis.PERMIT if policies else Basis.NO_PERMIT, tuple(policies))

    def pose(
        self, caller: Caller, action: Action, resource: Resource, context: Attributes = (), *, at: float | None = None
    ) -> Posed:
        """The question as `decide` asks Cedar, for looking into how single policies answer it; raises where `decide`
        answers with an error."""
        standing, place = self._callers.meet(caller), self._places.find(resource)
        asker = standing.everywhere if standing.plain else self._callers.at(standing, action, place)
        return self._pose(asker, action, place, context, self._moment(caller, action, place, at))

    def visible(
        self, caller: Caller, action: Action, resources: Sequence[Resource], context: Attributes = ()
    ) -> list[bool]:
        """One answer per resource, in order, the same as `decide` gives; what looks the same is decided once."""
        try:
            standing = self._callers.meet(caller)
        except Exception:  # `decide` says why; here there is no room for a reason
            return [False] * len(resources)
        at, find, plain = self._clock(), self._places.find, standing.plain
        answers: dict[object, bool] = {}
        result: list[bool] = []
        for resource in resources:
            try:
                place = find(resource)
                alike: object = place.view
                if not plain:
                    alike = (place.view, self._callers.at(standing, action, place), standing.within(action, place))
                if action.group in _OF_SEASONS:  # the calendar tells apps apart that no policy does
                    alike = (alike, self._calendar.season(place.environment, place.apps, at))
                answer = answers.get(alike)
            except Exception:
                result.append(False)
                continue
            if answer is None:
                answer = self.decide(caller, action, resource, context, at=at).allowed
                answers[alike] = answer
            result.append(answer)
        return result

    def could(self, caller: Caller, action: Action, acr_values: Sequence[str] = ()) -> bool:
        """Whether there can be any resource on which the caller may do this, having just logged in, in the way they did
        or in one of `acr_values`, and with the scope for it.

        It may say yes where in the end no resource fits, never no where one does."""
        return any(self._could(caller, action, acr_values, strict) for strict in (False, True))

    def reach(self, caller: Caller, action: Action, acr_values: Sequence[str] = ()) -> frozenset[bool]:
        """As `could`, told apart: True for strict environments, False for the others."""
        return frozenset(strict for strict in (False, True) if self._could(caller, action, acr_values, strict))

    def _decide(
        self, standing: Standing, action: Action, place: Place, extra: Attributes, at: float | None
    ) -> Decision:
        asker = standing.everywhere
        if not standing.plain:
            if not standing.within(action, place):
                return OUTSIDE
            if action.group in standing.withheld:
                return NO_SCOPE
            asker = self._callers.at(standing, action, place)
        if action.group in _OF_SEASONS:  # time goes by: never from the cache
            return self._ask(asker, action, place, extra, self._moment(standing.caller, action, place, at))
        key = (asker, action, place.view, exact(extra) if extra else ())
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._ask(asker, action, place, extra)
            if decision.basis is not Basis.ERROR:  # what went wrong names this one resource
                self._decisions.put(key, decision)
        return decision

    def _ask(
        self, asker: Asker, action: Action, place: Place, extra: Attributes, moment: Mapping[str, object] = NO_MOMENT
    ) -> Decision:
        request, entities = self._pose(asker, action, place, extra, moment)
        answer = cedarpy.is_authorized(request, self._loaded.parts[action].policies, entities, self._loaded.schema)
        found = answer.diagnostics
        # Cedar leaves out a policy that fails, a forbid as well: what it decides without it is not an answer.
        if found.errors or answer.decision is cedarpy.Decision.NoDecision:
            return Decision(allowed=False, basis=Basis.ERROR, error="; ".join(found.errors) or "no decision")
        policies = tuple(sorted(found.reasons))
        if answer.allowed:
            return Decision(allowed=True, basis=Basis.PERMIT, policies=policies)
        return Decision(allowed=False, basis=Basis.FORBID if policies else Basis.NO_PERMIT, policies=policies)

    def _moment(self, caller: Caller, action: Action, place: Place, at: float | None) -> Mapping[str, object]:
        """What is judged by the time, for the actions that are."""
        if action.group not in _OF_SEASONS:
            return NO_MOMENT
        now = self._clock() if at is None else at
        moment: dict[str, object] = {"calendar": _told(self._calendar.season(place.environment, place.apps, now))}
        if action.group in _OF_LOGINS:
            moment |= {"login_age": _login_age(caller, now), "acr": caller.acr}
        return moment

    def _pose(
        self, asker: Asker, action: Action, place: Place, extra: Attributes, moment: Mapping[str, object]
    ) -> Posed:
        resource, view = place.resource, place.view
        strict = view.strict and not place.lists(action)
        uid = {"type": str(resource.type), "id": resource.id}
        entities = self._entities_of(asker, action)
        if view.above or self._loaded.parts[action].reads:
            parents = [{"type": kind, "id": name} for kind, name in view.above]
            entity = {"uid": uid, "attrs": dict(view.attributes), "parents": parents}
            entities = entities.with_added_json_str(_json([entity]))
        request: dict[str, object] = {
            "principal": {"type": "Person", "id": asker.key},
            "action": {"type": "Action", "id": str(action)},
            "resource": uid,
            "context": _json(_context(asker, strict, (*_uncounted(action, extra), *extra), moment)),
        }
        return request, entities

    def _could(self, caller: Caller, action: Action, acr_values: Sequence[str], strict: bool) -> bool:
        try:
            standing = self._callers.meet(caller)
            if caller.within and action.group is ActionGroup.DELEGATE:
                return False
            logins = tuple(dict.fromkeys((caller.acr, *acr_values))) if action.group in _OF_LOGINS else ()
            key = (standing.everywhere, caller.grants, action, logins, strict)
            answer = self._possible.get(key)
            if answer is None:
                askers = self._callers.anywhere(standing, self._loaded.parts[action].roles)
                answer = any(asker is None or self._would(asker, action, logins, strict) for asker in askers)
                self._possible.put(key, answer)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # what cannot be decided is not offered
            return False
        return answer

    def _would(self, asker: Asker, action: Action, logins: Sequence[str], strict: bool) -> bool:
        """Whether the policies could let this asker, after any of these logins, do this on something."""
        moment: dict[str, object] = {"calendar": _UNKNOWN} if action.group in _OF_SEASONS else {}
        moment |= {name: _unknown(name) for name in COUNTED.get(action, ())}
        if not logins:
            return self._ask_partly(asker, action, strict, moment)
        return any(self._ask_partly(asker, action, strict, {**moment, "login_age": 0, "acr": acr}) for acr in logins)

    def _ask_partly(self, asker: Asker, action: Action, strict: bool, moment: Mapping[str, object]) -> bool:
        """Partial evaluation takes the principal as Cedar text, so a caller whom no policy names goes by a stand-in.
        It gets no schema, which knows nothing of unknown values."""
        name = asker.key if ("Person", asker.key) in self._loaded.sight.named else self._stand_in
        answer = cedarpy.is_authorized_partial(
            {
                "principal": f"Person::{json.dumps(name, ensure_ascii=False)}",
                "action": f'Action::"{action}"',
                "resource": None,
                "context": _context(asker, strict, (), moment),
            },
            self._loaded.parts[action].policies,
            _json([_action(action), asker.entity(name)]),
        )
        if answer.diagnostics.errors:
            raise ValueError("; ".join(answer.diagnostics.errors))
        return answer.decision is not cedarpy.Decision.Deny

    def _entities_of(self, asker: Asker, action: Action) -> cedarpy.Entities:
        """The part of a question that stays the same for all resources."""
        key = (asker, action)
        entities = self._entities.get(key)
        if entities is None:
            entities = cedarpy.Entities.from_json_str(_json([_action(action), asker.entity(asker.key)]))
            self._entities.put(key, entities)
        return entities


def _action(action: Action) -> dict[str, object]:
    parents = [{"type": "Action", "id": str(action.group)}]
    return {"uid": {"type": "Action", "id": str(action)}, "attrs": {}, "parents": parents}


def _told(season: Season) -> dict[str, bool]:
    return {"closed": season.closed, "frozen": season.frozen, "off_hours": season.off_hours}


def _context(asker: Asker, strict: bool, extra: Attributes, moment: Mapping[str, object]) -> dict[str, object]:
    derived = {**asker.context, "strict": strict, **moment}
    for name, value in extra:
        if name in derived:
            raise ValueError(f"the context {name!r} is derived by the engine and can't be given")
        derived[name] = list(value) if isinstance(value, tuple) else value
    return derived


def _uncounted(action: Action, given: Attributes) -> Attributes:
    """What nobody counted, as very large."""
    names = {name for name, _ in given}
    return tuple((name, NEVER) for name in COUNTED.get(action, ()) if name not in names)


def _login_age(caller: Caller, now: float) -> int:
    if caller.authenticated_at <= 0:
        return NEVER
    age = int(now) - caller.authenticated_at
    return NEVER if age < -_CLOCK_LEEWAY else max(age, 0)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _failed(error: BaseException) -> Decision:
    return Decision(allowed=False, basis=Basis.ERROR, error=f"{type(error).__name__}: {error}")
