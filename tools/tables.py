"""Tables as text: rows in aligned columns, as long as aligning them costs little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

_PADDING = 0.25
"""The most that padding may add to the text of a table: one long cell must not widen every row of an answer."""


def align(rows: Iterable[Sequence[str | None]]) -> list[str]:
    """One line per row, whatever is in its cells; columns are as wide as their widest cell, empty ones left out."""
    cells = [[_on_one_line(cell or "") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    # Nothing is padded behind the last column.
    padded = len(cells) * sum(widths[:-1]) + sum(len(row[-1]) for row in cells if row)
    if padded > (1 + _PADDING) * sum(len(cell) + 2 for row in cells for cell in row):
        return ["  ".join(filter(None, row)) for row in cells]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width).rstrip()
        for row in cells
    ]


def _on_one_line(cell: str) -> str:
    return cell if cell.isprintable() else " ".join(cell.splitlines())
