"""The audit log: one append-only chain of JSON lines per replica, durable before anything leaves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from joserfc.jwk import OKPKey

from ..policies.errors import BadConfiguration, Unrecorded
from ..tools.record import Entry, Event, Record
from .background import running
from .chain import ENTRY_FIELDS, GENESIS, Head, open_line, seal_line
from .notes import Notes
from .settings import RecordSettings
from .signed_heads import SignedHead, load_record_key, sign_head, write_head

logger = logging.getLogger(__name__)

_NOTED = Entry(event=Event.FACTS_NOTED)
_SIGNED = Entry(event=Event.LOG_SIGNED)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a log does by itself: with a key, it signs its head every so many seconds and when it is closed."""

    key: OKPKey | None = None
    sign_every: float = 60.0

    @classmethod
    def read(cls, settings: RecordSettings) -> Upkeep:
        """What the settings say; raises `BadConfiguration` for a key that is none."""
        file = settings.signing_key_file
        return cls(load_record_key(file) if file else None, settings.sign_every)


_NO_UPKEEP = Upkeep()


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    done: asyncio.Future[Record]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Lines that are written together: who waits for them, the chain's head once they are on disk, the digests of the
    facts that the file then holds too, and the line that signs the head, should one be among them."""

    waiting: Sequence[_Waiting]
    records: Sequence[Record]
    block: bytes
    head: Head
    told: set[str] = field(default_factory=set)
    signed: Record | None = None


class AuditLog:
    """The one writer of a chain. `write` returns when its line is on disk: lines that arrive while others are being
    written go together in the next write and share its fsync (group commit). A thread of its own does the disk's work and
    nothing else, one batch after another, so the event loop never waits and never competes for the interpreter."""

    def __init__(
        self, path: Path, replica: str, clean: Callable[[str], str], policy_set: Callable[[], str], upkeep: Upkeep
    ) -> None:
        self.path = path
        self.replica = replica
        self._clean = clean
        self._policy_set = policy_set
        self._upkeep = upkeep
        self._stated = 0
        self._known = lru_cache(maxsize=1_024)(clean)
        self._notes = Notes(clean)
        self._waiting: list[_Waiting] = []
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._file, self._head, self._cut = _open_chain(path)
        self._torn = False
        self._on_written: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name=f"audit-{replica}", daemon=True)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        replica: str,
        clean: Callable[[str], str] = str,
        policy_set: Callable[[], str] = lambda: "",
        upkeep: Upkeep = _NO_UPKEEP,
    ) -> AsyncIterator[AuditLog]:
        """Continues (or begins) the chain `<directory>/<replica>.jsonl` and holds it alone until closed.

        `clean` redacts free text on its way in; `policy_set` tells the policies in force, for records that name none;
        `upkeep` is what the log does by itself. Raises `BadConfiguration` when the folder can't be written, the chain's
        end does not verify, or another process holds it."""
        log = await asyncio.to_thread(_prepare, directory, replica)
        audit = cls(log, replica, clean, policy_set, upkeep)
        audit._thread.start()
        try:
            note = f"cut {audit._cut} bytes of a line that was never finished" if audit._cut else ""
            await audit.write(Entry(event=Event.LOG_OPENED, detail=note))
            async with running(audit._sign_at_intervals()) if upkeep.key else contextlib.nullcontext():
                yield audit
        finally:
            await audit._close()

    async def write(self, entry: Entry) -> Record:
        """Appends one record; returns it once it is durable. Raises `Unrecorded` when it can't be made so."""
        if self._closing:
            raise Unrecorded("The audit log is closed.", hint="The server is stopping; try again shortly.")
        if not entry.policy_set:
            entry = replace(entry, policy_set=self._policy_set())
        done: asyncio.Future[Record] = self._loop.create_future()
        self._waiting.append(_Waiting(entry, done))
        if self._idle.is_set():
            self._idle.clear()
            # Not at once: what else this turn of the loop has to write goes along.
            self._loop.call_soon(self._hand_over)
        return await done

    @property
    def durable(self) -> int:
        """The bytes of the file that are durable: what lies behind them may yet be taken back."""
        return self._head.offset

    def on_written(self, callback: Callable[[], None]) -> None:
        """Calls back (on the event loop) after each batch that became durable."""
        self._on_written.append(callback)

    def _hand_over(self) -> None:
        """Gives the thread all that waits; the log is idle when nothing does."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            self._idle.set()
            return
        try:
            batch = self._seal(waiting)
        except Exception as error:  # whatever stops a record must stop the call that waits for it
            self._loop.call_soon(self._answer, _Batch(waiting, [], b"", self._head), error)
        else:
            self._batches.put(batch)

    def _seal(self, waiting: Sequence[_Waiting]) -> _Batch:
        head, lines, records, told, signed = self._head, [], [], set[str](), None
        time = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        for each in waiting:
            entry, cited = self._cleaned(each.entry), self._notes.cite(each.entry)
            if self._upkeep.key and entry.event is Event.LOG_SIGNED:
                stated = SignedHead(self.replica, head.seq - 1, head.prev, time)
                cited = {"signature": sign_head(stated, self._upkeep.key)}
            for facts in self._notes.missing(cited, told):
                line, head, _ = self._line(_NOTED, head, time, {"facts": facts.told})
                lines.append(line)
            line, head, record = self._line(entry, head, time, cited)
            lines.append(line)
            records.append(record)
            signed = record if record.signature else signed
        return _Batch(waiting, records, b"".join(lines), head, told, signed)

    def _line(self, entry: Entry, head: Head, time: str, cited: Mapping[str, Any]) -> tuple[bytes, Head, Record]:
        """The next line, the head behind it, and the record as it can be read from it."""
        line, digest = seal_line(entry, seq=head.seq, time=time, replica=self.replica, prev=head.prev, cited=cited)
        values = {**{name: getattr(entry, name) for name in ENTRY_FIELDS}, **cited}
        record = Record(seq=head.seq, time=time, replica=self.replica, prev=head.prev, hash=digest, **values)
        return line, Head(head.seq + 1, digest, head.offset + len(line)), record

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            error: Exception | None = None
            try:
                self._store(batch.block)
            except Exception as fault:
                error = fault
            # The loop may be gone at a hard stop; then nobody waits for the answer any more.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._answer, batch, error)
            if batch.signed and not error:
                self._keep_head(batch.signed.signature)

    def _keep_head(self, signature: str) -> None:
        try:
            write_head(self.path, signature)
        except OSError as error:  # the chain holds the statement: only the copy beside it is old now
            logger.warning("the signed head of %s can't be written: %s", self.path.name, error.strerror)

    def _store(self, block: bytes) -> None:
        if self._torn:
            self._take_back()
        try:
            if (written := self._file.write(block)) != len(block):
                raise OSError(errno.ENOSPC, f"only {written} of {len(block)} bytes were written")
            os.fdatasync(self._file.fileno())
        except OSError:
            # A half-written batch was promised to nobody: take it back, or the next line would follow a torn one.
            self._torn = True
            with contextlib.suppress(OSError):  # then the next batch takes it back, or fails too
                self._take_back()
            raise

    def _take_back(self) -> None:
        self._file.truncate(self._head.offset)
        self._torn = False

    def _cleaned(self, entry: Entry) -> Entry:
        name, resource = self._known(entry.caller_name), self._known(entry.resource)
        detail = self._clean(entry.detail) if entry.detail else ""
        if (name, resource, detail) == (entry.caller_name, entry.resource, entry.detail):
            return entry
        return replace(entry, caller_name=name, resource=resource, detail=detail)

    def _answer(self, batch: _Batch, error: Exception | None) -> None:
        if error is None:
            self._head = batch.head
            self._notes.settle(batch.told)
            self._stated = batch.signed.seq if batch.signed else self._stated
        for index, waiting in enumerate(batch.waiting):
            if waiting.done.cancelled():
                continue
            if error is None:
                waiting.done.set_result(batch.records[index])
            else:
                waiting.done.set_exception(
                    Unrecorded(
                        "The audit log can't be written, so nothing may be answered.",
                        hint="Tell the platform team; calls work again once the log can be written.",
                        detail=f"{type(error).__name__}: {error}",
                    )
                )
        if error is None:
            for callback in self._on_written:
                callback()
        self._hand_over()

    async def _sign_at_intervals(self) -> None:
        while True:
            await asyncio.sleep(self._upkeep.sign_every)
            await self._sign()

    async def _sign(self) -> None:
        """Signs the head, if there is anything new; when it can't be recorded, the calls fail loudly enough."""
        if self._head.seq - 1 > self._stated:
            with contextlib.suppress(Unrecorded):
                await self.write(_SIGNED)

    async def _close(self) -> None:
        if self._upkeep.key:
            await self._sign()
        self._closing = True
        await self._idle.wait()
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)
        self._file.close()


