"""`arborgate doctor`: looks an installation over and says what will do, what won't, and the way out."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from ..policies.errors import BadConfiguration
from .doctor import examine, find_process
from .doctor_findings import Finding, Mark, Process, bad, good
from .doctor_redis import Examiner
from .redaction import Redactor
from .settings import Settings, read_settings

_COLOURS = {Mark.OK: typer.colors.GREEN, Mark.WARN: typer.colors.YELLOW, Mark.BAD: typer.colors.RED}
_WIDTH = 27


def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The settings, a YAML file (default: $ARBORGATE_CONFIG).")
    ] = None,
    process: Annotated[
        Process | None, typer.Option("--process", help="Whose settings they are (default: as their key says).")
    ] = None,
    redis_user: Annotated[
        str, typer.Option("--redis-user", help="A Redis user who may read its configuration and its users.")
    ] = "",
    redis_password_file: Annotated[Path | None, typer.Option("--redis-password-file", help="That user's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list instead of lines.")] = False,
) -> None:
    """Checks an installation from its settings: one line for each thing; exits 1 when something won't do."""
    found = asyncio.run(_examine(config, process, _read_examiner(redis_user, redis_password_file), as_json))
    if as_json:
        typer.echo(orjson.dumps([asdict(each) for each in found], option=orjson.OPT_INDENT_2).decode())
    if any(each.mark is Mark.BAD for each in found):
        raise typer.Exit(1)


async def _examine(
    config: Path | None, process: Process | None, examiner: Examiner | None, quiet: bool
) -> list[Finding]:
    found: list[Finding] = []
    settings = Settings()

    def take(finding: Finding) -> None:
        clean = Redactor(settings.redaction).clean_text
        found.append(Finding(finding.what, finding.mark, clean(finding.told), clean(finding.way_out)))
        if not quiet:
            _show(found[-1])

    try:
        settings = read_settings(config)
    except BadConfiguration as error:
        for line in error.message.splitlines():
            take(bad("settings", line, error.hint or "docs/settings.md has all of them"))
        return found
    whose = process or find_process(settings)
    take(good("settings", f"can be read; they are those of {settings.replica}, as {whose}"))
    async for finding in examine(settings, whose, examiner):
        take(finding)
    return found


def _read_examiner(name: str, file: Path | None) -> Examiner | None:
    if not name:
        if file:
            raise BadConfiguration("--redis-password-file: is whose? Give --redis-user with it")
        return None
    try:
        return Examiner(name, file.read_text(encoding="utf-8").strip() if file else "")
    except OSError as error:
        raise BadConfiguration(f"--redis-password-file: can't be read: {error.strerror}") from error


def _show(finding: Finding) -> None:
    mark = typer.style(f"{finding.mark:<4}", fg=_COLOURS[finding.mark])
    way_out = f"; {finding.way_out}" if finding.way_out else ""
    typer.echo(f"{mark}  {finding.what:<{_WIDTH}}  {finding.told}{way_out}")
