"""Text for people and models: rows in aligned columns, and untrusted text on one line in quotation marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest


def align(rows: Iterable[Sequence[str | None]]) -> list[str]:
    """One line per row, whatever is in its cells; columns are as wide as their widest cell, empty ones left out."""
    cells = [[" ".join((cell or "").splitlines()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width).rstrip()
        for row in cells
    ]


def quote(text: str | None) -> str:
    """The text as one quoted line, so that it cannot pass for a line of ours; `""` for none."""
    return f'"{" ".join(text.split()).replace(chr(34), chr(39))}"' if text else ""
