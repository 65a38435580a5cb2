"""How near each policy came to a question: which of its conditions hold, which do not, and by what in them.

Every condition, and every part of it, is asked of Cedar by itself, all at once, as what it is in the engine's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import cedarpy
import orjson
from cedarpy import pst

from .engine import NEVER, Engine
from .locations import Passage
from .model import Attribute, Question, Resource
from .statements import Statement, takes_in

_FAILED = re.compile(r"policy `(p\d+)`")

_ANYTHING = pst.ScopeAny()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a condition that settled it: where it stands, whether it holds (None: it can't be told), and what it
    looked at, as `context.login_age is 1200`."""

    passage: Passage
    holds: bool | None
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a policy asks for: its scope's principal or resource, or a `when` or `unless`; by which parts it is
    met or not."""

    kind: str
    met: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A policy about the action, held against one question."""

    statement: Statement
    resource: Resource
    conditions: tuple[Condition, ...]

    @property
    def permits(self) -> bool:
        """Whether it is a permit, not a forbid."""
        return self.statement.policy.effect == "permit"

    @property
    def applies(self) -> bool:
        return all(condition.met for condition in self.conditions)

    @property
    def unmet(self) -> tuple[Condition, ...]:
        return tuple(condition for condition in self.conditions if not condition.met)


def weigh(engine: Engine, question: Question) -> list[Weighed]:
    """All policies about the action, each held against the first resource that is denied, or all of them where none is.

    Raises what the engine's answer tells as an error."""
    resources = list(question.each())
    denied = [
        each
        for each in resources
        if not engine.decide(question.caller, question.action, *each, at=question.at or None).allowed
    ]
    about = [one for one in engine.loaded.statements.values() if takes_in(one.policy.action, question.action)]
    return [
        weighed
        for resource, context in (denied[:1] or resources)
        for weighed in _weigh(engine, about, question, resource, context)
    ]


def find_nearest(weighed: Sequence[Weighed], most: int = 3) -> list[Weighed]:
    """The permits that came nearest to applying, those with the fewest conditions unmet; a scope that speaks of others
    is further off than a condition."""
    missed = [each for each in weighed if each.permits and not each.applies]
    return sorted(missed, key=_distance)[:most]


def find_attributes(statements: Iterable[Statement]) -> frozenset[str]:
    """The names of all attributes that policies read, of whatever."""
    return frozenset(name for statement in statements for name in _attributes(statement.policy.clauses))


def _attributes(node: object) -> Iterator[str]:
    match node:
        case pst.GetAttr(attr=name):
            yield name
        case pst.HasAttr(attrs=names):
            yield from names
        case _:
            pass
    if isinstance(node, tuple):
        parts: Iterable[object] = node
    else:
        parts = [getattr(node, each.name) for each in fields(node)] if is_dataclass(node) else ()
    for part in parts:
        yield from _attributes(part)


def _distance(weighed: Weighed) -> tuple[int, int]:
    scopes = sum(condition.kind in ("principal", "resource") for condition in weighed.unmet)
    return len(weighed.unmet), scopes


def _weigh(
    engine: Engine,
    statements: Sequence[Statement],
    question: Question,
    resource: Resource,
    context: tuple[tuple[str, Attribute], ...],
) -> list[Weighed]:
    request, entities = engine.pose(question.caller, question.action, resource, context, at=question.at or None)
    asking = _Asking(_visible(request, question, resource))
    pending = [(statement, list(_ask(asking, statement))) for statement in statements]
    asking.settle(request, entities)
    return [
        Weighed(statement, resource, tuple(asking.judge(statement, *each) for each in conditions))
        for statement, conditions in pending
    ]


def _ask(asking: _Asking, statement: Statement) -> Iterator[tuple[str, int, pst.Expr | None]]:
    """Poses all conditions of a policy; gives each one's kind, its number among the clauses, and its expression."""
    policy = statement.policy
    if policy.principal != _ANYTHING:
        asking.add((statement.id, "principal"), principal=policy.principal)
        yield "principal", -1, None
    if policy.resource != _ANYTHING:
        asking.add((statement.id, "resource"), resource=policy.resource)
        yield "resource", -1, None
    for index, clause in enumerate(policy.clauses):
        for part in _walk(clause.expr):
            asking.add((statement.id, index, part), clauses=(pst.When(part),))
        yield "when" if isinstance(clause, pst.When) else "unless", index, clause.expr


