"""How much of the policies the cases look at: what decided in no case, what held always, and what could go unnoticed.

Everything here is found by asking the engine: about the set as it is, about each policy alone with a condition turned
round, and about sets with one thing changed (mutants), which some case should notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import cedarpy
from cedarpy import pst

from .casebook import Case
from .loader import assemble, check_cases, read_schema
from .locations import Passage
from .model import Action, Basis
from .statements import Statement, takes_in, write_policy


@dataclass(frozen=True, slots=True)
class Condition:
    """A `when` or `unless` of a policy: in how many cases it held, and in how many it alone kept the policy from
    applying."""

    passage: Passage
    held: int
    failed: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the cases see of one policy: how many it decided (`reached`), and its conditions in order."""

    policy: str
    passage: Passage
    reached: int
    conditions: tuple[Condition, ...]


class Mutation(StrEnum):
    """What is changed in a mutant: a policy is taken out or turned round, a condition as well, what the scope says of
    who asks or of what is left out, or one of the things that are listed."""

    CONDITION_REMOVED = "condition removed"
    CONDITION_REVERSED = "condition reversed"
    LISTED_REMOVED = "listed removed"
    POLICY_REMOVED = "policy removed"
    POLICY_REVERSED = "policy reversed"
    SCOPE_WIDENED = "scope widened"


_NO_CASE_NOTICES = {
    Mutation.CONDITION_REMOVED: "without this condition",
    Mutation.CONDITION_REVERSED: "with this condition turned round",
    Mutation.LISTED_REMOVED: "without this one of the list",
    Mutation.POLICY_REMOVED: "without this policy",
    Mutation.POLICY_REVERSED: "with permit and forbid exchanged in this policy",
    Mutation.SCOPE_WIDENED: "without this part of the scope",
}


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change to one policy that no case notices."""

    mutation: Mutation
    policy: str
    passage: Passage

    @property
    def problem(self) -> str:
        return f"{self.policy}: every case holds {_NO_CASE_NOTICES[self.mutation]}, too"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A policy with one thing changed, None where that is all of it, and where that stands."""

    mutation: Mutation
    passage: Passage
    policy: pst.Template | None


def measure_coverage(statements: Sequence[Statement], cases: Sequence[Case]) -> list[Coverage]:
    """What the cases see of each policy, in order."""
    decided = Counter(
        policy for answer in check_cases(assemble(statements), cases) for policy in answer.decision.policies
    )
    applied = _count_probes(statements, cases)
    return [
        Coverage(
            policy=statement.id,
            passage=statement.passage(),
            reached=decided[statement.id],
            conditions=tuple(
                Condition(statement.clause(index), applied[statement.id, -1], applied[statement.id, index])
                for index in range(len(statement.policy.clauses))
            ),
        )
        for statement in statements
    ]


def find_survivors(
    statements: Sequence[Statement], cases: Sequence[Case], of: Sequence[Statement] | None = None
) -> list[Survivor]:
    """The changes to one policy each that no case notices; only `of` these policies, where it is given.

    The cases have to hold for the set as it is."""
    return [
        Survivor(mutant.mutation, statement.id, mutant.passage)
        for statement in (statements if of is None else of)
        for mutant in find_mutants(statement)
        if not _notices(cases, [each for each in statements if each is not statement], statement, mutant.policy)
    ]


def _notices(cases: Sequence[Case], others: list[Statement], statement: Statement, policy: pst.Template | None) -> bool:
    scopes = [statement.policy.action, *([policy.action] if policy else [])]
    concerned = {action for action in Action if any(takes_in(scope, action) for scope in scopes)}
    asked = [case for case in cases if case.action in concerned]
    asked.sort(key=lambda case: statement.id not in case.by)
    changed = assemble([*others, *([replace(statement, policy=policy)] if policy else [])])
    # The cases that name the policy come first, and mostly one of them notices.
    near = next((index for index, case in enumerate(asked) if statement.id not in case.by), len(asked))
    return any(any(answer.problem for answer in check_cases(changed, part)) for part in (asked[:near], asked[near:]))


def find_mutants(statement: Statement, kinds: frozenset[Mutation] = frozenset(Mutation)) -> Iterator[Mutant]:
    """Everything of these kinds that can be changed in the policy, one thing at a time, so that the schema takes it."""
    policy = statement.policy
    effect: pst.Effect = "forbid" if policy.effect == "permit" else "permit"
    mutants = (
        Mutant(Mutation.POLICY_REMOVED, statement.passage(), None),
        Mutant(Mutation.POLICY_REVERSED, statement.passage(), replace(policy, effect=effect)),
        *_mutate_scope(statement),
        *_mutate_conditions(statement),
    )
    for mutant in mutants:
        if mutant.mutation in kinds and (mutant.policy is None or fits_schema(mutant.policy)):
            yield mutant


