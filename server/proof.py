"""The proof of a log: its chain is whole, the heads in it are signed, and what was signed elsewhere is still in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joserfc.jwk import OKPKey

from ..tools.record import Event, Record
from .chain import BEGINNING, BrokenLine, Head, open_line, prove_lines
from .log_files import name_replica
from .signed_heads import SignedHead, head_file, open_head, read_head

_STATING = frozenset({Event.LOG_SIGNED, Event.LOG_SEALED})


@dataclass(slots=True)
class Proof:
    """What looking at a log found: its first line and the last that holds, that one's hash, the last head in it that is
    validly signed, how many lines are newer than that, and everything that is wrong."""

    name: str
    first: int = 0
    last: int = 0
    head: str = BEGINNING.prev
    signed: SignedHead | None = None
    unsigned: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return self.last - self.first + 1 if self.last else 0


def prove(
    paths: Sequence[Path],
    keys: Mapping[str, OKPKey],
    expected: Sequence[SignedHead],
    *,
    part: bool = False,
    growing: bool = False,
) -> Proof:
    """Looks at every line of a log, whose files are given in order. With `keys` (by thumbprint) every signed head is
    checked, and a log without any is at fault; `expected` are heads of this log as they were once told, which it must
    still hold like the one in the file beside it. `part`: the chain may have begun in files before these. `growing`: it is
    being written to, so its last line may not be finished. Reads any length."""
    found = Proof(paths[0].name if len(paths) == 1 else name_replica(paths[0]))
    beside = _read_beside(paths[-1], keys, found)
    awaited = {head.seq: head for head in [*beside, *expected]}
    for path in paths:
        try:
            for record in _prove_file(path, found, part, growing=growing and path == paths[-1]):
                _take(record, keys, awaited, found)
        except BrokenLine as broken:
            found.faults.append(f"{path.name}: broken at line {broken.number}: {broken.why}")
            return found
        part = False
    for head in awaited.values():
        if head.seq > found.last:
            told = f"ends at line {found.last}, but line {head.seq} {_tell(head)}: its end was cut off"
            found.faults.append(f"{found.name}: {told}")
        elif head not in beside:
            found.faults.append(
                f"{found.name}: begins at line {found.first}, behind line {head.seq}, which {_tell(head)}"
            )
    if keys and not found.signed:
        found.faults.append(f"{found.name}: nothing in it is signed by a key that was given")
    return found


def _prove_file(path: Path, found: Proof, part: bool, *, growing: bool) -> Iterator[Record]:
    """The records of the next file, behind what was found before; what is missing between them is told."""
    after: Head | None = Head(found.last + 1, found.head, 0)
    begins = _read_start(path)
    if begins and begins > found.last + 1:
        after = None
        if not part:
            missing = f"lines {found.last + 1} to {begins - 1} are missing: the file before {path.name} is not here"
            found.faults.append(f"{found.name}: {missing}")
    yield from prove_lines(path, after, growing=growing)


def _read_start(path: Path) -> int:
    """The number that a file's first line says; 0 where there is none to be believed."""
    with path.open("rb") as file:
        try:
            return open_line(file.readline()).seq
        except ValueError:
            return 0


def _take(record: Record, keys: Mapping[str, OKPKey], awaited: dict[int, SignedHead], found: Proof) -> None:
    found.first = found.first or record.seq
    found.last, found.head, found.unsigned = record.seq, record.hash, found.unsigned + 1
    head = awaited.pop(record.seq, None)
    if head and (head.hash, head.replica) != (record.hash, record.replica):
        told = f"line {record.seq} is not the line that {_tell(head)}: the log was rewritten"
        found.faults.append(f"{found.name}: {told}")
    if record.event in _STATING and keys:
        _check(record, keys, found)


def _read_beside(log: Path, keys: Mapping[str, OKPKey], found: Proof) -> list[SignedHead]:
    """The head beside a log; a file that is sealed is not the end of one."""
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
        found.faults.append(f"{found.name}: line {record.seq}: {error}")
        return
    if head != SignedHead(record.replica, record.seq - 1, record.prev, record.time):
        found.faults.append(f"{found.name}: line {record.seq}: the signature is over another head")
        return
    found.signed, found.unsigned = head, 0


def _tell(head: SignedHead) -> str:
    return f"was the head of {head.replica}{f' at {head.time}' if head.time else ''}"
