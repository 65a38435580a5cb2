"""What the context of a question says: how it is asked, derived from the caller, the resource, and the time."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping
from functools import cache

from .agents import Agents
from .calendar import Season
from .model import COUNTED, Action, ActionGroup, AgentTrust, Attribute, Caller, Channel

NEVER = 2**53
"""The login age, in seconds, of somebody whose provider does not say when they logged in; and what nobody counted."""

UNTOLD: Mapping[str, Hashable] = {
    "approvals": 0,
    "healthy": False,
    "kinds": ("unknown",),
    "proven": False,
    "signed": False,
    "signed_approvals": 0,
}
"""What is taken for what nobody looked at; of all else that is counted, `NEVER`."""

Told = Mapping[str, object]
Attributes = tuple[tuple[str, Attribute], ...]

OF_LOGINS = frozenset({ActionGroup.APPROVE, ActionGroup.PROPOSE})
"""The groups whose actions are judged by how and when the person logged in."""

OF_SEASONS = OF_LOGINS | {ActionGroup.APPLY}
"""The groups whose actions are judged by the calendar."""

_CLOCK_LEEWAY = 60
"""Seconds by which the provider's clock may be ahead; a login further in the future is none."""

_INTERACTIVE = frozenset({Channel.PAGES, Channel.TERMINAL})

_DIRECT = _INTERACTIVE | {Channel.APPLIER, Channel.PARENT}
"""The doors that no agent stands at."""


def find_trust(caller: Caller, agents: Agents) -> AgentTrust:
    """What the platform team thinks of the agents that a call comes through."""
    return agents.trust(caller.agent, caller.actors, direct=caller.channel in _DIRECT)


OF_CALLER: Mapping[str, Callable[[Caller, Agents], Hashable]] = {
    "acr": lambda caller, _: caller.acr,
    "actors": lambda caller, _: caller.actors,
    "agent": lambda caller, _: caller.agent,
    "bound": lambda caller, _: caller.binding.bound,
    "channel": lambda caller, _: str(caller.channel),
    "interactive": lambda caller, _: caller.channel in _INTERACTIVE,
    "itself": lambda caller, _: caller.itself,
    "trust": lambda caller, agents: str(find_trust(caller, agents)),
}
"""What follows from the caller."""


@cache
def names_of(action: Action) -> frozenset[str]:
    """All that the context of an action says, as the schema has it."""
    names = {*OF_CALLER, "strict", *COUNTED.get(action, ())}
    if action.group in OF_SEASONS:
        names |= {"calendar"}
    return frozenset(names | {"login_age"} if action.group in OF_LOGINS else names - {"acr"})


def tell_caller(caller: Caller, agents: Agents, names: Container[str]) -> Told:
    """Those of the names that follow from the caller."""
    return {name: say(caller, agents) for name, say in OF_CALLER.items() if name in names}


def check_given(action: Action, given: Attributes) -> None:
    """Raises `ValueError` for what is not for whoever asks to say."""
    for name, _ in given:
        if name not in COUNTED.get(action, ()):
            problem = "is derived by the engine and can't be given" if name in names_of(action) else "is not known"
            raise ValueError(f"the context {name!r} {problem}")


def tell(moment: Mapping[str, Hashable]) -> Told:
    """The values in the form of Cedar's JSON."""
    return {name: _tell_season(value) if isinstance(value, Season) else value for name, value in moment.items()}


def _tell_season(season: Season) -> Told:
    return {"closed": season.closed, "frozen": season.frozen, "off_hours": season.off_hours}


def _unknown(name: str) -> Told:
    return {"__extn": {"fn": "unknown", "arg": name}}


UNKNOWN: Told = {
    "calendar": {name: _unknown(name) for name in ("closed", "frozen", "off_hours")},
    "login_age": 0,
    **{name: _unknown(name) for names in COUNTED.values() for name in names},
}
"""Any moment right after a login, for partial evaluation."""


def find_login_age(caller: Caller, now: float) -> int:
    """Seconds since the caller logged in."""
    if caller.authenticated_at <= 0:
        return NEVER
    age = int(now) - caller.authenticated_at
    return NEVER if age < -_CLOCK_LEEWAY else max(age, 0)
