"""Cedar files taken apart into statements, each with its file and line, and every mistake in them told with both."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cedarpy
from cedarpy import pst

from .errors import BadConfiguration
from .model import NO_SCOPE, OUTSIDE, Action, ActionGroup
from .sight import find_loose_entities

_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|\s+|;|[^\s";/]+|.', re.DOTALL)
"""Comments, strings, white space, the end of a statement, anything else. Outside comments and strings a semicolon
occurs in Cedar only at the end of a statement."""

_ACTION = re.compile(r'unrecognized action `(Action::"[^`]*")`')
_QUOTED = re.compile(r"`([^`]+)`")
_LAST_WORD = re.compile(r"(\w+)\W*$")


_TAKEN = frozenset({*OUTSIDE.policies, *NO_SCOPE.policies})
"""What a denial names where no policy was asked."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where something stands: the file, and the line in it, counted from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy as it is written, from its first annotation to its semicolon."""

    location: Location
    text: str
    policy: pst.Template

    @property
    def id(self) -> str:
        """The `@id`, or `""`."""
        return self.policy.annotations.get("id", "")


def read_statements(file: Path, text: str) -> list[Statement]:
    """The policies of one file in order; raises `BadConfiguration` with a line for every one that is not Cedar."""
    statements: list[Statement] = []
    mistakes: list[str] = []
    for line, source in _split(text):
        location = Location(file, line)
        try:
            parsed = cedarpy.policies_to_pst(source)
        except ValueError as error:
            mistakes.append(_tell(location, source, f"not a Cedar policy: {error}", _last_word(str(error))))
            continue
        if parsed.templates:
            mistakes.append(_tell(location, source, "a template (?principal, ?resource); write the policy out", "?"))
            continue
        statements += [Statement(location, source, policy) for policy in parsed.static_policies.values()]
    _refuse(mistakes)
    return statements


def check_statements(statements: Sequence[Statement], schema: cedarpy.Schema, words: Iterable[str]) -> None:
    """Raises `BadConfiguration` with a line for every policy without an `@id` of its own and for everything in a policy
    that the schema does not know, with the nearest of `words` that was probably meant."""
    known = sorted(set(words))
    count = Counter(statement.id for statement in statements)
    first: dict[str, Location] = {}
    mistakes: list[str] = []
    for statement in statements:
        if not statement.id:
            mistakes.append(_tell(statement.location, statement.text, 'the policy has no @id("…")'))
        elif statement.id in _TAKEN:
            problem = f'@id("{statement.id}") stands for what Arborgate itself denies'
            mistakes.append(_tell(statement.location, statement.text, problem))
        elif count[statement.id] > 1 and statement.id in first:
            problem = f'@id("{statement.id}") is already the id of the policy at {first[statement.id]}'
            mistakes.append(_tell(statement.location, statement.text, problem))
        first.setdefault(statement.id, statement.location)
        mistakes += _misfits(statement, schema, known)
    _refuse(mistakes)


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
        yield _tell(statement.location, statement.text, problem + guess, needle)
    for kind, name in find_loose_entities(statement.policy):
        problem = (
            f'{kind}::"{name}" stands where it would have to be looked up, and only who asks and what is asked of are '
            "known; compare with it directly, as in `resource in …` or `principal == …`"
        )
        yield _tell(statement.location, statement.text, problem, f'"{name}"')


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


def _tell(location: Location, source: str, problem: str, needle: str = "") -> str:
    """One line: the file, the line that holds the needle (else the statement's first), the problem, the line's text."""
    lines = source.splitlines()
    at = next((number for number, line in enumerate(lines) if needle and needle in line.split("//")[0]), 0)
    return f"{location.file}:{location.line + at}: {problem}\n    {lines[at].strip()}"


def _refuse(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise BadConfiguration("\n".join(mistakes))


def _last_word(message: str) -> str:
    found = _LAST_WORD.search(message)
    return found[1] if found else ""


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each statement; what follows the last semicolon counts as one, if it is more than comments."""
    line, start, first, began = 1, 0, 1, False
    for token in _TOKEN.finditer(text):
        piece = token[0]
        if not began and not (piece.isspace() or piece.startswith("//")):
            start, first, began = token.start(), line, True
        line += piece.count("\n")
        if piece == ";":
            yield first, text[start : token.end()]
            began = False
    if began:
        yield first, text[start:]
