"""`arborgate record`: prove a log whole, follow it, search it — from the files alone, with no server running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from ..tools.record import Record, RecordQuery
from .audit import read_records, verify
from .record_stream import matches

commands = typer.Typer(help="The audit log: prove it whole, follow it, search it.", no_args_is_help=True)

Log = Annotated[Path, typer.Argument(help="A log file, or the folder of all replicas' logs (settings: record.dir).")]
_POLL_SECONDS = 0.25


@commands.command("verify")
def verify_logs(log: Log) -> None:
    """Checks every line of every chain; exits 1 and names the first bad line when one was changed."""
    whole = True
    for path in _files(log):
        found = verify(path)
        if found.whole:
            typer.echo(f"{path.name}: whole, {found.lines} records, head {found.head}")
        else:
            whole = False
            typer.echo(f"{path.name}: broken at line {found.bad_line}: {found.why}", err=True)
    if not whole:
        raise typer.Exit(1)


@commands.command("tail")
def tail_logs(
    log: Log,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last records.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as records are written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Shows the last records, oldest first."""
    offsets: dict[Path, int] = {}
    records: list[Record] = []
    for path in _files(log):
        for record, behind in read_records(path):
            offsets[path] = behind
            records.append(record)
    records.sort(key=lambda record: record.time)
    for record in records[max(0, len(records) - lines) :]:
        _show(record, as_json)
    while follow:
        for path in _files(log):
            for record, behind in read_records(path, offset=offsets.get(path, 0)):
                offsets[path] = behind
                _show(record, as_json)
        time.sleep(_POLL_SECONDS)


@commands.command("search")
def search_logs(
    log: Log,
    person: Annotated[str, typer.Option(help="A person's name or key (issuer#subject).")] = "",
    agent: Annotated[str, typer.Option(help="An agent's client id.")] = "",
    event: Annotated[str, typer.Option(help="An event, as proposal:approved.")] = "",
    tool: Annotated[str, typer.Option(help="A tool's name.")] = "",
    resource: Annotated[str, typer.Option(help="A part of a resource, as an app's name.")] = "",
    proposal: Annotated[str, typer.Option(help="A proposal's id.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The most to show, the newest of them.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Shows the records that match all that is given, oldest first."""
    query = RecordQuery(caller=person, agent=agent, event=event, tool=tool, resource=resource, proposal=proposal)
    found = [record for record in _all(log) if matches(record, query)]
    for record in sorted(found, key=lambda record: record.time)[-limit:]:
        _show(record, as_json)


def describe(record: Record) -> str:
    """A record on one line."""
    who = record.caller_name or record.caller or "-"
    agent = f" via {record.agent}" if record.agent else ""
    what = " ".join(part for part in (record.tool, record.resource, record.proposal) if part)
    result = " ".join(part for part in (record.decision, record.outcome) if part)
    return f"{record.time}  {record.event:<20}  {who}{agent}  {what}  {result}".rstrip()


def _all(log: Path) -> Iterator[Record]:
    for path in _files(log):
        for record, _ in read_records(path):
            yield record


def _files(log: Path) -> list[Path]:
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