def fits_schema(policy: pst.Template) -> bool:
    """Whether the policy could be loaded: one that reads an attribute without `has` where it needs it could not."""
    return cedarpy.validate_policies(write_policy(policy), read_schema()).validation_passed


def _mutate_scope(statement: Statement) -> Iterator[Mutant]:
    policy, anything = statement.policy, pst.ScopeAny()
    if policy.principal != anything:
        yield Mutant(Mutation.SCOPE_WIDENED, statement.scope("principal"), replace(policy, principal=anything))
    if policy.resource != anything:
        yield Mutant(Mutation.SCOPE_WIDENED, statement.scope("resource"), replace(policy, resource=anything))
    if isinstance(policy.action, pst.ActionIn) and len(policy.action.entities) > 1:
        for uid in policy.action.entities:
            rest = tuple(each for each in policy.action.entities if each != uid)
            passage = statement.passage(str(uid))
            yield Mutant(Mutation.LISTED_REMOVED, passage, replace(policy, action=pst.ActionIn(rest)))


def _mutate_conditions(statement: Statement) -> Iterator[Mutant]:
    clauses = statement.policy.clauses
    for index, clause in enumerate(clauses):
        for mutation, part, changed in _variants(clause.expr):
            instead = () if changed is None else (replace(clause, expr=changed),)
            policy = replace(statement.policy, clauses=(*clauses[:index], *instead, *clauses[index + 1 :]))
            yield Mutant(mutation, statement.part(index, part), policy)


def _variants(expression: pst.Expr) -> Iterator[tuple[Mutation, pst.Expr, pst.Expr | None]]:
    """What is changed, the part that it is changed in, and the whole with the change; None where nothing is left."""
    match expression:
        case pst.BinaryOp(op="and" | "or", left=left, right=right):
            for mutation, part, changed in _variants(left):
                yield mutation, part, right if changed is None else replace(expression, left=changed)
            for mutation, part, changed in _variants(right):
                yield mutation, part, left if changed is None else replace(expression, right=changed)
        case pst.UnaryOp(op="not", arg=argument):
            for mutation, part, changed in _variants(argument):
                yield mutation, part, None if changed is None else replace(expression, arg=changed)
        case _:
            yield Mutation.CONDITION_REMOVED, expression, None
            yield Mutation.CONDITION_REVERSED, expression, pst.UnaryOp("not", expression)
            yield from _shorter_lists(expression)


def _shorter_lists(expression: pst.Expr) -> Iterator[tuple[Mutation, pst.Expr, pst.Expr]]:
    match expression:
        case pst.BinaryOp(op="in" | "contains_any", right=pst.Set(elements=elements)):
            side = "right"
        case pst.BinaryOp(op="contains", left=pst.Set(elements=elements)):
            side = "left"
        case _:
            return
    for element in elements if len(elements) > 1 else ():
        rest = pst.Set(tuple(each for each in elements if each != element))
        shorter = replace(expression, right=rest) if side == "right" else replace(expression, left=rest)
        yield Mutation.LISTED_REMOVED, element, shorter


def _count_probes(statements: Sequence[Statement], cases: Sequence[Case]) -> Counter[tuple[str, int]]:
    """In how many cases each policy applies (-1), and would apply if only one of its conditions were turned round (the
    number of the condition). All of these are asked as permits: Cedar names every permit that applies."""
    names: dict[str, tuple[str, int]] = {}
    probes: dict[str, list[Statement]] = {}
    for statement in statements:
        for turned in range(-1, len(statement.policy.clauses)):
            name = f"probe-{len(names)}"
            names[name] = (statement.id, turned)
            clauses = tuple(
                _turn(clause) if index == turned else clause for index, clause in enumerate(statement.policy.clauses)
            )
            policy = replace(statement.policy, effect="permit", clauses=clauses, annotations={"id": name})
            probes.setdefault(statement.id, []).append(replace(statement, policy=policy))
    count: Counter[tuple[str, int]] = Counter()
    failed: list[Case] = []
    for answer in check_cases(assemble(probe for each in probes.values() for probe in each), cases):
        count.update(names[policy] for policy in answer.decision.policies)
        if answer.decision.basis is Basis.ERROR:
            failed.append(answer.case)
    for each in probes.values() if failed else ():  # what one of them can't look at says nothing of the others
        for answer in check_cases(assemble(each), failed):
            count.update(names[policy] for policy in answer.decision.policies)
    return count


def _turn(clause: pst.Clause) -> pst.Clause:
    return pst.Unless(clause.expr) if isinstance(clause, pst.When) else pst.When(clause.expr)
