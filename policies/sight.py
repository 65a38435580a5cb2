"""What policies look at: what looks the same to all of them shares a decision.

A policy is closed: it reads attributes by name and compares with entities and constants that it names. So what a set can
tell apart follows from its text, once. Cedar is given just that much, and no more is part of a remembered decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass

from cedarpy import pst

Uid = tuple[str, str]
"""Type and id of an entity."""


@dataclass(frozen=True, slots=True)
class Equals:
    """Whether the value is this one."""

    value: str | int | bool


@dataclass(frozen=True, slots=True)
class Holds:
    """Whether the set has this in it."""

    value: str


@dataclass(frozen=True, slots=True)
class Matches:
    """Whether the text has these pieces one after the other, from its beginning to its end, with anything between."""

    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exceeds:
    """On which side of this number the value is."""

    limit: int


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether there is a value."""


Test = Equals | Exceeds | Exists | Holds | Matches


@dataclass(frozen=True, slots=True)
class Reading:
    """That an attribute of a variable (`principal`, `resource`, `context`) is read, and for which test of it alone;
    None where the value itself is used."""

    variable: str
    attribute: str
    test: Test | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What policies look at: attributes, the entities they name (as the resource, or above it, or as who asks), and the
    variables they use `whole`, in a way that is not told apart here."""

    readings: frozenset[Reading] = frozenset()
    named: frozenset[Uid] = frozenset()
    whole: frozenset[str] = frozenset()

    def attributes(self, variable: str) -> frozenset[str]:
        """The names of what is read of a variable."""
        return frozenset(reading.attribute for reading in self.readings if reading.variable == variable)


def merge_sights(sights: Sequence[Sight]) -> Sight:
    """What all of them together look at."""
    return Sight(
        readings=frozenset[Reading]().union(*[each.readings for each in sights]),
        named=frozenset[Uid]().union(*[each.named for each in sights]),
        whole=frozenset[str]().union(*[each.whole for each in sights]),
    )


def find_sight(policy: pst.Template) -> Sight:
    """The sight of one policy."""
    looks = list(_looks_of_policy(policy))
    return Sight(
        readings=frozenset(look for look in looks if isinstance(look, Reading)),
        named=frozenset(look.uid for look in looks if isinstance(look, _Names)),
        whole=frozenset(look.variable for look in looks if isinstance(look, _Whole)),
    )


def find_loose_entities(policy: pst.Template) -> list[Uid]:
    """Entities that a policy looks into, rather than comparing them with who asks or what is asked of.

    Only those two are known while deciding, so `Environment::"prod".strict` could only ever fail."""
    return [look.uid for look in _looks_of_policy(policy) if isinstance(look, _LooksInto)]


def find_compared(variable: str, expr: object) -> frozenset[Uid] | None:
    """The entities of which the variable has to be one, or be in one, for a condition to hold; None where that is not all
    there is to it."""
    match expr:
        case pst.BinaryOp(op="in", left=pst.Var(name=name), right=right) if name == variable:
            return _literals(right)
        case pst.BinaryOp(op="eq", left=pst.Var(name=name), right=pst.EntityLit(value=uid)) if name == variable:
            return frozenset({read_uid(uid)})
        case pst.BinaryOp(op="eq", left=pst.EntityLit(value=uid), right=pst.Var(name=name)) if name == variable:
            return frozenset({read_uid(uid)})
        case pst.BinaryOp(op="or", left=left, right=right):
            one, other = find_compared(variable, left), find_compared(variable, right)
            return None if one is None or other is None else one | other
        case _:
            return None


def read_uid(uid: pst.EntityUid) -> Uid:
    return str(uid.type), uid.id


@dataclass(frozen=True, slots=True)
class _Names:
    uid: Uid


@dataclass(frozen=True, slots=True)
class _LooksInto:
    uid: Uid


@dataclass(frozen=True, slots=True)
class _Whole:
    variable: str


_Look = Reading | _Names | _LooksInto | _Whole


def _looks_of_policy(policy: pst.Template) -> Iterator[_Look]:
    for constraint in (policy.principal, policy.resource):
        for uid in pst.entity_uids(constraint):
            yield _Names(read_uid(uid))
    for clause in policy.clauses:
        yield from _looks(clause.expr)


def _looks(expr: object) -> Iterator[_Look]:
    tests = list(_tests(expr))
    if tests:
        yield from tests
        return
    match expr:
        case pst.GetAttr(base=pst.Var(name=variable), attr=name):
            yield Reading(variable, name)
        case pst.HasAttr(base=pst.Var(name=variable), attrs=names):
            yield Reading(variable, names[0], Exists() if len(names) == 1 else None)
        case pst.Is(base=pst.Var(), in_expr=None):
            pass
        case (
            pst.Is(base=pst.Var() as variable, in_expr=right)
            | pst.BinaryOp(op="in" | "eq" | "not_eq", left=pst.Var() as variable, right=right)
        ):
            yield from _looks_of_comparison(variable, right)
        case pst.BinaryOp(op="eq" | "not_eq", left=pst.EntityLit() as left, right=pst.Var() as variable):
            yield from _looks_of_comparison(variable, left)
        case pst.Var(name="action"):
            pass  # asked of by itself: no two actions share a decision
        case pst.Var(name=name):
            yield _Whole(name)
        case pst.EntityLit(value=uid):
            yield _LooksInto(read_uid(uid))
        case _:
            for part in _parts(expr):
                yield from _looks(part)


def _looks_of_comparison(variable: pst.Var, right: object) -> Iterator[_Look]:
    literals = _literals(right)
    if literals is None:
        yield from _looks(variable)
        yield from _looks(right)
    else:
        yield from (_Names(uid) for uid in literals)


def _tests(expr: object) -> Iterator[Reading]:
    """The readings of a comparison of one attribute with constants; none where it is anything else."""
    match expr:
        case (
            pst.BinaryOp(op="eq" | "not_eq", left=left, right=pst.StringLit() | pst.LongLit() | pst.BoolLit() as right)
            | pst.BinaryOp(
                op="eq" | "not_eq", right=left, left=pst.StringLit() | pst.LongLit() | pst.BoolLit() as right
            )
        ):
            yield from _read(left, Equals(right.value))
        case (
            pst.BinaryOp(op="less" | "less_eq" | "greater" | "greater_eq", left=left, right=pst.LongLit(value=limit))
            | pst.BinaryOp(op="less" | "less_eq" | "greater" | "greater_eq", right=left, left=pst.LongLit(value=limit))
        ):
            yield from _read(left, Exceeds(limit))
        case pst.BinaryOp(op="contains", left=left, right=pst.StringLit(value=held)):
            yield from _read(left, Holds(held))
        case pst.BinaryOp(op="contains_all" | "contains_any", left=left, right=pst.Set(elements=elements)):
            held_ones = [each.value for each in elements if isinstance(each, pst.StringLit)]
            if held_ones and len(held_ones) == len(elements):
                for held in held_ones:
                    yield from _read(left, Holds(held))
        case pst.Like(base=left, pattern=pattern):
            yield from _read(left, Matches(_pieces(pattern)))
        case _:
            pass


def _read(expr: object, test: Test) -> Iterator[Reading]:
    match expr:
        case pst.GetAttr(base=pst.Var(name=variable), attr=name):
            yield Reading(variable, name, test)
        case _:
            pass


def _pieces(pattern: Iterable[pst.PatternElem]) -> tuple[str, ...]:
    pieces = [""]
    for element in pattern:
        if isinstance(element, pst.Char):
            pieces[-1] += element.value
        else:
            pieces.append("")
    return tuple(pieces)


def _literals(expr: object) -> frozenset[Uid] | None:
    match expr:
        case pst.EntityLit(value=uid):
            return frozenset({read_uid(uid)})
        case pst.Set(elements=elements):
            found = [read_uid(each.value) for each in elements if isinstance(each, pst.EntityLit)]
            return frozenset(found) if len(found) == len(elements) else None
        case _:
            return None


def _parts(expr: object) -> Iterator[object]:
    """The expressions right under a node, whatever kind of node a newer Cedar brings."""
    if isinstance(expr, Mapping):
        yield from expr.values()
    elif isinstance(expr, tuple):
        yield from expr
    elif is_dataclass(expr):
        for field in fields(expr):
            yield getattr(expr, field.name)
