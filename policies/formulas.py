"""Conditions as formulas: what Cedar's expressions come down to when only `and`, `or` and `not` join their parts.

The parts are comparisons in one form each: `x == literal`, `x <= number`, `x.contains(literal)`, `variable in entity`,
`variable is Type`. Whatever is written otherwise stays as it is, as a part that may hold or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from cedarpy import pst

_LEAST = -(2**63)
_MOST = 2**63 - 1

_Literal = pst.BoolLit | pst.LongLit | pst.StringLit | pst.EntityLit


@dataclass(frozen=True, slots=True)
class Part:
    """A condition that no `and`, `or` or `not` takes apart; it may hold or, with `negated`, may not."""

    expression: pst.Expr
    negated: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """All of these, in order, at least two."""

    of: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Any of these, in order, at least two."""

    of: tuple[Formula, ...]


Formula = bool | Part | All | Any


def make_all(formulas: Iterable[Formula]) -> Formula:
    """That all of these hold, in the shortest form that costs nothing to find."""
    found: dict[Formula, None] = {}
    for formula in formulas:
        if formula is False:
            return False
        if formula is not True:
            found |= dict.fromkeys(formula.of if isinstance(formula, All) else (formula,))
    if any(isinstance(each, Part) and negate(each) in found for each in found):
        return False
    return All(tuple(found)) if len(found) > 1 else next(iter(found), True)


def make_any(formulas: Iterable[Formula]) -> Formula:
    """That any of these holds, in the shortest form that costs nothing to find."""
    found: dict[Formula, None] = {}
    for formula in formulas:
        if formula is True:
            return True
        if formula is not False:
            found |= dict.fromkeys(formula.of if isinstance(formula, Any) else (formula,))
    if any(isinstance(each, Part) and negate(each) in found for each in found):
        return True
    return Any(tuple(found)) if len(found) > 1 else next(iter(found), False)


def negate(formula: Formula) -> Formula:
    """The opposite, with `not` at the parts alone."""
    match formula:
        case bool():
            return not formula
        case Part(expression=expression, negated=negated):
            return Part(expression, not negated)
        case All(of=formulas):
            return make_any(negate(each) for each in formulas)
        case Any(of=formulas):
            return make_all(negate(each) for each in formulas)


def parts(formula: Formula) -> Iterator[Part]:
    """The parts from left to right, as often as they occur."""
    match formula:
        case Part():
            yield formula
        case All(of=formulas) | Any(of=formulas):
            for each in formulas:
                yield from parts(each)
        case _:
            pass


def change_parts(formula: Formula, change: Callable[[Part], Formula]) -> Formula:
    """The formula with another in place of each part."""
    match formula:
        case Part():
            return change(formula)
        case All(of=formulas):
            return make_all(change_parts(each, change) for each in formulas)
        case Any(of=formulas):
            return make_any(change_parts(each, change) for each in formulas)
        case _:
            return formula


def read_policy(policy: pst.Template) -> Formula:
    """What has to hold for the policy to apply to a question about one of its actions."""
    conditions: list[Formula] = []
    for variable, scope in (("principal", policy.principal), ("resource", policy.resource)):
        conditions.append(_read_scope(pst.Var("principal" if variable == "principal" else "resource"), scope))
    for clause in policy.clauses:
        formula = read_expression(clause.expr)
        conditions.append(formula if isinstance(clause, pst.When) else negate(formula))
    return make_all(conditions)


def _read_scope(variable: pst.Var, scope: pst.PrincipalOrResourceConstraint) -> Formula:
    match scope:
        case pst.ScopeEq(entity=pst.EntityUid() as uid):
            return Part(pst.BinaryOp("eq", variable, pst.EntityLit(uid)))
        case pst.ScopeIn(entity=pst.EntityUid() as uid):
            return Part(pst.BinaryOp("in", variable, pst.EntityLit(uid)))
        case pst.ScopeIs(entity_type=kind):
            return Part(pst.Is(variable, kind, None))
        case pst.ScopeIsIn(entity_type=kind, entity=pst.EntityUid() as uid):
            inside = pst.BinaryOp("in", variable, pst.EntityLit(uid))
            return make_all([Part(pst.Is(variable, kind, None)), Part(inside)])
        case _:
            return True


def read_expression(expression: pst.Expr) -> Formula:  # noqa: PLR0911  # one for each kind
    """The formula of an expression that is true or false."""
    match expression:
        case pst.BoolLit(value=value):
            return value
        case pst.UnaryOp(op="not", arg=argument):
            return negate(read_expression(argument))
        case pst.BinaryOp(op="and", left=left, right=right):
            return make_all([read_expression(left), read_expression(right)])
        case pst.BinaryOp(op="or", left=left, right=right):
            return make_any([read_expression(left), read_expression(right)])
        case pst.IfThenElse(cond=condition, then_expr=then, else_expr=otherwise):
            holds = read_expression(condition)
            yes, no = read_expression(then), read_expression(otherwise)
            return make_any([make_all([holds, yes]), make_all([negate(holds), no])])
        case pst.Is(base=base, in_expr=above) if above is not None:
            inside = read_expression(pst.BinaryOp("in", base, above))
            return make_all([Part(replace(expression, in_expr=None)), inside])
        case pst.BinaryOp():
            return _read_comparison(expression)
        case _:
            return Part(expression)


