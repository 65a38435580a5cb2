"""The files of a log: the one that is written, the sealed ones before it, and how one follows the other."""

from __future__ import annotations

import fcntl
import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path

from ..policies.errors import BadConfiguration
from ..tools.record import Event, Record
from .chain import BEGINNING, Head, open_line

SEALED_MODE = 0o400
_STAMP = "%Y%m%dT%H%M%SZ"
_SEALED = re.compile(r"(?P<replica>.+)\.(?P<stamp>\d{8}T\d{6}Z)")


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A log that is held alone for as long as `lock` is open. `cut`: bytes of an unfinished last line that were cut off;
    `chain`: the hash of the chain's first line ("" before it is written); `begun`: seconds since the epoch at the first
    line of the file (0 while it is empty); `stated`: the last line, if that is a signed head."""

    lock: FileIO
    file: FileIO
    head: Head
    cut: int = 0
    chain: str = ""
    begun: float = 0.0
    stated: int = 0


def name_replica(path: Path) -> str:
    """Whose log a file is part of, by its name."""
    sealed = _SEALED.fullmatch(path.stem)
    return sealed["replica"] if sealed else path.stem


def find_sealed(path: Path) -> list[Path]:
    """The sealed files of the log that is written to `path`, oldest first."""
    found = path.parent.glob(f"{glob.escape(path.stem)}.*.jsonl")
    return sorted(each for each in found if name_replica(each) == path.stem)


def group_files(paths: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Files by the replica whose they are, each replica's in the order in which they were written."""
    chains: dict[str, list[Path]] = {}
    for path in sorted(paths, key=lambda path: (name_replica(path), path.stem == name_replica(path), path.name)):
        chains.setdefault(name_replica(path), []).append(path)
    return chains


def open_log(directory: Path, replica: str) -> tuple[Path, OpenedLog]:
    """The log's file, made if need be, and where its chain has come to. What a crash left unfinished is finished: a last
    line that is torn is cut off, a file that ends sealed is put away. Raises `BadConfiguration`."""
    path = directory / f"{replica}.jsonl"
    lock = _hold(path)
    try:
        return path, _find_end(path, lock)
    except OSError as error:
        lock.close()
        raise BadConfiguration(f"record.dir: {path} can't be opened: {error.strerror}") from error
    except BaseException:
        lock.close()
        raise


def put_away(path: Path) -> None:
    """Gives a file whose last line, which seals it, is on disk the name that it keeps; raises OSError. Names follow each
    other as the files do, even where the clock goes back."""
    moment = datetime.now(UTC)
    if before := find_sealed(path):
        last = datetime.strptime(before[-1].stem[len(path.stem) + 1 :], _STAMP).replace(tzinfo=UTC)
        moment = max(moment, last + timedelta(seconds=1))
    path.rename(path.with_name(f"{path.stem}.{moment.strftime(_STAMP)}.jsonl"))
    sync_folder(path.parent)


def open_file(path: Path) -> FileIO:
    """The file that is written, made if it is not there; its name is durable. Raises OSError."""
    file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+")
    try:
        if not file.seek(0, os.SEEK_END):
            sync_folder(path.parent)
    except OSError:
        file.close()
        raise
    return file


def sync_folder(folder: Path) -> None:
    """Makes the names in the folder durable: a file whose name is lost is lost with all its synced lines."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hold(path: Path) -> FileIO:
    """The lock of a log. It is a file of its own, since the log's may be put away while it is held."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadConfiguration(f"record.dir: {path.parent} can't be made: {error.strerror}") from error
    try:
        lock = FileIO(os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600), "r+")
    except OSError as error:
        raise BadConfiguration(f"record.dir: {path} can't be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BadConfiguration(
            f"record.dir: {path} is held by another process; give every replica a name of its own (`replica`)"
        ) from error
    return lock


def _find_end(path: Path, lock: FileIO) -> OpenedLog:
    file = open_file(path)
    try:
        size = file.seek(0, os.SEEK_END)
        line, end = _last_line(file, size)
        if end < size:
            file.truncate(end)
        if not line:
            return _go_on(path, lock, file, size - end)
        last = _open_end(path, line)
        if last.event is not Event.LOG_SEALED:
            first, head = _open_start(path), Head(last.seq + 1, last.hash, end)
            begun = datetime.fromisoformat(first.time).timestamp()
            return OpenedLog(lock, file, head, size - end, first.chain or first.hash, begun, _stated(last))
    except BaseException:
        file.close()
        raise
    file.close()
    put_away(path)
    return _find_end(path, lock)


def _go_on(path: Path, lock: FileIO, file: FileIO, cut: int) -> OpenedLog:
    """Where a file without a line goes on from: the end of the newest sealed one, or nothing at all."""
    before = find_sealed(path)
    if not before:
        return OpenedLog(lock, file, BEGINNING, cut)
    newest = before[-1]
    newest.chmod(SEALED_MODE)
    with FileIO(newest, "r") as sealed:
        line, _ = _last_line(sealed, sealed.seek(0, os.SEEK_END))
    first, last = _open_start(newest), _open_end(newest, line)
    if last.event is not Event.LOG_SEALED:
        raise _damaged(newest, "last", "it does not seal the file")
    return OpenedLog(lock, file, Head(last.seq + 1, last.hash, 0), cut, first.chain or first.hash, 0.0, _stated(last))


def _stated(last: Record) -> int:
    return last.seq if last.signature else 0


def _open_start(path: Path) -> Record:
    with path.open("rb") as file:
        line = file.readline()
    try:
        return open_line(line)
    except ValueError as error:
        raise _damaged(path, "first", str(error)) from error


def _open_end(path: Path, line: bytes) -> Record:
    try:
        return open_line(line)
    except ValueError as error:
        raise _damaged(path, "last", str(error)) from error


def _damaged(path: Path, which: str, why: str) -> BadConfiguration:
    return BadConfiguration(
        f"record.dir: the {which} line of {path} does not verify ({why}); keep the file for inspection, "
        "move it away, and start again"
    )


def _last_line(file: FileIO, size: int) -> tuple[bytes, int]:
    """The last finished line and the offset behind it, read backwards in blocks."""
    block, tail, start = 65_536, b"", size
    while start > 0:
        step = min(block, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
        end = tail.rfind(b"\n")
        if end >= 0:
            begin = tail.rfind(b"\n", 0, end)
            if begin >= 0 or start == 0:
                return tail[begin + 1 : end + 1], start + end + 1
    return b"", 0
