"""Whether a formula can hold at all, by going through what its parts can be: sound, and complete for what is compared.

Parts that are compared with the same thing are decided together: a field has one value, a resource one type. Whatever
else a part says may hold or not. So "no" is a proof, and "yes" may be too hopeful.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from cedarpy import pst

from .formulas import All, Formula, Part, change_parts, make_all, make_any, negate, parts
from .model import Action, ResourceType
from .vocabulary import INTERACTIVE, NEVER_NEGATIVE, WORDS, Vocabulary
from .wording import write_formula

_MOST_LOOKS = 60_000
"""How many parts of formulas are looked at before giving up."""

_RESOURCE = pst.Var("resource")
_PRINCIPAL = pst.Var("principal")
_CHANNEL = pst.GetAttr(pst.Var("context"), "channel")
_KEY = pst.GetAttr(_PRINCIPAL, "key")


class TooHard(Exception):
    """The question has more to it than is looked at."""


@dataclass(frozen=True, slots=True)
class _Other:
    """A value that no part names."""


_Value = str | int | _Other


class Solver:
    """Answers about formulas on questions of one action; `types` are the resources it may be asked of."""

    def __init__(self, vocabulary: Vocabulary, action: Action, types: tuple[ResourceType, ...] | None = None) -> None:
        self._vocabulary = vocabulary
        self.types = vocabulary.types_of(action) if types is None else types
        self._looks = 0

    def possible(self, *formulas: Formula) -> bool:
        """Whether all of these can hold together; True as well where that is too hard to tell."""
        self._looks = 0
        try:
            return self._search(self._prepare(make_all(formulas)))
        except TooHard:
            return True

    def implies(self, given: Formula, then: Formula) -> bool:
        """Whether the one holds wherever the other does, proven."""
        return not self.possible(given, negate(then))

    def simplify(self, formula: Formula, given: Formula = True) -> Formula:
        """What is left to say where `given` holds."""
        if not self.possible(given, formula):
            return False
        if self.implies(given, formula):
            return True
        if not isinstance(formula, Part | bool):
            left = [self.simplify(each, given) for each in formula.of]
            return make_all(left) if isinstance(formula, All) else make_any(left)
        return formula

    def _prepare(self, formula: Formula) -> Formula:
        """The formula with what the program derives told by what it is derived from."""
        return change_parts(formula, self._derive)

    def _derive(self, part: Part) -> Formula:
        found: Formula = Part(part.expression)
        match part.expression:
            case pst.GetAttr(base=pst.Var(name="context"), attr="interactive"):
                found = make_any(
                    Part(pst.BinaryOp("eq", _CHANNEL, pst.StringLit(each))) for each in sorted(INTERACTIVE)
                )
            case pst.Is(base=pst.Var(name="principal"), entity_type=kind):
                found = str(kind) == "Person"
            case pst.BinaryOp(
                op="eq" | "in",
                left=pst.Var(name="principal"),
                right=pst.EntityLit(value=pst.EntityUid(type=pst.EntityType(basename="Person"), id=key)),
            ):
                found = Part(pst.BinaryOp("eq", _KEY, pst.StringLit(key)))
            case pst.BinaryOp(op="in", left=pst.Var(name="principal"), right=pst.EntityLit(value=uid)):
                found = Part(part.expression) if str(uid.type) in ("Group", "Role") else False
            case _:
                pass
        return negate(found) if part.negated else found

    def _search(self, formula: Formula) -> bool:
        if isinstance(formula, bool):
            return formula
        listed = list(parts(formula))
        self._looks += len(listed)
        if self._looks > _MOST_LOOKS:
            raise TooHard
        if any(_about_resource(part.expression) for part in listed):
            return any(self._search(each) for each in self._by_resource(formula, listed))
        # What is said without an alternative comes first: it leaves the fewest ways.
        first = (
            next((each for each in formula.of if isinstance(each, Part)), None) if isinstance(formula, All) else None
        )
        part = first or (formula if isinstance(formula, Part) else listed[0])
        if (subject := _subject(part.expression)) is None:
            return any(
                self._search(_fix(formula, part.expression, holds)) for holds in (not part.negated, part.negated)
            )
        return any(self._search(each) for each in _by_value(formula, subject, listed))

    def _by_resource(self, formula: Formula, listed: list[Part]) -> Iterator[Formula]:
        """The formula for a resource of each type, and for each resource that it names."""
        named = {
            (uid.type.basename, uid.id)
            for part in listed
            if isinstance(part.expression, pst.BinaryOp) and part.expression.left == _RESOURCE
            for uid in pst.entity_uids(part.expression.right)
        }
        for kind in self.types:
            for name in (None, *sorted(each for kind_of, each in named if kind_of == kind)):
                yield change_parts(formula, partial(self._at, kind=kind, name=name))

    def _at(self, part: Part, kind: ResourceType, name: str | None) -> Formula:
        """The part where the resource is of that type, and the one of that name or (None) none that is named."""
        found: Formula = Part(part.expression)
        match part.expression:
            case pst.Is(base=pst.Var(name="resource"), entity_type=asked):
                found = str(asked) == kind
            case pst.HasAttr(base=pst.Var(name="resource"), attrs=(attribute,)):
                known = self._vocabulary.has(kind, attribute)
                found = Part(_unsettled(f"has {attribute}")) if known is None else known
            case pst.BinaryOp(op="eq", left=pst.Var(name="resource"), right=pst.EntityLit(value=uid)):
                found = (str(uid.type), uid.id) == (kind, name)
            case pst.BinaryOp(op="in", left=pst.Var(name="resource"), right=pst.EntityLit(value=uid)):
                if (str(uid.type), uid.id) == (kind, name):
                    found = True
                elif not self._vocabulary.lies_in(kind, str(uid.type)):
                    found = False
                else:
                    found = Part(_unsettled(f"in {uid}"))
            case _:
                pass
        return negate(found) if part.negated else found


def _unsettled(what: str) -> pst.Expr:
    """What may hold of a resource or not when its type is settled."""
    return pst.BinaryOp("has_tag", _RESOURCE, pst.StringLit(what))


def _about_resource(expression: pst.Expr) -> bool:
    match expression:
        case (
            pst.Is(base=pst.Var(name="resource"))
            | pst.HasAttr(base=pst.Var(name="resource"), attrs=(_,))
            | pst.BinaryOp(op="eq" | "in", left=pst.Var(name="resource"), right=pst.EntityLit())
        ):
            return True
        case _:
            return False


def _subject(expression: pst.Expr) -> pst.Expr | None:
    """What is compared with a text or a number."""
    match expression:
        case pst.BinaryOp(op="eq" | "less_eq", left=left, right=pst.StringLit() | pst.LongLit()):
            return left
        case pst.Like(base=base):
            return base
        case _:
            return None


def _fix(formula: Formula, expression: pst.Expr, holds: bool) -> Formula:
    return change_parts(formula, lambda part: (holds is not part.negated) if part.expression == expression else part)


def _by_value(formula: Formula, subject: pst.Expr, listed: list[Part]) -> Iterator[Formula]:
    """The formula for each value that makes a difference to what it says of the subject."""
    words: set[str] = set()
    numbers: set[int] = set()
    for part in listed:
        match part.expression:
            case pst.BinaryOp(op="eq" | "less_eq", left=left, right=pst.StringLit(value=word)) if left == subject:
                words.add(word)
            case pst.BinaryOp(op="eq" | "less_eq", left=left, right=pst.LongLit(value=number)) if left == subject:
                numbers |= {number - 1, number, number + 1}
            case _:
                pass
    name = write_formula(Part(subject))
    if name in NEVER_NEGATIVE:
        numbers = {number for number in numbers if number >= 0}
    values: list[_Value] = [*sorted(numbers)]
    if not numbers:
        known = WORDS.get(name)
        values = [*sorted(words if known is None else words & known)]
        if known is None or known - words:
            values.append(_Other())
    for value in values:
        yield change_parts(formula, partial(_with_value, subject=subject, value=value))


def _with_value(part: Part, subject: pst.Expr, value: _Value) -> Formula:
    found: Formula = Part(part.expression)
    match part.expression:
        case pst.BinaryOp(op="eq", left=left, right=pst.StringLit(value=word)) if left == subject:
            found = value == word
        case pst.BinaryOp(op="eq", left=left, right=pst.LongLit(value=number)) if left == subject:
            found = value == number
        case pst.BinaryOp(op="less_eq", left=left, right=pst.LongLit(value=number)) if left == subject:
            found = isinstance(value, int) and value <= number
        case pst.Like(base=base, pattern=pattern) if base == subject:
            if isinstance(value, str):
                found = _matches(value, pattern)
            else:  # some other text: it may fit or not, each pattern by itself
                found = Part(pst.HasAttr(subject, ("like", repr(pattern))))
        case _:
            pass
    return negate(found) if part.negated else found


def _matches(text: str, pattern: tuple[pst.PatternElem, ...]) -> bool:
    """Whether the text fits Cedar's pattern, whose wildcard is any run of characters."""
    at = {0}
    for element in pattern:
        if isinstance(element, pst.Wildcard):
            at = set(range(min(at), len(text) + 1)) if at else at
        else:
            at = {index + 1 for index in at if text[index : index + 1] == element.value}
    return len(text) in at