def _prepare(directory: Path, replica: str) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadConfiguration(f"record.dir: {directory} can't be made: {error.strerror}") from error
    return directory / f"{replica}.jsonl"


def _open_chain(path: Path) -> tuple[FileIO, Head, int]:
    """The file, locked, at its end; the head of its chain; how many bytes of an unfinished last line were cut off."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise BadConfiguration(f"record.dir: {path} can't be opened: {error.strerror}") from error
    file = FileIO(descriptor, "r+")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BadConfiguration(
            f"record.dir: {path} is held by another process; give every replica a name of its own (`replica`)"
        ) from error
    size = file.seek(0, os.SEEK_END)
    if not size:
        _sync_folder(path.parent)
    last, end = _last_line(file, size)
    if end < size:
        file.truncate(end)
    if not last:
        return file, Head(1, GENESIS, 0), size - end
    try:
        record = open_line(last)
    except ValueError as error:
        file.close()
        raise BadConfiguration(
            f"record.dir: the last line of {path} does not verify ({error}); keep the file for inspection, "
            "move it away, and start again"
        ) from error
    return file, Head(record.seq + 1, record.hash, end), size - end


def _sync_folder(folder: Path) -> None:
    """Makes the names in the folder durable: a file whose name is lost is lost with all its synced lines."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
