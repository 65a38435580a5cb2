"""The table of the documentation that says which role may do what, written from what the engine decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies
from arborgate.policies.model import (
    INSTALLATION,
    Action,
    ActionGroup,
    Attribute,
    Binding,
    Caller,
    Channel,
    Resource,
)
from tests.policies.writing import TRUSTING, app, environment, keyspace, person, proposal

ROLES = ("viewer", "developer", "approver", "auditor", "responder", "controller", "parent", "applier")

HEAD = "| action | " + " | ".join(ROLES) + " |\n|" + "---|" * (len(ROLES) + 1) + "\n"

_NOW = 2_000_000_000
_COUNTS: Mapping[Action, tuple[tuple[str, Attribute], ...]] = {
    Action.PROPOSAL_APPLY: (("applied_today", 0),),
    Action.PROPOSAL_APPROVE: (("applied_today", 0),),
    Action.PROPOSAL_APPROVE_WITHIN: (("applied_today", 0), ("healthy", True), ("kinds", ("sync",)), ("proven", True)),
    Action.PROPOSAL_BREAK_GLASS: (("applied_today", 0), ("unreviewed", 0)),
}


def roles_table() -> str:
    """Markdown: a row for each action, a column for each role."""
    engine = Engine(load_policies(None), lambda: _NOW, TRUSTING)
    groups = {group: [action for action in Action if action.group is group] for group in ActionGroup}
    rows = [
        [f"`{action}`", *(_cell(engine, role, action) for role in ROLES)] for each in groups.values() for action in each
    ]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(engine: Engine, role: str, action: Action) -> str:
    """In words when a role is enough, through a trusted agent or in person; `""` for never."""
    found = {
        (in_person, strict, own)
        for in_person, caller in enumerate(_callers(role))
        for strict in (False, True)
        for own, resource in enumerate(_resources(action, strict, caller))
        if engine.decide(caller, action, resource, _COUNTS.get(action, ())).allowed
    }
    if not found:
        return ""
    limits = [
        "in person" if all(in_person for in_person, _, _ in found) else "",
        "their own" if all(own for _, _, own in found) else "",
        "not strict" if not any(strict for _, strict, _ in found) else "",
    ]
    return ", ".join(filter(None, limits)) or "yes"


def _callers(role: str) -> Iterator[Caller]:
    """Who has the role, through a trusted agent and in person, having just logged in; apps as they come."""
    caller = replace(person("somebody", role), authenticated_at=_NOW, binding=Binding.DPOP, groups=frozenset())
    match role:
        case "applier":
            yield replace(caller, agent="", channel=Channel.APPLIER, itself=True)
        case "parent":
            yield replace(caller, agent="", channel=Channel.PARENT, itself=True)
        case "controller":
            yield replace(caller, itself=True)
        case _:
            yield caller
            yield replace(caller, agent="", channel=Channel.PAGES, binding=Binding.SESSION)


def _resources(action: Action, strict: bool, caller: Caller) -> Iterator[Resource]:
    """What the action is asked of: somebody else's, and of proposals the caller's own."""
    shop = app("shop", environment("somewhere", strict))
    match action:
        case Action.CALLER_READ | Action.POLICY_READ:
            yield INSTALLATION
        case Action.REDIS_LIST | Action.REDIS_READ | Action.REDIS_READ_VALUE:
            yield keyspace(shop)
        case _ if action.startswith("proposal:"):
            yield proposal(shop, person("somebody-else"))
            yield proposal(shop, caller)
        case _:
            yield shop
