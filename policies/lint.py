"""Lint: what policies say that can't be meant, or need not be said. What is told of several policies is proven.

A policy is never matching, shadowed or wholly forbidden only where no question at all could show otherwise: found by
going through everything that its conditions, and those of the others, can tell apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cedarpy import pst

from .coverage import Mutation, find_mutants, fits_schema
from .findings import Finding, Rule
from .formulas import All, Formula, Part, make_any, parts, read_policy
from .loader import read_schema
from .model import Action, ResourceType
from .plain_reading import NOTHING_KNOWN, Known, read_breadth, read_plainly, weighs_environment
from .solver import Solver
from .statements import Statement, takes_in
from .vocabulary import find_vocabulary

_MOST_TOGETHER = 40
"""How many policies at most are looked at together."""

_NEEDLESS = {
    Mutation.CONDITION_REMOVED: "this condition makes no difference",
    Mutation.LISTED_REMOVED: "this one of the list makes no difference",
    Mutation.SCOPE_WIDENED: "this part of the scope makes no difference",
}


def lint(
    statements: Sequence[Statement], known: Known = NOTHING_KNOWN, of: Sequence[Statement] | None = None
) -> list[Finding]:
    """Everything that is found in a checked set, in the order of the files; only `of` these policies, where it is given.
    `known` is what the settings say."""
    told = {statement.id for statement in (statements if of is None else of)}
    solvers = {action: Solver(find_vocabulary(read_schema()), action) for action in Action}
    rules = [_read(statement, solvers) for statement in statements]
    installed = frozenset(action for action in Action if solvers[action].types == (ResourceType.INSTALLATION,))
    limiting = (rule for rule in rules if not rule.permits and weighs_environment(rule.statement))
    weighed = installed.union(*(rule.actions for rule in limiting))
    found = (
        finding
        for number, rule in enumerate(rules)
        if rule.statement.id in told
        for finding in (
            *read_plainly(rule.statement, known),
            *(_judge(rule, rules, number, solvers) if rule.actions else _find_contradiction(rule, solvers)),
            *(read_breadth(rule.statement, weighed) if rule.actions else ()),
        )
    )
    return sorted(dict.fromkeys(found), key=lambda finding: finding.passage.location)


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    """A policy with what has to hold for it, and the actions for which that is possible.

    `mentioned` are the parts of its conditions, `members` those that say which roles or groups it takes, `places` those
    that say what the resource is in: what a policy does not mention may be otherwise, so another that takes it can't
    cover all of this one."""

    statement: Statement
    formula: Formula
    actions: tuple[Action, ...]
    mentioned: frozenset[pst.Expr]
    members: frozenset[pst.Expr]
    places: frozenset[pst.Expr]

    @property
    def permits(self) -> bool:
        return self.statement.policy.effect == "permit"

    def find(self, rule: Rule, problem: str) -> Finding:
        return Finding(rule, self.statement.id, self.statement.passage(), problem)


def _read(statement: Statement, solvers: Mapping[Action, Solver]) -> _Rule:
    formula = read_policy(statement.policy)
    scope = [action for action in Action if takes_in(statement.policy.action, action)]
    actions = tuple(action for action in scope if solvers[action].possible(formula))
    needed = [formula] if isinstance(formula, Part) else formula.of if isinstance(formula, All) else ()
    return _Rule(
        statement,
        formula,
        actions,
        mentioned=frozenset(part.expression for part in parts(formula)),
        members=frozenset(part.expression for part in needed if isinstance(part, Part) and _names_members(part)),
        places=frozenset(part.expression for part in needed if isinstance(part, Part) and _names_place(part)),
    )


def _names_members(part: Part) -> bool:
    match part:
        case Part(
            expression=pst.BinaryOp(op="in", left=pst.Var(name="principal"), right=pst.EntityLit(value=uid)),
            negated=False,
        ):
            return str(uid.type) in ("Group", "Role")
        case _:
            return False


def _names_place(part: Part) -> bool:
    match part:
        case Part(
            expression=pst.BinaryOp(op="in", left=pst.Var(name="resource"), right=pst.EntityLit()), negated=False
        ):
            return True
        case _:
            return False


def _find_absent(rule: _Rule, others: Sequence[_Rule]) -> frozenset[pst.Expr]:
    """The members and places that the rule is silent about, and without which none of the others holds that names them."""
    needed = frozenset[pst.Expr]().union(*(each.members | each.places for each in others))
    loose = rule.mentioned.union(*(each.mentioned - each.members - each.places for each in others))
    named = frozenset(part.right for part in loose if isinstance(part, pst.BinaryOp) and part.op == "eq")
    return frozenset(part for part in needed - loose if isinstance(part, pst.BinaryOp) and part.right not in named)


def _judge(rule: _Rule, rules: Sequence[_Rule], number: int, solvers: Mapping[Action, Solver]) -> Iterator[Finding]:
    yield from _find_unreachable(rule)
    if rule.permits and (finding := _find_forbidden(rule, rules, solvers)):
        yield finding
    if (finding := _find_shadow(rule, rules, number, solvers)) is not None:
        yield finding
    yield from _find_needless(rule, solvers)


def _find_contradiction(rule: _Rule, solvers: Mapping[Action, Solver]) -> Iterator[Finding]:
    """That a policy never applies, at the condition that can't be where it is a single one."""
    policy = rule.statement.policy
    passage = rule.statement.passage()
    for index, clause in enumerate(policy.clauses):
        alone = read_policy(replace(policy, clauses=(clause,)))
        if not any(takes_in(policy.action, action) and solvers[action].possible(alone) for action in Action):
            passage = rule.statement.clause(index)
            break
    problem = "this never holds: it contradicts itself, or what there can be"
    yield Finding(Rule.NEVER, rule.statement.id, passage, problem)


