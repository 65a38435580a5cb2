"""The audit log: one append-only chain of JSON lines per replica, durable before anything leaves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from joserfc.jwk import OKPKey

from ..policies.errors import Unrecorded
from ..policies.surroundings import Surroundings
from ..tools.record import Entry, Event, Record
from .background import running
from .chain import ENTRY_FIELDS, Head, seal_line
from .log_files import SEALED_MODE, OpenedLog, open_file, open_log, put_away
from .notes import Notes
from .settings import RecordSettings
from .signed_heads import SignedHead, load_record_key, sign_head, write_head

logger = logging.getLogger(__name__)

_NOTED = Entry(event=Event.FACTS_NOTED)
_CONTINUED = Entry(event=Event.LOG_CONTINUED)
_SIGNED = Entry(event=Event.LOG_SIGNED)
_SEALED = Entry(event=Event.LOG_SEALED)
_STATING = frozenset({Event.LOG_SIGNED, Event.LOG_SEALED})
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a log does by itself: with a key, it signs its head every so many seconds and when it is closed; it begins
    another file once one has so many bytes, or is so many seconds old."""

    key: OKPKey | None = None
    sign_every: float = 60.0
    rotate_bytes: float = math.inf
    rotate_after: float = math.inf

    @property
    def rotates(self) -> bool:
        return min(self.rotate_bytes, self.rotate_after) < math.inf

    @classmethod
    def read(cls, settings: RecordSettings) -> Upkeep:
        """What the settings say; raises `BadConfiguration` for a key that is none."""
        file = settings.signing_key_file
        return cls(
            load_record_key(file) if file else None,
            settings.sign_every,
            settings.rotate_bytes or math.inf,
            settings.rotate_after or math.inf,
        )


