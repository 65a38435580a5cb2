"""What a policy shows on its own: names that nobody has, words that no field knows, and more given than was weighed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cedarpy import pst

from .findings import Finding, Rule
from .formulas import Part, parts, read_expression, read_policy
from .locations import Passage
from .model import Action, ActionGroup
from .statements import Statement, takes_in
from .vocabulary import CONTAINED, WORDS
from .wording import write_formula

_OWN_ROLES = frozenset({"applier"})
"""Roles that the program gives to itself."""

_GIVING_AWAY = frozenset(
    {Action.PROPOSAL_APPROVE, Action.PROPOSAL_BREAK_GLASS}
    | {action for action in Action if action.group is ActionGroup.READ_SENSITIVE}
)
"""What is worth asking whether production was meant, too."""


_PLACES = ("context.strict", "resource.strict", "resource.environment", "resource in", "resource ==")


@dataclass(frozen=True, slots=True)
class Known:
    """The names that the settings know; None where there are no settings. `roles` are those that some group has,
    `agents` patterns as the shell's."""

    roles: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    environments: frozenset[str] | None = None
    agents: frozenset[str] | None = None


NOTHING_KNOWN = Known()


def read_plainly(statement: Statement, known: Known) -> Iterator[Finding]:
    """The names and words in one policy that nobody has, or that say less than they seem to."""
    yield from _find_words(statement)
    yield from _find_names(statement, known)
    yield from _find_agents(statement, known)


def _find_words(statement: Statement) -> Iterator[Finding]:
    """Comparisons with a word that the field never holds."""
    for index, clause in enumerate(statement.policy.clauses):
        for part in parts(read_expression(clause.expr)):
            match part.expression:
                case pst.BinaryOp(op="eq", left=field, right=pst.StringLit(value=word)):
                    words = WORDS.get(write_formula(Part(field)))
                case pst.BinaryOp(op="contains", left=field, right=pst.StringLit(value=word)):
                    words = CONTAINED.get(write_formula(Part(field)))
                case _:
                    continue
            if words is not None and word not in words:
                name = write_formula(Part(field))
                problem = f'{name} is never "{word}"{_guess(word, words)}'
                passage = statement.part(index, pst.StringLit(word))
                yield Finding(Rule.UNKNOWN_WORD, statement.id, passage, problem)


def _find_names(statement: Statement, known: Known) -> Iterator[Finding]:
    """Roles, groups and environments that the settings do not know."""
    policy = statement.policy
    uids = {str(uid): uid for node in (policy.principal, policy.resource) for uid in pst.entity_uids(node)}
    uids |= {str(uid): uid for clause in policy.clauses for uid in pst.entity_uids(clause)}
    for text in sorted(uids):
        uid = uids[text]
        match str(uid.type):
            case "Role" if known.roles is not None and uid.id not in known.roles | _OWN_ROLES:
                rule, names, problem = (
                    Rule.UNKNOWN_ROLE,
                    known.roles,
                    f'no group has the role "{uid.id}" in the settings',
                )
            case "Group" if known.groups is not None and uid.id not in known.groups:
                rule, names, problem = Rule.UNKNOWN_GROUP, known.groups, f'the settings name no group "{uid.id}"'
            case "Environment" if known.environments is not None and uid.id not in known.environments:
                rule, names = Rule.UNKNOWN_ENVIRONMENT, known.environments
                problem = f'the settings have no environment "{uid.id}"'
            case _:
                continue
        yield Finding(rule, statement.id, statement.passage(text), problem + _guess(uid.id, names))


def _find_agents(statement: Statement, known: Known) -> Iterator[Finding]:
    for index, clause in enumerate(statement.policy.clauses):
        named: list[Passage] = []
        for part in parts(read_expression(clause.expr)):
            if (name := _named_agent(part.expression)) is None or not name:
                continue
            passage = statement.part(index, pst.StringLit(name))
            if known.agents is not None and not any(fnmatchcase(name, pattern) for pattern in known.agents):
                problem = f'the settings name no agent "{name}"{_guess(name, known.agents)}'
                yield Finding(Rule.UNKNOWN_AGENT, statement.id, passage, problem)
            if statement.policy.effect == "forbid" and isinstance(clause, pst.Unless) and not part.negated:
                named.append(passage)
        if named:
            problem = (
                "this lets through whatever is called so, by whichever issuer; `context.trust` goes by `agents` in the "
                "settings"
            )
            yield Finding(Rule.AGENT_BY_NAME, statement.id, named[0], problem)


def _named_agent(expression: pst.Expr) -> str | None:
    match expression:
        case pst.BinaryOp(
            op="eq" | "contains",
            left=pst.GetAttr(base=pst.Var(name="context"), attr="agent" | "actors"),
            right=pst.StringLit(value=name),
        ):
            return name
        case _:
            return None


def read_breadth(statement: Statement, weighed: frozenset[Action]) -> Iterator[Finding]:
    """Where one policy permits more than somebody may have weighed. `weighed` are the actions that something in the set
    limits by environment."""
    policy = statement.policy
    if policy.effect == "forbid":
        return
    formula = read_policy(policy)
    looks = [write_formula(Part(part.expression)) for part in parts(formula)]
    actions = [action for action in Action if takes_in(policy.action, action)]
    if isinstance(policy.action, pst.ScopeAny):
        problem = "permits every action, those to come as well; name the actions, or their groups"
        yield Finding(Rule.ALL_ACTIONS, statement.id, statement.scope("action"), problem)
    if not any("principal" in look for look in looks) and actions != [Action.CALLER_READ]:
        problem = "permits this to everybody who can log in, agents of their own as well; name a role or a group"
        yield Finding(Rule.ANYBODY, statement.id, statement.scope("principal"), problem)
    given = [action for action in actions if action in _GIVING_AWAY - weighed]
    if given and not isinstance(policy.action, pst.ScopeAny) and not weighs_environment(statement):
        problem = f"permits {', '.join(given)} in every environment, strict ones as well"
        yield Finding(Rule.ANY_ENVIRONMENT, statement.id, statement.passage(), problem)


def weighs_environment(statement: Statement) -> bool:
    """Whether a policy makes a difference between environments, or parts of the tree."""
    looks = (write_formula(Part(part.expression)) for part in parts(read_policy(statement.policy)))
    return any(look.startswith(_PLACES) for look in looks)


def _guess(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 8 else ""
