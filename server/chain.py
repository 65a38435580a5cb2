"""A chain of JSON lines: how one is made, read back and proven."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from ..policies.model import Attribute
from ..tools.record import Entry, Event, Record

GENESIS = "0" * 64
"""The `prev` of a chain's first line."""

ENTRY_FIELDS = tuple(each.name for each in fields(Entry) if each.name not in ("question", "surroundings"))
_HASH_TAIL = len(b',"hash":"') + 64 + len(b'"}')


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the next line's `seq` and `prev`, and where it will start (bytes)."""

    seq: int
    prev: str
    offset: int


BEGINNING = Head(1, GENESIS, 0)


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifying a file found: how many lines hold, and the first that does not (1-based) with the reason."""

    lines: int
    head: str
    bad_line: int = 0
    why: str = ""

    @property
    def whole(self) -> bool:
        return not self.bad_line


_NOTHING: Mapping[str, object] = {}


def seal_line(
    entry: Entry, *, seq: int, time: str, replica: str, prev: str, cited: Mapping[str, object] = _NOTHING
) -> tuple[bytes, str]:
    """The finished line (with its newline) and its hash. Empty fields are left out; `hash` covers all before it.

    `cited` are the fields that only a record has: the facts that it names or holds."""
    body: dict[str, Any] = {"seq": seq, "time": time, "replica": replica, "prev": prev}
    for name in ENTRY_FIELDS:
        value = getattr(entry, name)
        if value:
            body[name] = value
    if cited:
        body |= cited
    line = orjson.dumps(body)
    digest = hashlib.sha256(line).hexdigest()
    return b'%b,"hash":"%b"}\n' % (line[:-1], digest.encode()), digest


def open_line(line: bytes) -> Record:
    """The record in a finished line; raises ValueError when it is not one or its hash does not cover it."""
    stripped = line.rstrip(b"\n")
    if len(stripped) <= _HASH_TAIL or not stripped[-_HASH_TAIL:].startswith(b',"hash":"'):
        raise ValueError("the line has no hash")
    try:
        body = orjson.loads(stripped)
    except orjson.JSONDecodeError as error:
        raise ValueError("the line is not JSON") from error
    if hashlib.sha256(stripped[:-_HASH_TAIL] + b"}").hexdigest() != body["hash"]:
        raise ValueError("the hash does not cover the line")
    return parse_record(body)


def parse_record(body: dict[str, Any]) -> Record:
    """A record from its JSON object; raises ValueError for one that is not."""
    try:
        for name in ("actors", "places", "policies"):
            if name in body:
                body[name] = tuple(body[name])
        if "context" in body:
            body["context"] = tuple({name: _value(each[name]) for name in each} for each in body["context"])
        return Record(**{**body, "event": Event(body["event"])})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("the line is not a record") from error


def _value(value: Any) -> Attribute:
    return tuple(value) if isinstance(value, list) else cast("Attribute", value)


class BrokenLine(Exception):
    """A line that does not hold: its number in its file (1-based), and why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number
        self.why = why


def prove_lines(path: Path, after: Head | None = BEGINNING, *, growing: bool = False) -> Iterator[Record]:
    """The records of a file, each once its hash, its link to the line before and its number have been checked. `after` is
    what the first must follow: the chain's beginning, the end of the file before, or whatever it says (None). `growing`: a
    last line that is not finished is only being written. Reads any length; raises `BrokenLine`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                if growing:
                    return
                raise BrokenLine(number, "the line is not finished")
            try:
                record = open_line(line)
            except ValueError as error:
                raise BrokenLine(number, str(error)) from error
            after = after or Head(record.seq, record.prev, 0)
            if record.prev != after.prev:
                raise BrokenLine(number, "the line does not follow the one before it")
            if record.seq != after.seq:
                raise BrokenLine(number, f"the line says it is number {record.seq}")
            after = Head(record.seq + 1, record.hash, after.offset + len(line))
            yield record


def verify(path: Path) -> Verified:
    """Checks every line of a chain in one file, see `prove_lines`."""
    lines, head = 0, GENESIS
    try:
        for record in prove_lines(path):
            lines, head = record.seq, record.hash
    except BrokenLine as broken:
        return Verified(lines, head, broken.number, broken.why)
    return Verified(lines, head)


def read_records(path: Path, *, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """The records of a file from a byte offset, each with the offset behind it; stops before an unfinished line."""
    with path.open("rb") as file:
        yield from read_open(file, offset)


def read_open(file: BinaryIO, offset: int) -> Iterator[tuple[Record, int]]:
    """The same of a file that is open already."""
    file.seek(offset)
    for line in file:
        if not line.endswith(b"\n"):
            return
        offset += len(line)
        yield open_line(line), offset
