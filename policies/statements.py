"""Cedar files taken apart into statements, each with its place, and every mistake in them told with place and text."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cedarpy
from cedarpy import pst

from .errors import BadConfiguration
from .locations import Location, Passage
from .model import NO_SCOPE, OUTSIDE, Action, ActionGroup
from .sight import find_loose_entities
from .spans import find_span
from .syntax import find_stumble, parse
from .tokens import Text, Token, find_clauses, find_scope, find_tokens, read_tokens, split_statements

__all__ = [
    "ANNOTATIONS",
    "Location",
    "Statement",
    "check_statements",
    "read_statements",
    "takes_in",
    "write_policy",
]

ANNOTATIONS = ("description", "id", "owner")
"""What may be noted on a policy: `@id` names it, the others are for people."""

_ACTION = re.compile(r'unrecognized action `(Action::"[^`]*")`')
_QUOTED = re.compile(r"`([^`]+)`")

_TAKEN = frozenset({*OUTSIDE.policies, *NO_SCOPE.policies})
"""What a denial names where no policy was asked."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy as it is written, from its first annotation to its semicolon."""

    file: Text
    tokens: Sequence[Token]
    policy: pst.Template

    @property
    def location(self) -> Location:
        return self.passage().location

    @property
    def text(self) -> str:
        return self.file.source(self.tokens)

    @property
    def id(self) -> str:
        """The `@id`, or `""`."""
        return self.policy.annotations.get("id", "")

    def passage(self, needle: str = "") -> Passage:
        """Where the needle stands, else the policy's first line."""
        first = self.tokens[0]
        found = find_tokens(self.tokens, needle) or [each for each in self.tokens if each.line == first.line]
        return self.file.passage(found[0], found[-1])

    def scope(self, variable: str) -> Passage:
        """Where the scope speaks of `principal`, `action` or `resource`."""
        found = find_scope(self.tokens, variable)
        return self.file.passage(found[0], found[-1])

    def clause(self, index: int) -> Passage:
        """Where a `when` or `unless` stands, counted from 0."""
        tokens = find_clauses(self.tokens)[index]
        return self.file.passage(tokens[0], tokens[-1])

    def part(self, index: int, expression: pst.Expr) -> Passage:
        """Where an expression stands in that clause; the clause where it can't be told."""
        span = find_span(find_clauses(self.tokens)[index], expression)
        return self.file.passage(*span) if span else self.clause(index)


def read_statements(file: Path, text: str) -> list[Statement]:
    """The policies of one file in order; raises `BadConfiguration` with the place of every one that is not Cedar."""
    source = Text(file, text)
    statements: list[Statement] = []
    mistakes: list[str] = []
    for tokens in split_statements(list(read_tokens(text))):
        try:
            parsed = parse(source.source(tokens))
        except ValueError as error:
            stumble = find_stumble(source, tokens, str(error))
            mistakes.append(source.passage(stumble.tokens[0], stumble.tokens[-1]).tell(stumble.problem))
            continue
        if parsed.templates:
            slot = find_tokens(tokens, "?principal") or find_tokens(tokens, "?resource")
            problem = "a template (?principal, ?resource); write the policy out"
            mistakes.append(source.passage(slot[0], slot[-1]).tell(problem))
            continue
        statements += [Statement(source, tokens, policy) for policy in parsed.static_policies.values()]
    _refuse(mistakes)
    return statements


def check_statements(statements: Sequence[Statement], schema: cedarpy.Schema, words: Iterable[str]) -> None:
    """Raises `BadConfiguration` with the place of every policy without an `@id` of its own and of everything in a policy
    that the schema does not know, with the nearest of `words` that was probably meant."""
    known = sorted(set(words))
    count = Counter(statement.id for statement in statements)
    first: dict[str, Location] = {}
    mistakes: list[str] = []
    for statement in statements:
        mistakes += _strange_annotations(statement)
        named = statement.passage(f'@id("{statement.id}")')
        if not statement.id:
            mistakes.append(statement.passage().tell('the policy has no @id("…")'))
        elif statement.id in _TAKEN:
            mistakes.append(named.tell(f'@id("{statement.id}") stands for what Arborgate itself denies'))
        elif count[statement.id] > 1 and statement.id in first:
            problem = f'@id("{statement.id}") is already the id of the policy at {first[statement.id]}'
            mistakes.append(named.tell(problem))
        first.setdefault(statement.id, statement.location)
        mistakes += _misfits(statement, schema, known)
    _refuse(mistakes)


def write_policy(policy: pst.Template) -> str:
    """The policy as Cedar text."""
    return str(cedarpy.PolicySet.from_pst(pst.PolicySet({}, {policy.id: policy}, ())))


