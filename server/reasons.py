"""Reasons: what the settings had to do with a denial, in words: the calendar, and the agents that are trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..policies.engine import Engine
from ..policies.model import AgentTrust, Caller, Decision, Resource
from ..policies.sight import find_sight
from ..tools.text import quote_name


def explain_denial(engine: Engine, caller: Caller, resources: Sequence[Resource], decision: Decision, at: float) -> str:
    """Sentences about what the deciding policies read of the settings, for the caller to act on; `""` where that is
    nothing. `at` is the moment of the decision, in seconds since the epoch."""
    read = {name for policy in decision.policies for name in _names_read(engine, policy)}
    return " ".join(
        [
            *(_say_calendar(engine, resources, at) if "calendar" in read else ()),
            *(_say_trust(engine, caller) if "trust" in read else ()),
            *(["It has to be signed with a passkey."] if "signed" in read else ()),
            *(["More people have to approve it."] if read & {"approvals", "signed_approvals"} else ()),
        ]
    )


def _names_read(engine: Engine, policy: str) -> frozenset[str]:
    statement = engine.loaded.statements.get(policy)
    return find_sight(statement.policy).attributes("context") if statement else frozenset()


def _say_calendar(engine: Engine, resources: Sequence[Resource], at: float) -> Iterator[str]:
    for resource in resources:
        if closure := engine.closure(resource, at=at):
            yield f"No changes now: {closure}."
            return


def _say_trust(engine: Engine, caller: Caller) -> Iterator[str]:
    agents = engine.surroundings.agents
    between = dict.fromkeys((caller.agent, *caller.actors))
    unknown = [name for name in between if agents.trust(name, (), direct=False) is AgentTrust.UNKNOWN]
    match engine.trust(caller):
        case AgentTrust.FORBIDDEN:
            yield "An agent that this comes through is shut out here."
        case AgentTrust.UNKNOWN if all(unknown):
            named = ", ".join(map(quote_name, unknown))
            yield f"Not among the agents that are trusted here: {named}."
        case AgentTrust.UNKNOWN:
            yield "This comes through an agent that nobody names, so it is not trusted here."
        case _:
            pass
