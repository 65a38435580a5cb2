"""`arborgate deny`: shut people, agents and single tokens out before their tokens end."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ..policies.errors import ArborgateError, BadConfiguration
from ..tools.record import Entry, Event
from ..tools.text import quote, quote_name
from .audit import AuditLog, Upkeep
from .identity.denylist import FOR_GOOD, Denial, Kind, SharedDenyList, longest_life
from .identity.tokens import is_name
from .record_stream import RecordStream
from .redaction import Redactor
from .settings import Settings, read_settings
from .state import open_state

commands = typer.Typer(help="Shut people, agents and tokens out before their tokens end.", no_args_is_help=True)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The settings, a YAML file (default: $ARBORGATE_CONFIG).")
]
Who = Annotated[
    str, typer.Argument(help="issuer#subject of a person, issuer#client_id of an agent, issuer#jti of a token.")
]
What = Annotated[Kind, typer.Argument(help="What is shut out.")]
_HOURS = "How many hours; default: as long as tokens live, with --new-too until removed."
_Result = TypeVar("_Result")


@commands.command("add")
def add(
    kind: What,
    name: Who,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    new_too: Annotated[bool, typer.Option("--new-too", help="Also tokens issued from now on.")] = False,
    hours: Annotated[float, typer.Option("--for", min=0, help=_HOURS)] = 0,
    config: Config = None,
) -> None:
    """Refuses all tokens that somebody has now, on every replica within seconds."""
    settings = _read(config)
    _check(name, settings)

    async def deny(denied: SharedDenyList) -> Denial:
        life = hours * 3_600
        return await denied.deny(kind, name, new_too=new_too, reason=reason, by=getpass.getuser(), life=life)

    denial = asyncio.run(_change(settings, Event.CALLER_DENIED, kind, name, reason, deny))
    typer.echo(_describe(denial))


@commands.command("remove")
def remove(kind: What, name: Who, config: Config = None) -> None:
    """Takes somebody off the list; exits 1 when they are not on it."""
    settings = _read(config)
    removed = asyncio.run(_change(settings, Event.CALLER_ADMITTED, kind, name, "", lambda deny: deny.admit(kind, name)))
    if not removed:
        typer.echo(f"{kind} {quote_name(name)} is not on the list", err=True)
        raise typer.Exit(1)


@commands.command("list")
def show(config: Config = None) -> None:
    """Shows who is shut out, what ends first at the top."""

    async def read() -> None:
        async with _open(_read(config)) as denied:
            for denial in await denied.entries():
                typer.echo(_describe(denial))

    asyncio.run(read())


def _read(config: Path | None) -> Settings:
    settings = read_settings(config)
    if not settings.identity.deny_list.enabled:
        raise BadConfiguration("identity.deny_list.enabled is false: no replica looks at the list")
    return settings


def _check(name: str, settings: Settings) -> None:
    """A name that nobody can have would shut nobody out, and look as if it did."""
    issuer, _, own = name.partition("#")
    issuers = [*(one.issuer for one in settings.identity.issuers), settings.http.url]
    if issuer not in issuers or not is_name(own):
        raise BadConfiguration(
            f"{quote_name(name)}: names nobody; it should be the issuer, #, and the subject, client_id or jti",
            hint=f"The issuers are {', '.join(issuers)}.",
        )


async def _change(
    settings: Settings,
    event: Event,
    kind: Kind,
    name: str,
    reason: str,
    change: Callable[[SharedDenyList], Awaitable[_Result]],
) -> _Result:
    """Changes the list once it is on record that it will be, in a chain of this command's own; what fails is recorded
    too."""
    user = getpass.getuser()
    entry = Entry(event=event, caller=f"local#{user}", caller_name=user, resource=f"{kind}:{name}", detail=reason)
    async with _open(settings) as denied, _record(settings) as audit:
        await audit.write(entry)
        try:
            return await change(denied)
        except ArborgateError as error:
            await audit.write(replace(entry, outcome=error.reason))
            raise


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[SharedDenyList]:
    state = open_state(settings.state)
    try:
        yield SharedDenyList(state, settings.identity.deny_list, life=longest_life(settings.identity))
    finally:
        await state.redis.aclose()


@asynccontextmanager
async def _record(settings: Settings) -> AsyncIterator[AuditLog]:
    state = open_state(settings.state)
    try:
        records = RecordStream(state, longest=settings.record.stream_length)
        async with (
            AuditLog.open(
                settings.record.dir,
                f"{settings.replica}-deny",
                Redactor(settings.redaction).clean_text,
                upkeep=Upkeep.read(settings.record),
            ) as audit,
            records.following(audit),
        ):
            yield audit
    finally:
        await state.redis.aclose()


def _describe(denial: Denial) -> str:
    """A denial on one line, with nothing in it that a terminal would obey."""
    left = max(0.0, denial.until - time.time())
    lasts = "until removed" if left > FOR_GOOD / 2 else f"for {left / 3_600:.1f} h more"
    tokens = "all tokens" if denial.new_too else f"tokens issued up to {_moment(denial.before)}"
    by = f" by {quote_name(denial.by)}" if denial.by else ""
    why = f": {quote(denial.reason)}" if denial.reason else ""
    return f"{denial.kind} {quote_name(denial.name)}  {tokens}, {lasts}{by}{why}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
