"""What the policies of a set can see of a resource: resources that look the same to all of them share a decision.

A policy is closed: it reads attributes by name and compares with entities that it names. So what a set can look at
follows from its text, once. Cedar is given just that much of a resource, and no more is part of a cached decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass

from cedarpy import pst

Uid = tuple[str, str]
"""Type and id of an entity."""

_RESOURCE = pst.Var("resource")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a set of policies looks at: the resource's attributes by name, the entities it names (as the resource, or
    above it, or as who asks), or the `whole` resource, where a policy uses it in a way that is not told apart here."""

    attributes: frozenset[str]
    named: frozenset[Uid]
    whole: bool

    def sees(self, uid: Uid) -> bool:
        return self.whole or uid in self.named


def find_sight(policies: Iterable[pst.Template]) -> Sight:
    """The sight of all these policies together."""
    looks = [look for policy in policies for look in _looks_of_policy(policy)]
    return Sight(
        attributes=frozenset(look.attribute for look in looks if isinstance(look, _Reads)),
        named=frozenset(look.uid for look in looks if isinstance(look, _Names)),
        whole=any(isinstance(look, _Whole) for look in looks),
    )


def find_loose_entities(policy: pst.Template) -> list[Uid]:
    """Entities that a policy looks into, rather than comparing them with who asks or what is asked of.

    Only those two are known while deciding, so `Environment::"prod".strict` could only ever fail."""
    return [look.uid for look in _looks_of_policy(policy) if isinstance(look, _LooksInto)]


@dataclass(frozen=True, slots=True)
class _Reads:
    attribute: str


@dataclass(frozen=True, slots=True)
class _Names:
    uid: Uid


@dataclass(frozen=True, slots=True)
class _LooksInto:
    uid: Uid


@dataclass(frozen=True, slots=True)
class _Whole:
    pass


_Look = _Reads | _Names | _LooksInto | _Whole


def _looks_of_policy(policy: pst.Template) -> Iterator[_Look]:
    for constraint in (policy.principal, policy.resource):
        for uid in pst.entity_uids(constraint):
            yield _Names(_uid(uid))
    for clause in policy.clauses:
        yield from _looks(clause.expr)


def _looks(expr: object) -> Iterator[_Look]:
    match expr:
        case pst.GetAttr(base=pst.Var(name="resource"), attr=name):
            yield _Reads(name)
        case pst.HasAttr(base=pst.Var(name="resource"), attrs=names):
            yield _Reads(names[0])
        case pst.Is(base=pst.Var(), in_expr=None):
            pass
        case (
            pst.Is(base=pst.Var() as variable, in_expr=right)
            | pst.BinaryOp(op="in" | "eq" | "not_eq", left=pst.Var() as variable, right=right)
        ):
            yield from _looks_of_comparison(variable, right)
        case pst.BinaryOp(op="eq" | "not_eq", left=pst.EntityLit() as left, right=pst.Var() as variable):
            yield from _looks_of_comparison(variable, left)
        case pst.Var():
            if expr == _RESOURCE:
                yield _Whole()
        case pst.EntityLit(value=uid):
            yield _LooksInto(_uid(uid))
        case _:
            for part in _parts(expr):
                yield from _looks(part)


def _looks_of_comparison(variable: pst.Var, right: object) -> Iterator[_Look]:
    match right:
        case pst.EntityLit(value=uid):
            yield _Names(_uid(uid))
        case pst.Set(elements=elements) if all(isinstance(element, pst.EntityLit) for element in elements):
            for uid in pst.entity_uids(right):
                yield _Names(_uid(uid))
        case _:
            yield from _looks(variable)
            yield from _looks(right)


def _parts(expr: object) -> Iterator[object]:
    """The expressions right under a node, whatever kind of node a newer Cedar brings."""
    if isinstance(expr, Mapping):
        yield from expr.values()
    elif isinstance(expr, tuple):
        yield from expr
    elif is_dataclass(expr):
        for field in fields(expr):
            yield getattr(expr, field.name)


def _uid(uid: pst.EntityUid) -> Uid:
    return str(uid.type), uid.id