class _Asking:
    """Conditions, each made into a permit of its own, so that one answer of Cedar names all that hold."""

    def __init__(self, visible: Mapping[str, Any]) -> None:
        self._visible = visible
        self._names: dict[object, str] = {}
        self._probes: dict[str, pst.Template] = {}
        self._holds: frozenset[str] = frozenset()
        self._failed: frozenset[str] = frozenset()

    def add(self, key: object, **parts: Any) -> None:
        name = self._names.setdefault(key, f"p{len(self._names)}")
        probe = pst.Template(
            id=name,
            effect="permit",
            principal=_ANYTHING,
            action=_ANYTHING,
            resource=_ANYTHING,
            clauses=(),
            annotations={},
        )
        self._probes[name] = replace(probe, **parts)

    def settle(self, request: Mapping[str, object], entities: cedarpy.Entities) -> None:
        policies = cedarpy.PolicySet.from_pst(pst.PolicySet({}, self._probes, ()))
        found = cedarpy.is_authorized(dict(request), policies, entities).diagnostics
        self._holds = frozenset(found.reasons)
        self._failed = frozenset(match[1] for error in found.errors if (match := _FAILED.search(error)))

    def judge(self, statement: Statement, kind: str, index: int, expression: pst.Expr | None) -> Condition:
        if expression is None:
            holds = self._value((statement.id, kind))
            return Condition(kind, holds is True, (Part(statement.scope(kind), holds),))
        holds = self._value((statement.id, index, expression))
        return Condition(
            kind, holds is (kind == "when"), tuple(dict.fromkeys(self._parts(statement, index, expression)))
        )

    def _value(self, key: object) -> bool | None:
        name = self._names[key]
        return None if name in self._failed else name in self._holds

    def _parts(self, statement: Statement, index: int, expression: pst.Expr) -> Iterator[Part]:
        """The smallest parts that make the expression what it is."""
        value = self._value((statement.id, index, expression))
        match expression:
            case pst.BinaryOp(op="and" | "or" as op, left=left, right=right):
                first = self._value((statement.id, index, left))
                # `false && x`, `true || x` and a failure are settled by their left side; x was never looked at.
                if first is None or first is (op == "or"):
                    yield from self._parts(statement, index, left)
                elif value is (op == "and"):
                    yield from self._parts(statement, index, left)
                    yield from self._parts(statement, index, right)
                else:
                    yield from self._parts(statement, index, right)
            case pst.UnaryOp(op="not", arg=argument):
                yield from self._parts(statement, index, argument)
            case _:
                seen = tuple(dict.fromkeys(_sights(expression, self._visible)))
                yield Part(statement.part(index, expression), value, seen)


def _walk(expression: pst.Expr) -> Iterator[pst.Expr]:
    yield expression
    match expression:
        case pst.BinaryOp(op="and" | "or", left=left, right=right):
            yield from _walk(left)
            yield from _walk(right)
        case pst.UnaryOp(op="not", arg=argument):
            yield from _walk(argument)
        case _:
            pass


def _visible(request: Mapping[str, object], question: Question, resource: Resource) -> Mapping[str, Any]:
    caller = question.caller
    return {
        "context": orjson.loads(str(request["context"])),
        "principal": {"issuer": caller.issuer, "key": caller.key, "name": caller.name},
        "resource": dict(resource.attributes),
    }


def _sights(expression: object, visible: Mapping[str, Any]) -> Iterator[str]:
    """What the expression reads, and what it finds there."""
    match expression:
        case pst.GetAttr():
            path = _path(expression)
            value: Any = visible
            for name in path:
                if not isinstance(value, Mapping) or name not in value:
                    return
                value = value[name]
            if path:
                told = orjson.dumps(value).decode()
                yield f"{'.'.join(path)} is {f'not known, so {told}' if value == NEVER else told}"
        case pst.BinaryOp(left=left, right=right):
            yield from _sights(left, visible)
            yield from _sights(right, visible)
        case pst.UnaryOp(arg=argument):
            yield from _sights(argument, visible)
        case pst.Like(base=inner) | pst.Is(base=inner):
            yield from _sights(inner, visible)
        case _:
            return


def _path(expression: object) -> tuple[str, ...]:
    match expression:
        case pst.Var(name=name):
            return (name,)
        case pst.GetAttr(base=base, attr=name):
            path = _path(base)
            return (*path, name) if path else ()
        case _:
            return ()
