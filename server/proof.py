"""The proof of a log: its chain is whole, the heads in it are signed, and what was signed elsewhere is still in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joserfc.jwk import OKPKey

from ..tools.record import Event, Record
from .chain import GENESIS, BrokenLine, prove_lines
from .signed_heads import SignedHead, head_file, open_head, read_head


@dataclass(slots=True)
class Proof:
    """What looking at a log found: how many lines hold, the hash of the last, the last head in it that is validly signed,
    how many lines are neither that nor signed by it, and everything that is wrong."""

    lines: int = 0
    head: str = GENESIS
    signed: SignedHead | None = None
    unsigned: int = 0
    faults: list[str] = field(default_factory=list)


def prove(log: Path, keys: Mapping[str, OKPKey], expected: Sequence[SignedHead]) -> Proof:
    """Looks at every line. With `keys` (by thumbprint) every signed head is checked, and a log without any is at fault;
    `expected` are heads of this log as they were once told, which it must still hold like the one in the file beside it.
    Reads any length."""
    found = Proof()
    awaited = {head.seq: head for head in [*_read_beside(log, keys, found), *expected]}
    try:
        for record in prove_lines(log):
            found.lines, found.head, found.unsigned = record.seq, record.hash, found.unsigned + 1
            head = awaited.pop(record.seq, None)
            if head and (head.hash, head.replica) != (record.hash, record.replica):
                found.faults.append(f"line {record.seq} is not the line that {_tell(head)}: the log was rewritten")
            if record.event is Event.LOG_SIGNED and keys:
                _check(record, keys, found)
    except BrokenLine as broken:
        found.faults.append(f"broken at line {broken.number}: {broken.why}")
        return found
    for head in awaited.values():
        found.faults.append(f"ends at line {found.lines}, but line {head.seq} {_tell(head)}: its end was cut off")
    if keys and not found.signed:
        found.faults.append("nothing in it is signed by a key that was given")
    return found


def _read_beside(log: Path, keys: Mapping[str, OKPKey], found: Proof) -> list[SignedHead]:
    path = head_file(log)
    try:
        return [read_head(path, keys)] if path.exists() else []
    except ValueError as error:
        found.faults.append(f"{path.name}: {error}")
        return []


def _check(record: Record, keys: Mapping[str, OKPKey], found: Proof) -> None:
    try:
        head = open_head(record.signature, keys)
    except ValueError as error:
        found.faults.append(f"line {record.seq}: {error}")
        return
    if head != SignedHead(record.replica, record.seq - 1, record.prev, record.time):
        found.faults.append(f"line {record.seq}: the signature is over another head")
        return
    found.signed, found.unsigned = head, 0


def _tell(head: SignedHead) -> str:
    return f"was the head of {head.replica}{f' at {head.time}' if head.time else ''}"