def takes_in(scope: pst.ActionConstraint, action: Action) -> bool:
    """Whether a policy with that scope is about the action."""
    match scope:
        case pst.ActionEq(entity=entity):
            return entity.id == action
        case pst.ActionIn(entities=entities):
            return any(entity.id in (action, action.group) for entity in entities)
        case _:
            return True


def _strange_annotations(statement: Statement) -> Iterator[str]:
    for name in statement.policy.annotations:
        if name not in ANNOTATIONS:
            near = difflib.get_close_matches(name.lower(), ANNOTATIONS, n=1)
            guess = (
                f"did you mean @{near[0]}?" if near else f"known are {', '.join(f'@{each}' for each in ANNOTATIONS)}"
            )
            yield statement.passage(f"@{name}").tell(f"unknown annotation @{name}; {guess}")


def _misfits(statement: Statement, schema: cedarpy.Schema, known: Sequence[str]) -> Iterator[str]:
    told: set[str] = set()
    for found in cedarpy.validate_policies(statement.text, schema).errors:
        problem = found.error.removeprefix(f"for policy `{found.policy_id}`, ")
        if told and problem.startswith("unable to find an applicable action"):
            continue  # the consequence of the name that was just told
        needle, guess = _guess(problem, known)
        if (problem.startswith("attribute") and needle in told) or problem in told:
            continue  # the same attribute, missing on each entity type
        told |= {problem, needle}
        if problem.startswith("unable to find an applicable action"):
            yield _explain_scope(statement, schema)
        else:
            passage = statement.passage(needle) if needle else _narrow(statement, schema, problem)
            yield passage.tell(problem + guess)
    for kind, name in find_loose_entities(statement.policy):
        problem = (
            f'{kind}::"{name}" stands where it would have to be looked up, and only who asks and what is asked of are '
            "known; compare with it directly, as in `resource in …` or `principal == …`"
        )
        yield statement.passage(f'{kind}::"{name}"').tell(problem)


def _explain_scope(statement: Statement, schema: cedarpy.Schema) -> str:
    """What is wrong with a scope that no question can ever meet."""
    policy, anything = statement.policy, pst.ScopeAny()
    if isinstance(policy.action, pst.ActionEq) and policy.action.entity.id in set(ActionGroup):
        uid = policy.action.entity
        return statement.passage(str(uid)).tell(f"`{uid.id}` is a group of actions; write `action in {uid}`")
    bare = replace(policy, clauses=(), annotations={})
    for variable, wider, problem in (
        ("resource", replace(bare, resource=anything), "no action of this scope is ever asked of such a resource"),
        ("principal", replace(bare, principal=anything), "nobody who asks is ever such a principal"),
    ):
        if cedarpy.validate_policies(write_policy(wider), schema).validation_passed:
            return statement.scope(variable).tell(problem)
    return statement.passage().tell("no question ever meets this scope")


def _narrow(statement: Statement, schema: cedarpy.Schema, problem: str) -> Passage:
    """Where a problem that names nothing is: the smallest condition that has it by itself."""
    for index, clause in enumerate(statement.policy.clauses):
        if not _has(statement.policy, clause.expr, schema, problem):
            continue
        expression, inner = clause.expr, True
        while inner:
            parts = _parts(expression)
            inner = False
            for part in parts:
                if _has(statement.policy, part, schema, problem):
                    expression, inner = part, True
                    break
        return statement.part(index, expression)
    return statement.passage()


def _has(policy: pst.Template, expression: pst.Expr, schema: cedarpy.Schema, problem: str) -> bool:
    alone = replace(policy, clauses=(pst.When(expression),), annotations={})
    errors = cedarpy.validate_policies(write_policy(alone), schema).errors
    return any(found.error.removeprefix(f"for policy `{found.policy_id}`, ") == problem for found in errors)


def _parts(expression: pst.Expr) -> tuple[pst.Expr, ...]:
    match expression:
        case pst.BinaryOp(op="and" | "or", left=left, right=right):
            return (left, right)
        case pst.UnaryOp(op="not", arg=argument):
            return (argument,)
        case _:
            return ()


def _guess(problem: str, known: Sequence[str]) -> tuple[str, str]:
    """What the problem is about, as it stands in the policy, and what was probably meant instead."""
    if found := _ACTION.search(problem):
        needle = found[1]
        name = needle.removeprefix('Action::"').removesuffix('"')
        near = difflib.get_close_matches(name, [*Action, *ActionGroup], n=1)
        return needle, f'; did you mean Action::"{near[0]}"?' if near else ""
    if not (found := _QUOTED.search(problem)):
        return "", ""
    near = difflib.get_close_matches(found[1], known, n=1)
    return found[1], f"; did you mean `{near[0]}`?" if near and near[0] != found[1] else ""


def _refuse(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise BadConfiguration("\n".join(mistakes))