def _read_comparison(comparison: pst.BinaryOp) -> Formula:  # noqa: PLR0911  # one for each kind
    match comparison:
        case pst.BinaryOp(op="eq", left=left, right=right):
            return _read_equality(left, right)
        case pst.BinaryOp(op="not_eq", left=left, right=right):
            return negate(_read_equality(left, right))
        case pst.BinaryOp(op="less" | "less_eq" | "greater" | "greater_eq"):
            return _read_order(comparison)
        case pst.BinaryOp(op="in", left=left, right=pst.Set(elements=elements)):
            return make_any(read_expression(pst.BinaryOp("in", left, each)) for each in elements)
        case pst.BinaryOp(op="contains", left=pst.Set(elements=elements), right=right):
            return make_any(_read_equality(right, each) for each in elements)
        case pst.BinaryOp(op="contains_any", left=pst.Set(elements=elements), right=other):
            return make_any(read_expression(pst.BinaryOp("contains", other, each)) for each in elements)
        case pst.BinaryOp(op="contains_any", left=other, right=pst.Set(elements=elements)):
            return make_any(read_expression(pst.BinaryOp("contains", other, each)) for each in elements)
        case pst.BinaryOp(op="contains_all", left=other, right=pst.Set(elements=elements)):
            return make_all(read_expression(pst.BinaryOp("contains", other, each)) for each in elements)
        case _:
            return Part(comparison)


def _read_equality(left: pst.Expr, right: pst.Expr) -> Formula:
    if isinstance(left, _Literal) and isinstance(right, _Literal):
        return left == right
    if isinstance(left, _Literal):
        left, right = right, left
    if isinstance(right, pst.BoolLit):
        formula = read_expression(left)
        return formula if right.value else negate(formula)
    if not isinstance(right, _Literal) and repr(left) > repr(right):
        left, right = right, left
    return True if left == right else Part(pst.BinaryOp("eq", left, right))


def _read_order(comparison: pst.BinaryOp) -> Formula:
    """Everything as `x <= number`, which between whole numbers is all there is."""
    left, right, op = comparison.left, comparison.right, comparison.op
    if isinstance(left, pst.LongLit) and isinstance(right, pst.LongLit):
        low, high = left.value, right.value
        return {"less": low < high, "less_eq": low <= high, "greater": low > high}.get(op, low >= high)
    if isinstance(left, pst.LongLit):
        turned: dict[str, pst.BinaryOpName] = {"less": "greater", "less_eq": "greater_eq", "greater": "less"}
        left, right, op = right, left, turned.get(op, "less_eq")
    if not isinstance(right, pst.LongLit):
        return Part(comparison)
    limit = right.value - (op in ("less", "greater_eq"))
    up_to: Formula = False if limit < _LEAST else Part(pst.BinaryOp("less_eq", left, pst.LongLit(limit)))
    if limit == _MOST:
        up_to = True
    return up_to if op in ("less", "less_eq") else negate(up_to)


def substitute(formula: Formula, known: Callable[[pst.Expr], pst.Expr | None]) -> Formula:
    """The formula where some expressions are known to be others (a literal, mostly)."""

    def change(part: Part) -> Formula:
        found = read_expression(_substitute(part.expression, known))
        return negate(found) if part.negated else found

    return change_parts(formula, change)


def _substitute(  # noqa: PLR0911  # one for each kind
    expression: pst.Expr, known: Callable[[pst.Expr], pst.Expr | None]
) -> pst.Expr:
    if (found := known(expression)) is not None:
        return found
    match expression:
        case pst.BinaryOp(left=left, right=right):
            return replace(expression, left=_substitute(left, known), right=_substitute(right, known))
        case pst.UnaryOp(arg=argument):
            return replace(expression, arg=_substitute(argument, known))
        case pst.GetAttr(base=base) | pst.HasAttr(base=base) | pst.Like(base=base):
            return replace(expression, base=_substitute(base, known))
        case pst.Set(elements=elements):
            return pst.Set(tuple(_substitute(each, known) for each in elements))
        case pst.IfThenElse(cond=condition, then_expr=then, else_expr=otherwise):
            return pst.IfThenElse(
                _substitute(condition, known), _substitute(then, known), _substitute(otherwise, known)
            )
        case _:
            return expression
