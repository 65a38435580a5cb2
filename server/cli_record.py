"""`arborgate record`: prove a log whole, follow it, search it, export it — from the files alone, with no server running."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from heapq import nlargest
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer
from joserfc.jwk import OKPKey
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ..tools.record import Record, RecordQuery
from ..tools.text import quote_name
from .approvals import load_key
from .chain import read_open
from .cli_policy_words import read_when
from .export import Format, read_lines, write_format
from .log_files import group_files
from .proof import Proof, prove
from .record_stream import matches
from .replay import BrokenLog
from .signed_heads import SignedHead, read_head

commands = typer.Typer(help="The audit log: prove it whole, follow it, search it, export it.", no_args_is_help=True)

Log = Annotated[Path, typer.Argument(help="A log file, or the folder of all replicas' logs (settings: record.dir).")]
_POLL_SECONDS = 0.25


@commands.command("verify")
def verify_logs(
    log: Log,
    key: Annotated[
        list[Path] | None, typer.Option(help="A public key (record.pub.jwk) that signed heads are checked with.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            help="A head that was once told, which must still be there: replica:number:hash, or a *.head file."
        ),
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="The oldest files have been moved away.")] = False,
) -> None:
    """Checks every line of every chain, over all its files; exits 1 and names the first bad line when one was changed.

    With --key also every signature, up to where the log is signed; what a *.head file beside a log says is always expected.
    """
    keys = {one.thumbprint(): one for one in (load_key(path, "--key") for path in key or [])}
    expected = [_read_expected(text, keys) for text in expect or []]
    chains, faults = group_files(find_logs(log)), list[str]()
    for replica, paths in chains.items():
        told = [head for head in expected if head.replica == replica]
        found = prove(paths, keys, told, part=archived or not log.is_dir())
        faults += found.faults
        if not found.faults:
            typer.echo(f"{found.name}: whole, {_say_lines(found, len(paths))}, head {found.head}{_say_signed(found)}")
    for head in expected:
        if head.replica not in chains:
            faults.append(f"{quote_name(head.replica)}: no log is here, but line {head.seq} is expected")
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(1)


def _say_lines(found: Proof, files: int) -> str:
    behind = f", lines {found.first} to {found.last}" if found.first > 1 else ""
    return f"{f'{files} files, ' if files > 1 else ''}{found.lines} records{behind}"


def _say_signed(found: Proof) -> str:
    if not found.signed:
        return ""
    behind = found.unsigned
    since = f", {behind} record{'s are' if behind > 1 else ' is'} newer" if behind else ""
    return f", signed up to line {found.signed.seq} at {found.signed.time}{since}"


def _read_expected(text: str, keys: Mapping[str, OKPKey]) -> SignedHead:
    """The head that is told; ends the command when it is none."""
    replica, *rest = text.rsplit(":", 2)
    if len(rest) == 2 and rest[0].isdigit():
        return SignedHead(replica, int(rest[0]), rest[1], "")
    try:
        return read_head(Path(text), keys)
    except ValueError as error:
        typer.echo(f"--expect {text}: {error}; give replica:number:hash, or a *.head file", err=True)
        raise typer.Exit(2) from error


@commands.command("tail")
def tail_logs(
    log: Log,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last records.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as records are written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Shows the last records, oldest first."""
    ends: dict[int, _End] = {}
    last: list[Record] = []
    for path in find_logs(log):
        last += deque(_tell(_read_on(path, ends)), maxlen=lines)
    for record in nlargest(lines, last, key=_order)[::-1]:
        _show(record, as_json)
    while follow:
        logs = find_logs(log)
        for path in logs:
            for record in _tell(_read_on(path, ends)):
                _show(record, as_json)
        time.sleep(_POLL_SECONDS)


