"""Cedar text as tokens, each with its place: Cedar's parser and validator tell what is wrong, but not where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from .locations import Location, Passage


class Kind(StrEnum):
    """What a token is. `wrong` is a character that Cedar has no use for, such as a typographic quote."""

    NUMBER = "number"
    SIGN = "sign"
    STRING = "string"
    WORD = "word"
    WRONG = "wrong"


_TOKEN = re.compile(
    r"""
    (?P<skip>\s+|//[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9]+)
    |(?P<sign>::|==|!=|<=|>=|&&|\|\||[@.,;:(){}\[\]+\-*!<>=?])
    |(?P<wrong>.)
    """,
    re.VERBOSE | re.DOTALL,
)

CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its text, and where it begins, as offset in the text, line and column."""

    kind: Kind
    text: str
    start: int
    line: int
    column: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text, to show pieces of."""

    file: Path
    content: str

    def passage(self, first: Token, last: Token | None = None) -> Passage:
        """The piece from one token to another, as far as it is on the first one's line."""
        line = _split_lines(self.content)[first.line - 1]
        end = last if last and last.line == first.line else first
        width = min(end.column + len(end.text) - first.column, len(line) + 1 - first.column)
        return Passage(Location(self.file, first.line, first.column), line, width)

    def source(self, tokens: Sequence[Token]) -> str:
        """What stands from the first to the last of the tokens."""
        return self.content[tokens[0].start : tokens[-1].end]


@lru_cache(maxsize=16)
def _split_lines(content: str) -> list[str]:
    """Once a file: all of its policies have a place."""
    return content.split("\n")


def read_tokens(content: str) -> Iterator[Token]:
    """The tokens in order, without white space and comments."""
    line, began = 1, 0
    for match in _TOKEN.finditer(content):
        if match.lastgroup != "skip":
            yield Token(Kind(str(match.lastgroup)), match[0], match.start(), line, match.start() - began + 1)
        if newlines := match[0].count("\n"):
            line += newlines
            began = match.start() + match[0].rindex("\n") + 1


def split_statements(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """The tokens of each statement; what follows the last semicolon counts as one."""
    start = 0
    for index, token in enumerate(tokens):
        if token.text == ";":
            yield tokens[start : index + 1]
            start = index + 1
    if start < len(tokens):
        yield tokens[start:]


def find_tokens(tokens: Sequence[Token], needle: str) -> Sequence[Token]:
    """The first tokens that read like the needle; none where it does not occur."""
    wanted = [token.text for token in read_tokens(needle)]
    texts = [token.text for token in tokens]
    for index in range(len(texts) - len(wanted) + 1):
        if wanted and texts[index : index + len(wanted)] == wanted:
            return tokens[index : index + len(wanted)]
    return ()


def find_unclosed(tokens: Sequence[Token]) -> Token | None:
    """The innermost bracket that is open at the end."""
    open_ones: list[Token] = []
    for token in tokens:
        if token.text in CLOSING:
            open_ones.append(token)
        elif open_ones and token.text == CLOSING[open_ones[-1].text]:
            open_ones.pop()
    return open_ones[-1] if open_ones else None


def find_scope(tokens: Sequence[Token], variable: str) -> Sequence[Token]:
    """What the scope of a statement says of `principal`, `action` or `resource`, from that word on."""
    start = next(index for index, token in enumerate(tokens) if token.text == variable)
    depth = 0
    for index in range(start, len(tokens)):
        text = tokens[index].text
        if depth == 0 and text in (",", ")"):
            return tokens[start:index]
        depth += (text in CLOSING) - (text in CLOSING.values())
    return tokens[start:]


def find_clauses(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """The tokens of each `when { … }` and `unless { … }` of a statement, in order."""
    found: list[Sequence[Token]] = []
    depth, start = 0, -1
    for index, token in enumerate(tokens):
        if depth == 0 and token.text in ("when", "unless"):
            start = index
        if token.text in CLOSING:
            depth += 1
        elif token.text in CLOSING.values():
            depth -= 1
            if depth == 0 and start >= 0:
                found.append(tokens[start : index + 1])
                start = -1
    return found
