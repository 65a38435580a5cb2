"""How questions and decisions read on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import typer

from ..policies.engine import Engine, LoadedPolicies
from ..policies.errors import Invalid
from ..policies.locations import Location
from ..policies.model import NO_SCOPE, OUTSIDE, Basis, Caller, Decision, Question, Resource
from ..policies.nearness import Condition, find_nearest, weigh
from ..tools.text import neutralise, quote_name
from ..tools.times import read_moment
from .replay import name_places

_BASIS = {
    Basis.ERROR: "deciding failed, and that is a denial",
    Basis.FORBID: "forbidden by",
    Basis.NO_PERMIT: "no policy permits it",
    Basis.PERMIT: "permitted by",
}


_SEEN = 300
"""Characters that are shown of a value that a condition looked at, or of a place."""

_OWN = frozenset({*OUTSIDE.policies, *NO_SCOPE.policies})


def say_decision(decision: Decision) -> str:
    """Allowed or denied, and on what that rests, without the names of the policies."""
    return f"{'allowed' if decision.allowed else 'denied'}: {_BASIS[decision.basis]}"


def name_reasons(loaded: LoadedPolicies, decision: Decision) -> Iterator[str]:
    """The policies that decided, each with its place in the set, or the error."""
    for policy in decision.policies:
        if policy in loaded.locations:
            yield f"{policy}  {place(loaded.locations[policy])}"
        else:
            yield f"{policy}  ({'what Arborgate itself denies' if policy in _OWN else 'not in this set'})"
    if decision.error:
        yield decision.error


def look_closer(engine: Engine, question: Question) -> Iterator[str]:
    """Why it is denied: by what in the policies that forbid it, or what the nearest permits lack; nothing for what is
    allowed or fails."""
    decision = engine.answer(question)
    if decision.basis not in (Basis.FORBID, Basis.NO_PERMIT) or _OWN & {*decision.policies}:
        return
    weighed = weigh(engine, question)
    if decision.basis is Basis.FORBID:
        for each in weighed:
            if each.statement.id in decision.policies:
                yield f"because  {each.statement.id} forbids it:"
                yield from _show_parts(each.conditions)
        return
    nearest = find_nearest(weighed)
    if not nearest:
        yield "nearest  no policy of the set permits this action to anybody"
    for each in nearest:
        yield f"nearest  {each.statement.id} would permit it, but for this:"
        yield from _show_parts(each.unmet)


def _show_parts(conditions: Iterable[Condition]) -> Iterator[str]:
    parts = [part for condition in conditions for part in condition.parts]
    if not parts:
        yield "         it has no conditions"
    for part in parts:
        holds = {True: "holds", False: "does not hold", None: "fails"}[part.holds]
        seen = f": {', '.join(neutralise(each, _SEEN) for each in part.seen)}" if part.seen else ""
        yield f"         {place(part.passage.location)}: {holds}{seen}"
        yield from (f"         {line}" for line in part.passage.show().split("\n"))


def place(location: Location) -> str:
    """The place, as seen from where the command runs."""
    try:
        return str(replace(location, file=location.file.resolve().relative_to(Path.cwd())))
    except ValueError:
        return str(location)


def say_person(caller: Caller) -> str:
    """The person, or the app for itself, by name and key."""
    name = quote_name(caller.name)
    return f"{name} ({quote_name(caller.key)})" if name and name != caller.key else quote_name(caller.key)


def say_door(caller: Caller) -> str:
    """What the caller came through: the door and the agents between."""
    between = [quote_name(agent) for agent in dict.fromkeys((caller.agent, *caller.actors)) if agent]
    return f"{caller.channel}, {' for '.join(between) or 'no agent that anybody named'}"


def say_place(resource: Resource) -> str:
    """The resource and what it is in, up to the top."""
    return neutralise(name_places(resource), _SEEN)


def read_when(text: str, option: str) -> str:
    """A moment given as an option, as records write it; "" for none."""
    try:
        moment = read_moment(text, time.time(), field=option)
    except Invalid as error:
        raise typer.BadParameter(error.hint or error.message, param_hint=option) from error
    return write_moment(moment) if moment else ""


def write_moment(seconds: float) -> str:
    """A moment as records write it, so that comparing texts compares times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
