"""Tables as text: rows in aligned columns, as long as aligning them costs little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

_PADDING = 0.25
"""The most that padding may add to the text of a table: one long cell must not widen every row of an answer."""


def align(rows: Iterable[Sequence[str | None]]) -> list[str]:
    """One line per row, whatever is in its cells; columns are as wide as their widest cell, empty ones left out."""
    cells = [[" ".join((cell or "").splitlines()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width).rstrip()
        for row in cells
    ]
    plain = ["  ".join(filter(None, row)) for row in cells]
    return table if sum(map(len, table)) <= (1 + _PADDING) * sum(map(len, plain)) else plain