_NO_UPKEEP = Upkeep()


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    done: asyncio.Future[Record]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Lines that are written together: who waits for them, the chain's head once they are on disk, the digests of the
    facts that the file then holds too, and the line that signs the head, should one be among them. `seals`: the last of
    them ends the file."""

    waiting: Sequence[_Waiting]
    records: Sequence[Record]
    block: bytes
    head: Head
    told: set[str] = field(default_factory=set)
    signed: Record | None = None
    seals: bool = False


class AuditLog:
    """The one writer of a chain. `write` returns when its line is on disk: lines that arrive while others are being
    written go together in the next write and share its fsync (group commit). A thread of its own does the disk's work and
    nothing else, one batch after another, so the event loop never waits and never competes for the interpreter."""

    def __init__(
        self,
        path: Path,
        opened: OpenedLog,
        replica: str,
        clean: Callable[[str], str],
        policy_set: Callable[[], str],
        upkeep: Upkeep,
    ) -> None:
        self.path = path
        self.replica = replica
        self._clean = clean
        self._policy_set = policy_set
        self._upkeep = upkeep
        self._lock, self._file, self._head = opened.lock, opened.file, opened.head
        self._cut, self._chain, self._begun, self._stated = opened.cut, opened.chain, opened.begun, opened.stated
        self._around: Surroundings | None = None
        self._full = asyncio.Event()
        self._known = lru_cache(maxsize=1_024)(clean)
        self._notes = Notes(clean)
        self._waiting: list[_Waiting] = []
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._torn = False
        self._ended = False
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
        path, opened = await asyncio.to_thread(open_log, directory, replica)
        audit = cls(path, opened, replica, clean, policy_set, upkeep)
        audit._thread.start()
        try:
            note = f"cut {audit._cut} bytes of a line that was never finished" if audit._cut else ""
            await audit.write(Entry(event=Event.LOG_OPENED, detail=note))
            async with AsyncExitStack() as stack:
                if upkeep.key:
                    await stack.enter_async_context(running(audit._sign_at_intervals()))
                if upkeep.rotates:
                    await stack.enter_async_context(running(audit._seal_when_due()))
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
    def chain(self) -> str:
        """The hash of the chain's first line, whichever file that is in."""
        return self._chain

    @property
    def durable(self) -> int:
        """The number of the last line that is durable: what lies behind it may yet be taken back."""
        return self._head.seq - 1

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
        if head.seq > 1 and not head.offset:
            begun, head = self._begin(head, time, told)
            lines += begun
        waiting = sorted(waiting, key=_ends_file)
        for each in waiting:
            entry, cited = self._cleaned(each.entry), self._notes.cite(each.entry)
            if entry.event in _STATING and self._upkeep.key:
                stated = SignedHead(self.replica, head.seq - 1, head.prev, time)
                cited = {"signature": sign_head(stated, self._upkeep.key)}
            for facts in self._notes.missing(cited, told):
                line, head, _ = self._line(_NOTED, head, time, {"facts": facts.told})
                lines.append(line)
            line, head, record = self._line(entry, head, time, cited)
            lines.append(line)
            records.append(record)
            signed = record if record.signature else signed
            self._around = entry.surroundings or self._around
        if seals := _ends_file(waiting[-1]):
            head = replace(head, offset=0)
        return _Batch(waiting, records, b"".join(lines), head, told, signed, seals)

    def _begin(self, head: Head, time: str, told: set[str]) -> tuple[list[bytes], Head]:
        """The first lines of a file that goes on from another. What the settings tell the policies is noted again, behind
        the line that names it, so that the file can be read without those before it."""
        entry = replace(_CONTINUED, policy_set=self._policy_set(), surroundings=self._around)
        cited = {"chain": self._chain, **self._notes.cite(entry)}
        line, head, _ = self._line(entry, head, time, cited)
        lines = [line]
        for facts in self._notes.missing(cited, told):
            line, head, _ = self._line(_NOTED, head, time, {"facts": facts.told})
            lines.append(line)
        return lines, head

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
            if batch.seals and not error:
                self._ended = True
                with contextlib.suppress(OSError):  # then the next batch tries again, or fails too
                    self._begin_file()

    def _keep_head(self, signature: str) -> None:
        try:
            write_head(self.path, signature)
        except OSError as error:  # the chain holds the statement: only the copy beside it is old now
            logger.warning("the signed head of %s can't be written: %s", self.path.name, error.strerror)

    def _store(self, block: bytes) -> None:
        if self._torn:
            self._take_back()
        if self._ended:
            self._begin_file()
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

    def _begin_file(self) -> None:
        """Puts the file that has ended away and opens the next; each step may be taken again after one that failed."""
        ended = os.fstat(self._file.fileno())
        if self.path.exists() and os.path.samestat(ended, self.path.stat()):
            put_away(self.path)
        os.fchmod(self._file.fileno(), SEALED_MODE)
        file = open_file(self.path)
        self._file.close()
        self._file, self._ended = file, False

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
            self._settle(batch)
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

    def _settle(self, batch: _Batch) -> None:
        """What is so now that a batch is durable."""
        self._head = batch.head
        self._chain = self._chain or batch.records[0].hash
        self._stated = batch.signed.seq if batch.signed else self._stated
        if batch.seals:
            self._notes, self._begun = Notes(self._clean), 0.0
        else:
            self._notes.settle(batch.told)
            self._begun = self._begun or time.time()
        if self._head.offset >= self._upkeep.rotate_bytes:
            self._full.set()

    async def _seal_when_due(self) -> None:
        """Ends the file once it is long or old enough; one that holds nothing never is."""
        while True:
            age = time.time() - self._begun if self._begun else 0.0
            if self._full.is_set() or age >= self._upkeep.rotate_after:
                self._full.clear()
                try:
                    await self.write(_SEALED)
                except Unrecorded:
                    await asyncio.sleep(_AGAIN_SECONDS)
                continue
            left = self._upkeep.rotate_after - age
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else left):
                    await self._full.wait()

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
        self._lock.close()


def _ends_file(waiting: _Waiting) -> bool:
    return waiting.entry.event is Event.LOG_SEALED
