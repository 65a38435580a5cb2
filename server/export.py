"""The export of a log: its records in order of time, as JSON lines, as CSV or as OCSF events."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from heapq import merge
from pathlib import Path
from typing import Final

import orjson

from ..tools.record import Event, Record
from .chain import open_line
from .log_files import group_files
from .ocsf import describe_event
from .replay import BrokenLog


class Format(StrEnum):
    """What records are written as."""

    CSV = "csv"
    JSONL = "jsonl"
    OCSF = "ocsf"


COLUMNS: Final = (
    *("time", "replica", "seq", "event", "caller", "caller_name", "agent", "actors", "itself", "binding", "channel"),
    *("tool", "action", "resource", "arguments_digest", "decision", "policies", "policy_set", "outcome", "detail"),
    *("took_us", "bytes", "redactions", "proposal", "trace_id", "asker", "places", "context", "decided_at"),
    *("settings", "signature", "chain", "prev", "hash"),
)
"""The header of the CSV, always the same: every field of a record but the `facts` of lines that are not exported."""

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a cell for a formula, in both widths."""

_STEP: Final = 256


def read_lines(
    paths: Iterable[Path], *, since: str = "", until: str = "", on_read: Callable[[int], object] | None = None
) -> Iterator[tuple[Record, bytes]]:
    """Records with their lines, by time over all replicas, from one moment to another (as records write them). Holds one
    line of each replica at a time; `on_read` is told of bytes read. Raises `BrokenLog`."""
    chains = [_read_chain(files, since, until, on_read) for files in group_files(list(paths)).values()]
    return merge(*chains, key=lambda each: (each[0].time, each[0].replica, each[0].seq))


def write_format(lines: Iterable[tuple[Record, bytes]], form: Format) -> Iterator[bytes]:
    """The export, piece by piece. JSON lines are those of the log, byte for byte; in the others the facts that decisions
    rest on are left out."""
    match form:
        case Format.JSONL:
            yield from (line for _, line in lines)
        case Format.CSV:
            yield _write_row(COLUMNS)
            for record in _tell(lines):
                yield _write_row([_write_cell(getattr(record, name)) for name in COLUMNS])
        case Format.OCSF:
            for record in _tell(lines):
                yield orjson.dumps(describe_event(record), option=orjson.OPT_APPEND_NEWLINE)


def _read_chain(
    files: Iterable[Path], since: str, until: str, on_read: Callable[[int], object] | None
) -> Iterator[tuple[Record, bytes]]:
    for path in files:
        untold = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                untold += len(line)
                if on_read and number % _STEP == 0:
                    on_read(untold)
                    untold = 0
                if not line.endswith(b"\n"):
                    break
                try:
                    record = open_line(line)
                except ValueError as error:
                    raise BrokenLog(f"{path.name}: line {number}: {error}") from error
                if since <= record.time and not (until and record.time > until):
                    yield record, line
        if on_read:
            on_read(untold)


def _tell(lines: Iterable[tuple[Record, bytes]]) -> Iterator[Record]:
    return (record for record, _ in lines if record.event is not Event.FACTS_NOTED)


def _write_row(cells: Iterable[str]) -> bytes:
    row = io.StringIO()
    csv.writer(row).writerow(cells)
    return row.getvalue().encode()


def _write_cell(value: object) -> str:
    """A value as text that no spreadsheet takes for a formula."""
    match value:
        case str():
            text = value
        case tuple() if all(isinstance(each, str) for each in value):
            text = " ".join(value)
        case tuple() | Mapping():
            text = orjson.dumps(value).decode()
        case 0 | False:
            text = ""
        case _:
            text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text
