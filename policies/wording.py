"""Conditions as Cedar text that people would write: what is printed means the same when it is put in a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from cedarpy import PolicySet, pst

from .formulas import All, Any, Formula, Part
from .spans import write_literal

_OPERATORS = {
    "add": "+",
    "and": "&&",
    "eq": "==",
    "greater": ">",
    "greater_eq": ">=",
    "in": "in",
    "less": "<",
    "less_eq": "<=",
    "mul": "*",
    "not_eq": "!=",
    "or": "||",
    "sub": "-",
}
_METHODS = {
    "contains": "contains",
    "contains_all": "containsAll",
    "contains_any": "containsAny",
    "get_tag": "getTag",
    "has_tag": "hasTag",
}
_OPPOSITE: dict[str, pst.BinaryOpName] = {"eq": "not_eq", "less_eq": "greater"}


def write_formula(formula: Formula) -> str:
    """The formula as a condition: `context.strict && resource.risk == "high"`."""
    return _write(formula, within=None)


def _write(formula: Formula, within: type[All | Any] | None) -> str:
    match formula:
        case bool():
            return "true" if formula else "false"
        case Part(expression=expression, negated=negated):
            return _write_part(expression, negated=negated)
        case All(of=formulas):
            text = " && ".join(_joined(formulas, negated=True))
            return f"({text})" if within is Any else text
        case Any(of=formulas):
            pieces = list(_joined(formulas, negated=False))
            text = " || ".join(pieces)
            return f"({text})" if within is All and len(pieces) > 1 else text


def _joined(formulas: Sequence[Formula], *, negated: bool) -> Iterator[str]:
    """The pieces, with what is said of the same thing in one list: any of some values, or (negated) none of them."""
    within = All if negated else Any
    for key, group in groupby(formulas, key=lambda each: _listed(each, negated)[:2]):
        listed = list(group)
        if not key or len(listed) == 1:
            yield from (_write(each, within) for each in listed)
            continue
        subject, op = key
        values = ", ".join(_listed(each, negated)[2] for each in listed)
        text = f"{subject} in [{values}]" if op == "in" else f"[{values}].contains({subject})"
        yield text if not negated else f"!({text})" if op == "in" else f"!{text}"


def _listed(formula: Formula, negated: bool) -> tuple[str, ...]:
    """What is compared, how, and with which literal; nothing for all that can't stand in a list."""
    match formula:
        case Part(
            expression=pst.BinaryOp(op="eq" | "in" as op, left=left, right=pst.StringLit() | pst.EntityLit() as right),
            negated=sign,
        ) if sign is negated:
            return _write_expression(left), op, write_literal(right)
        case _:
            return ()


def _write_part(expression: pst.Expr, *, negated: bool) -> str:
    if not negated:
        return _write_expression(expression)
    match expression:
        case pst.BinaryOp(op="eq" | "less_eq" as op, left=left, right=right):
            return _write_expression(pst.BinaryOp(_OPPOSITE[op], left, right))
        case pst.GetAttr() | pst.BinaryOp(op="contains" | "contains_all" | "contains_any"):
            return f"!{_write_expression(expression)}"
        case _:
            return f"!({_write_expression(expression)})"


def _write_expression(expression: pst.Expr) -> str:  # noqa: PLR0911  # one for each kind
    match expression:
        case pst.Var(name=name):
            return name
        case pst.BoolLit() | pst.LongLit() | pst.StringLit() | pst.EntityLit():
            return write_literal(expression)
        case pst.GetAttr(base=base, attr=name):
            return f"{_operand(base)}.{name}" if name.isidentifier() else f'{_operand(base)}["{name}"]'
        case pst.HasAttr(base=base, attrs=names):
            return f"{_operand(base)} has {'.'.join(names)}"
        case pst.Is(base=base, entity_type=kind):
            return f"{_operand(base)} is {kind}"
        case pst.Set(elements=elements):
            return f"[{', '.join(_write_expression(each) for each in elements)}]"
        case pst.BinaryOp(op=op, left=left, right=right) if op in _OPERATORS:
            return f"{_operand(left)} {_OPERATORS[op]} {_operand(right)}"
        case pst.BinaryOp(op=op, left=left, right=right) if op in _METHODS:
            return f"{_operand(left)}.{_METHODS[op]}({_write_expression(right)})"
        case _:
            return _as_cedar_writes(expression)


def _operand(expression: pst.Expr) -> str:
    simple = pst.Var | pst.BoolLit | pst.LongLit | pst.StringLit | pst.EntityLit | pst.GetAttr | pst.Set
    text = _write_expression(expression)
    return text if isinstance(expression, simple) else f"({text})"


def _as_cedar_writes(expression: pst.Expr) -> str:
    """By Cedar itself, which is right for everything and spares no brackets."""
    anything = pst.ScopeAny()
    policy = pst.Template("p", "permit", anything, anything, anything, (pst.When(expression),), {})
    text = str(PolicySet.from_pst(pst.PolicySet({}, {"p": policy}, ())))
    return text.partition("when {")[2].rpartition("}")[0].strip()
