"""The engine: decides by one set of policies, and remembers what it decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cedarpy

from .askers import Asker, Askers, Standing
from .asking import Posed, ask, ask_partly, pose_whole
from .calendar import Closure
from .context import NEVER, UNKNOWN, UNTOLD, Attributes, Told, check_given, find_login_age, find_trust, names_of, tell
from .model import (
    NO_SCOPE,
    OUTSIDE,
    Action,
    ActionGroup,
    AgentTrust,
    Basis,
    Caller,
    Decision,
    Question,
    Resource,
    ResourceType,
)
from .parts import Part
from .places import Place, Places, lists
from .recent import Recent
from .statements import Location, Statement
from .surroundings import Surroundings

__all__ = ["NEVER", "Engine", "LoadedPolicies", "Posed"]


@dataclass(frozen=True, slots=True)
class LoadedPolicies:
    """A checked set of policies; `load_policies` makes it. `statements` are the policies by their `@id`, in the order of
    the files, `fits` says what can be asked of which type of resource, `digest` is hexadecimal SHA-256 over all files."""

    parts: Mapping[Action, Part]
    schema: cedarpy.Schema
    fits: Collection[tuple[Action, ResourceType]]
    digest: str
    statements: Mapping[str, Statement]
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
        self._surroundings = surroundings
        self._calendar = surroundings.calendar
        self._callers = Askers(surroundings.agents, loaded.parts)
        self._places = Places()
        self._decisions: Recent[Hashable, Decision] = Recent(65_536)
        self._possible: Recent[Hashable, bool] = Recent(16_384)

    @property
    def loaded(self) -> LoadedPolicies:
        """The set that it decides by."""
        return self._loaded

    @property
    def surroundings(self) -> Surroundings:
        """What the settings tell the policies."""
        return self._surroundings

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

        `context` adds what whoever asks has counted (`COUNTED`). `at` (seconds since the epoch, default now) is the moment
        that the age of a login is counted to: an approval is judged later as of the time it was given. What the
        caller's credential is not good for is denied before any policy is asked, with `OUTSIDE` or `NO_SCOPE`.
        """
        try:
            return self._decide(self._callers.meet(caller), action, resource, context, at)
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
        """The question with all that there is to know for it, for looking into how single policies answer it; raises
        where `decide` answers with an error."""
        self._check(action, resource, context)
        standing, place = self._callers.meet(caller), self._places.find(resource)
        asker = self._callers.describe(standing, action, place)
        moment = self._find_moment(names_of(action), caller, place, context, at)
        strict = place.strict and not lists(action, resource)
        return pose_whole(asker, resource, place.stem.above, {**tell(moment), **asker.context, "strict": strict})

    def visible(
        self, caller: Caller, action: Action, resources: Sequence[Resource], context: Attributes = ()
    ) -> list[bool]:
        """One answer per resource, in order, the same as `decide` gives; what looks the same is decided once."""
        at = self._clock()
        try:
            standing = self._callers.meet(caller)
            alike = self._sort(standing, action, resources, at)
        except Exception:  # `decide` says why; here there is no room for a reason
            return [self.decide(caller, action, each, context, at=at).allowed for each in resources]
        one_of_each = dict(zip(alike, resources, strict=True))
        answers = {key: self.decide(caller, action, each, context, at=at) for key, each in one_of_each.items()}
        if any(answer.basis is Basis.ERROR for answer in answers.values()):  # it may be about that one alone
            return [
                self.decide(caller, action, each, context, at=at).allowed
                if answers[key].basis is Basis.ERROR
                else answers[key].allowed
                for key, each in zip(alike, resources, strict=True)
            ]
        allowed = {key: answer.allowed for key, answer in answers.items()}
        return [allowed[key] for key in alike]

    def closure(self, resource: Resource, *, at: float | None = None) -> Closure | None:
        """What the calendar keeps changes of the resource back by, and until when; None where it does not."""
        place = self._places.find(resource)
        return self._calendar.explain(place.environment, place.apps, self._clock() if at is None else at)

    def trust(self, caller: Caller) -> AgentTrust:
        """What the settings say of the agents that the caller comes through."""
        return find_trust(caller, self._surroundings.agents)

    def could(self, caller: Caller, action: Action, acr_values: Sequence[str] = ()) -> bool:
        """Whether there can be any resource on which the caller may do this, having just logged in, in the way they did
        or in one of `acr_values`, and with the scope for it.

        It may say yes where in the end no resource fits, never no where one does."""
        return any(self._could(caller, action, acr_values, strict) for strict in (False, True))

    def reach(self, caller: Caller, action: Action, acr_values: Sequence[str] = ()) -> frozenset[bool]:
        """As `could`, told apart: True for strict environments, False for the others."""
        return frozenset(strict for strict in (False, True) if self._could(caller, action, acr_values, strict))

    def _decide(
        self, standing: Standing, action: Action, resource: Resource, given: Attributes, at: float | None
    ) -> Decision:
        if standing.plain:
            asker = self._callers.everywhere(standing, action)
        else:
            place = self._places.find(resource)
            if not standing.within(action, place):
                return OUTSIDE
            if action.group in standing.withheld:
                return NO_SCOPE
            asker = self._callers.at(standing, action, place)
        outlook = asker.outlook
        (view,) = self._places.look(outlook.lens, (resource,))
        key: tuple[Hashable, ...] = (asker, view)
        moment: Mapping[str, Hashable] = {}
        if outlook.moment or given:
            check_given(action, given)
            moment = self._find_moment(outlook.moment, standing.caller, self._places.find(resource), given, at)
            key = (asker, view, *[outlook.context[name](value) for name, value in moment.items()])
        decision = self._decisions.get(key)
        if decision is None:
            self._check(action, resource, given)
            strict = bool(view.strict) and not lists(action, resource)
            decision = ask(asker, resource, view, _tell(asker, strict, tell(moment)))
            if decision.basis is not Basis.ERROR:  # what went wrong names this one resource
                self._decisions.put(key, decision)
        return decision

    def _check(self, action: Action, resource: Resource, given: Attributes) -> None:
        """Raises `ValueError` for a question that the schema does not have."""
        check_given(action, given)
        if (action, resource.type) not in self._loaded.fits:
            raise ValueError(f"{action} is never asked of the resource type `{resource.type}`")

    def _find_moment(
        self, names: Iterable[str], caller: Caller, place: Place, given: Attributes, at: float | None
    ) -> dict[str, Hashable]:
        """Those of the names in the context that follow from the time, or that whoever asks has counted."""
        now, counted = self._clock() if at is None else at, dict(given)
        found: dict[str, Hashable] = {}
        for name in names:
            match name:
                case "calendar":
                    found[name] = self._calendar.season(place.environment, place.apps, now)
                case "login_age":
                    found[name] = find_login_age(caller, now)
                case _:
                    found[name] = counted.get(name, UNTOLD.get(name, NEVER))
        return found

    def _sort(self, standing: Standing, action: Action, resources: Sequence[Resource], at: float) -> list[Hashable]:
        """For each resource what it is told apart by."""
        outlook = self._callers.everywhere(standing, action).outlook
        if standing.plain and "calendar" not in outlook.moment:
            return [*self._places.look(outlook.lens, resources)]
        return [self._tell_apart(standing, action, each, at) for each in resources]

    def _tell_apart(self, standing: Standing, action: Action, resource: Resource, at: float) -> Hashable:
        place = self._places.find(resource)
        asker = self._callers.at(standing, action, place)
        (view,) = self._places.look(asker.outlook.lens, (resource,))
        timed = "calendar" in asker.outlook.moment
        season = self._calendar.season(place.environment, place.apps, at) if timed else None
        return asker, view, season, standing.within(action, place)

    def _could(self, caller: Caller, action: Action, acr_values: Sequence[str], strict: bool) -> bool:
        try:
            standing = self._callers.meet(caller)
            if caller.within and action.group is ActionGroup.DELEGATE:
                return False
            logins = tuple(dict.fromkeys((caller.acr, *acr_values)))
            for asker in self._callers.anywhere(standing, action):
                if asker is None or self._would(asker, logins, strict):
                    return True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # what cannot be decided is not offered
            return False
        return False

    def _would(self, asker: Asker, logins: Sequence[str], strict: bool) -> bool:
        """Whether the policies could let this asker, after any of these logins, do this on something."""
        read = asker.outlook.context
        contexts = [_tell(asker, strict, {**UNKNOWN, "acr": acr}) for acr in (logins if "acr" in read else ("",))]
        key = (asker, logins if "acr" in read else (), strict)
        answer = self._possible.get(key)
        if answer is None:
            answer = any(ask_partly(asker, context) for context in contexts)
            self._possible.put(key, answer)
        return answer


def _tell(asker: Asker, strict: bool, moment: Told) -> Told:
    """What the policies read of the context."""
    told = {**asker.context, **moment, "strict": strict}
    return {name: told[name] for name in asker.outlook.context}


def _failed(error: BaseException) -> Decision:
    return Decision(allowed=False, basis=Basis.ERROR, error=f"{type(error).__name__}: {error}")
