"""Where things stand in files, and how a mistake is told: its place, the problem, the line's text with carets under it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """Where something stands: the file, the line in it and the character in that, both counted from 1."""

    file: Path
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of one line: where it begins, the whole line, and how many characters of it are meant."""

    location: Location
    line: str
    width: int = 1

    def show(self) -> str:
        """The line, and carets under the piece."""
        line = self.line.rstrip().replace("\t", " ")
        indent = len(line) - len(line.lstrip())
        start = max(self.location.column - 1 - indent, 0)
        width = max(1, min(self.width, len(line) - indent - start))
        return f"    {line[indent:]}\n    {' ' * start}{'^' * width}"

    def tell(self, problem: str) -> str:
        """The problem as it is printed, in three lines."""
        return f"{self.location}: {problem}\n{self.show()}"