def _find_unreachable(rule: _Rule) -> Iterator[Finding]:
    """Actions that are listed and can't be meant: what else the policy says never holds for them."""
    scope = rule.statement.policy.action
    for uid in scope.entities if isinstance(scope, pst.ActionIn) else ():
        if not any(uid.id in (action, action.group) for action in rule.actions):
            problem = f"{uid} is listed, and what else the policy says never holds for it"
            yield Finding(Rule.UNREACHABLE, rule.statement.id, rule.statement.passage(str(uid)), problem)


def _find_forbidden(rule: _Rule, rules: Sequence[_Rule], solvers: Mapping[Action, Solver]) -> Finding | None:
    against: dict[str, None] = {}
    for action in rule.actions:
        every = [each for each in rules if not each.permits and action in each.actions]
        absent = _find_absent(rule, every)  # it may be in none of these, and then what is bound to them forbids nothing
        forbids = [
            each
            for each in every
            if absent.isdisjoint(each.members | each.places) and solvers[action].possible(rule.formula, each.formula)
        ]
        if not solvers[action].implies(rule.formula, make_any(each.formula for each in forbids)):
            return None
        whole = [each for each in forbids if solvers[action].implies(rule.formula, each.formula)]
        against |= dict.fromkeys(each.statement.id for each in whole[:1] or forbids)
    return rule.find(Rule.FORBIDDEN, f"all that this permits is forbidden by {_told(against)}")


def _find_shadow(rule: _Rule, rules: Sequence[_Rule], number: int, solvers: Mapping[Action, Solver]) -> Finding | None:
    verb = "permit" if rule.permits else "forbid"
    alike = [
        (position, each)
        for position, each in enumerate(rules)
        if each is not rule and each.permits is rule.permits and each.members <= rule.mentioned
    ]
    for position, each in alike:
        if not set(each.actions) >= set(rule.actions):
            continue
        if all(solvers[action].implies(rule.formula, each.formula) for action in rule.actions):
            same = each.actions == rule.actions and all(
                solvers[action].implies(each.formula, rule.formula) for action in rule.actions
            )
            if same and position > number:
                continue  # told of the later one
            what = f"{each.statement.id} at {each.statement.location} {verb}s"
            return rule.find(Rule.SHADOWED, f"{what} just this" if same else f"{what} all of this, and more")
    covers: dict[str, None] = {}
    for action in rule.actions:
        others = [each for _, each in alike if action in each.actions]
        if not 1 < len(others) <= _MOST_TOGETHER:
            return None
        if not solvers[action].implies(rule.formula, make_any(each.formula for each in others)):
            return None
        covers |= dict.fromkeys(each.statement.id for each in _fewest(rule, others, solvers[action]))
    return rule.find(Rule.SHADOWED, f"{_told(covers)} together {verb} all of this")


def _fewest(rule: _Rule, covers: list[_Rule], solver: Solver) -> list[_Rule]:
    """Those of the covers that it takes."""
    for each in list(covers):
        fewer = [other for other in covers if other is not each]
        if solver.implies(rule.formula, make_any(other.formula for other in fewer)):
            covers = fewer
    return covers


def _find_needless(rule: _Rule, solvers: Mapping[Action, Solver]) -> Iterator[Finding]:
    """What could be left out of the policy, and no question would be answered otherwise."""
    policy, statement = rule.statement.policy, rule.statement
    begins = [statement.clause(index).location for index in range(len(policy.clauses))]
    whole: set[int] = set()
    for index in range(len(policy.clauses)):
        without = replace(policy, clauses=policy.clauses[:index] + policy.clauses[index + 1 :])
        if _alike(rule, without, solvers) and fits_schema(without):
            whole.add(index + 1)
            yield Finding(Rule.REDUNDANT, statement.id, statement.clause(index), _NEEDLESS[Mutation.CONDITION_REMOVED])
    for mutant in find_mutants(statement, frozenset(_NEEDLESS)):
        if mutant.policy is None or bisect_right(begins, mutant.passage.location) in whole:
            continue  # in a condition that is needless as a whole
        if mutant.mutation is Mutation.LISTED_REMOVED and mutant.policy.action != policy.action:
            continue  # an action that is listed for nothing is told as unreachable, or is in a group that is listed
        if _alike(rule, mutant.policy, solvers):
            yield Finding(Rule.REDUNDANT, statement.id, mutant.passage, _NEEDLESS[mutant.mutation])


def _alike(rule: _Rule, other: pst.Template, solvers: Mapping[Action, Solver]) -> bool:
    """Whether the other policy applies to just the same questions, for each action that this one can apply to."""
    formula, actions = read_policy(other), set(rule.actions)
    for action in Action:
        if not takes_in(other.action, action):
            if action in actions:
                return False
        elif action in actions:
            if not (solvers[action].implies(formula, rule.formula) and solvers[action].implies(rule.formula, formula)):
                return False
        elif takes_in(rule.statement.policy.action, action) and solvers[action].possible(formula):
            return False
    return True


def _told(names: Mapping[str, None]) -> str:
    return " and ".join(names)
