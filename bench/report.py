"""What was measured, beside what, against which goal: as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One measurement. A goal is either `at_most`, in the line's own unit, or `ratio_at_least` or `ratio_at_most`, of ours
    to the other's."""

    what: str
    ours: float
    unit: str
    beside: str = ""
    theirs: float | None = None
    at_most: float | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the other's."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.at_most is not None:
            return self.ours <= self.at_most
        if self.ratio_at_least is not None:
            return self.ratio is not None and self.ratio >= self.ratio_at_least
        if self.ratio_at_most is not None:
            return self.ratio is not None and self.ratio <= self.ratio_at_most
        return None


@dataclass(frozen=True)
class Part:
    """Lines that belong together, measured in the same minute on the same servers."""

    title: str
    lines: Sequence[Line]


def print_part(part: Part) -> None:
    """The part as a table."""
    print(f"\n{part.title}")
    rows = [("", "Arborgate", "ratio", "the other", "", "goal", "")]
    rows += [_describe(line) for line in part.lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for what, ours, ratio, theirs, beside, goal, holds in rows:
        cells = (
            what.ljust(widths[0]),
            ours.rjust(widths[1]),
            ratio.rjust(widths[2]),
            theirs.rjust(widths[3]),
            beside.ljust(widths[4]),
            goal.rjust(widths[5]),
            holds,
        )
        print("  ".join(cells).rstrip())


def write_json(parts: Iterable[Part], file: Path) -> None:
    """All parts with the machine they were measured on."""
    told = {
        "machine": describe_machine(),
        "parts": [
            {
                "title": part.title,
                "lines": [{**asdict(line), "ratio": line.ratio, "holds": line.holds} for line in part.lines],
            }
            for part in parts
        ],
    }
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def describe_machine() -> str:
    """Cores, Python and SDK, and how busy the machine was: what the numbers depend on."""
    busy = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}, "
        f"mcp {version('mcp')}, load average {busy:.1f}"
    )


def _describe(line: Line) -> tuple[str, str, str, str, str, str, str]:
    goal = ""
    if line.at_most is not None:
        goal = f"≤ {_show(line.at_most)} {line.unit}"
    elif line.ratio_at_least is not None:
        goal = f"ratio ≥ {line.ratio_at_least:g}"
    elif line.ratio_at_most is not None:
        goal = f"ratio ≤ {line.ratio_at_most:g}"
    return (
        line.what,
        f"{_show(line.ours)} {line.unit}",
        "" if line.ratio is None else f"{line.ratio:.3g}",
        "" if line.theirs is None else f"{_show(line.theirs)} {line.unit}",
        line.beside,
        goal,
        "" if line.holds is None else "holds" if line.holds else "MISSED",
    )


def _show(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
