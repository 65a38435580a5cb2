"""`arborgate approvers`: who has enrolled passkeys, and the file by which the applier believes them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from ..tools.text import quote_name
from .approvers import Approvers, read_approvers, write_approvers
from .enrolment import read_enrolled
from .settings import read_settings
from .state import open_state

commands = typer.Typer(help="Who approves with which passkey, for the applier to believe.", no_args_is_help=True)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The settings, a YAML file (default: $ARBORGATE_CONFIG).")
]


@commands.command("list")
def show(config: Config = None) -> None:
    """Shows everybody who has enrolled a passkey, with their groups and passkeys."""
    for one in _read(config).approvers:
        typer.echo(f"{quote_name(one.name)}  {quote_name(one.key)}  {', '.join(map(quote_name, one.groups))}")
        for passkey in one.passkeys:
            since = time.strftime("%Y-%m-%d", time.gmtime(passkey.enrolled_at))
            typer.echo(f"  {quote_name(passkey.name)}  {passkey.id}  since {since}")


@commands.command("export")
def export(config: Config = None) -> None:
    """Writes the file for `applier.approvers_file` to standard output. Whoever can write to Redis can add themselves:
    read what differs from the file before (`verify`) before the applier gets it."""
    typer.echo(write_approvers(_read(config)), nl=False)


@commands.command("verify")
def verify(file: Annotated[Path, typer.Argument(help="The file that the applier has.")], config: Config = None) -> None:
    """Says how the file differs from what people have enrolled; exits 1 when it does."""
    pinned, enrolled = (_list_lines(one) for one in (read_approvers(file), _read(config)))
    differences = [f"- {line}" for line in sorted(pinned - enrolled)] + [
        f"+ {line}" for line in sorted(enrolled - pinned)
    ]
    for line in differences:
        typer.echo(line)
    if differences:
        raise typer.Exit(1)
    typer.echo(f"{file}: as enrolled")


def _list_lines(approvers: Approvers) -> set[str]:
    """One line for each group and each passkey of each person: what is only here or only there shows by itself."""
    lines: set[str] = set()
    for one in approvers.approvers:
        who = f"{quote_name(one.name)}  {quote_name(one.key)}"
        lines |= {f"{who}  group {quote_name(group)}" for group in one.groups}
        lines |= {f"{who}  passkey {passkey.id}  {passkey.public_key}" for passkey in one.passkeys}
    return lines


def _read(config: Path | None) -> Approvers:
    settings = read_settings(config)

    async def read() -> Approvers:
        state = open_state(settings.state)
        try:
            return await read_enrolled(state)
        finally:
            await state.redis.aclose()

    return asyncio.run(read())