@commands.command("search")
def search_logs(
    log: Log,
    person: Annotated[str, typer.Option(help="A person's name or key (issuer#subject).")] = "",
    agent: Annotated[str, typer.Option(help="An agent's client id.")] = "",
    event: Annotated[str, typer.Option(help="An event, as proposal:approved; facts: what decisions rest on.")] = "",
    tool: Annotated[str, typer.Option(help="A tool's name.")] = "",
    resource: Annotated[str, typer.Option(help="A part of a resource, as an app's name.")] = "",
    proposal: Annotated[str, typer.Option(help="A proposal's id.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The most to show, the newest of them.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Shows the records that match all that is given, oldest first."""
    query = RecordQuery(caller=person, agent=agent, event=event, tool=tool, resource=resource, proposal=proposal)
    found = (record for path in find_logs(log) for record in _read_on(path, {}) if matches(record, query))
    for record in nlargest(limit, found, key=_order)[::-1]:
        _show(record, as_json)


@commands.command("export")
def export_logs(
    log: Log,
    form: Annotated[Format, typer.Option("--format", help="As which format.")] = Format.JSONL,
    since: Annotated[str, typer.Option(help="RFC 3339, or ago: 30m, 24h, 7d.")] = "",
    until: Annotated[str, typer.Option(help="The same.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="A file, replaced once all is written; else standard output.")
    ] = None,
) -> None:
    """Writes the records of all replicas by time, as they are on record: what was redacted stays so."""
    logs, window = find_logs(log), (read_when(since, "--since"), read_when(until, "--until"))
    shown = Progress(
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty() or (out is None and sys.stdout.isatty()),
    )
    with shown as progress, _open_output(out) as output:
        task = progress.add_task("exporting", total=sum(path.stat().st_size for path in logs))
        read = partial(progress.advance, task)
        try:
            for piece in write_format(read_lines(logs, since=window[0], until=window[1], on_read=read), form):
                output.write(piece)
        except BrokenLog as error:
            typer.echo(f"{error}; `arborgate record verify` looks at every line", err=True)
            raise typer.Exit(1) from error


@contextmanager
def _open_output(out: Path | None) -> Iterator[BinaryIO]:
    """Where to write: standard output, or a file that is there whole or not at all, for its owner alone."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
        part.replace(out)
    except OSError as error:
        typer.echo(f"{out}: can't be written: {error.strerror}", err=True)
        raise typer.Exit(2) from error
    finally:
        part.unlink(missing_ok=True)


def describe(record: Record) -> str:
    """A record on one line, with nothing in it that a terminal would obey."""
    who = quote_name(record.caller_name or record.caller) or "-"
    agent = f" via {quote_name(record.agent)}" if record.agent else ""
    what = " ".join(quote_name(part) for part in (record.tool, record.resource, record.proposal) if part)
    result = " ".join(quote_name(part) for part in (record.decision, record.outcome) if part)
    return f"{quote_name(record.time)}  {quote_name(record.event):<20}  {who}{agent}  {what}  {result}".rstrip()


@dataclass(frozen=True, slots=True)
class _End:
    """Where reading a file has come to: how many of its lines and bytes were read."""

    lines: int = 0
    offset: int = 0


def _tell(records: Iterable[Record]) -> Iterator[Record]:
    """The records without the facts that they rest on."""
    return (record for record in records if matches(record, RecordQuery()))


def _order(record: Record) -> tuple[str, str, int]:
    return record.time, record.replica, record.seq


def _read_on(path: Path, ends: dict[int, _End]) -> Iterator[Record]:
    """The records since the last reading, by the file itself: one that is put away under another name is read on, and one
    that took its name is read from its start. A broken line ends the command."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # just being put away
    with file:
        found = os.fstat(file.fileno())
        end = ends.get(found.st_ino, _End())
        if end.offset > found.st_size:
            end = _End()
        try:
            for record, behind in read_open(file, end.offset):
                ends[found.st_ino] = end = _End(end.lines + 1, behind)
                yield record
        except ValueError as error:
            where = f"{path.name}: line {end.lines + 1}"
            typer.echo(f"{where}: {error}; `arborgate record verify` looks at every line", err=True)
            raise typer.Exit(1) from error


def find_logs(log: Path) -> list[Path]:
    """The log, or all logs of a folder; ends the command where there is none."""
    files = sorted(log.glob("*.jsonl")) if log.is_dir() else [log]
    if not files or not all(path.is_file() for path in files):
        typer.echo(
            f"{log}: no log is here; give a *.jsonl file or the folder of `record.dir` in the settings", err=True
        )
        raise typer.Exit(2)
    return files


def _show(record: Record, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps({name: value for name, value in asdict(record).items() if value}))
    else:
        typer.echo(describe(record))
