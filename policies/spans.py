"""Where an expression stands: its names and literals are looked for in the tokens, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from cedarpy import pst

from .tokens import Token, read_tokens


def find_span(tokens: Sequence[Token], expression: pst.Expr) -> tuple[Token, Token] | None:
    """The first and the last token of the first place that reads like the expression; None where none does."""
    leaves = [token.text for leaf in _leaves(expression) for token in read_tokens(leaf)]
    if not leaves:
        return None
    best: tuple[int, int] | None = None
    for start, token in enumerate(tokens):
        if token.text == leaves[0]:
            end = _match(tokens, start, leaves)
            if end is not None and (best is None or end - start < best[1] - best[0]):
                best = (start, end)
    return (tokens[best[0]], tokens[best[1]]) if best else None


def _match(tokens: Sequence[Token], start: int, leaves: Sequence[str]) -> int | None:
    """Where the last of the leaves is when they follow each other from the start, with signs between."""
    found = 0
    for index in range(start, len(tokens)):
        if tokens[index].text == leaves[found]:
            found += 1
            if found == len(leaves):
                return index
    return None


def _leaves(expression: object) -> Iterator[str]:
    """Names and literals from left to right, as they are written."""
    match expression:
        case pst.Var(name=name):
            yield name
        case pst.BoolLit() | pst.LongLit() | pst.StringLit() | pst.EntityLit():
            yield write_literal(expression)
        case pst.GetAttr(base=base, attr=name):
            yield from _leaves(base)
            yield name
        case pst.HasAttr(base=base, attrs=names):
            yield from _leaves(base)
            yield from names
        case pst.EntityType():
            yield str(expression)
        case tuple():
            for part in expression:
                yield from _leaves(part)
        case pst.BinaryOp() | pst.UnaryOp() | pst.Like() | pst.Is() | pst.IfThenElse() | pst.Set():
            for field in fields(expression):  # in the order they are written in
                yield from _leaves(getattr(expression, field.name))
        case _:
            pass


def write_literal(literal: pst.BoolLit | pst.LongLit | pst.StringLit | pst.EntityLit) -> str:
    """A literal as it stands in Cedar."""
    match literal:
        case pst.StringLit(value=text):
            return _quote(text)
        case pst.EntityLit(value=uid):
            return f"{uid.type}::{_quote(uid.id)}"
        case pst.BoolLit(value=value):
            return "true" if value else "false"
        case pst.LongLit(value=number):
            return str(number)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for character, written in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\0", "\\0")):
        escaped = escaped.replace(character, written)
    return f'"{escaped}"'
