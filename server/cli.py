"""The command line: `arborgate serve | applier | connect | login | …`; `arborgate --help` names them all."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..policies.errors import ArborgateError

if TYPE_CHECKING:
    from .settings import Settings

# Each command imports what it runs: a copilot that starts `serve --stdio` waits for nothing it does not need.

commands = typer.Typer(
    name="arborgate",
    help="The gate between AI agents and a tree of applications.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Level(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The settings, a YAML file (default: $ARBORGATE_CONFIG).")
]
LogLevel = Annotated[Level, typer.Option("--log-level", help="How much goes to standard error.")]


@commands.command()
def serve(
    config: Config = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Speak MCP over standard input and output.")] = False,
    acting_as: Annotated[str, typer.Option("--as", help="With --stdio: who calls, a name in identity.stdio.")] = "",
    log_level: LogLevel = Level.WARNING,
) -> None:
    """Serves MCP, the approval pages and the probes; changes nothing outside its own keyspace."""
    with _importing():
        from .app import serve_http, serve_stdio
        from .settings import read_settings

    settings = read_settings(config)
    if stdio:
        _run(lambda stop: serve_stdio(settings, acting_as, stop), log_level, settings)
    elif acting_as:
        raise typer.BadParameter("goes with --stdio", param_hint="--as")
    else:
        _run(lambda stop: serve_http(settings, stop), log_level, settings)


@commands.command()
def applier(config: Config = None, log_level: LogLevel = Level.WARNING) -> None:
    """Rehearses proposals and applies approved ones; the only process with write credentials."""
    with _importing():
        from .applier import run_applier
        from .settings import read_settings

    settings = read_settings(config)
    _run(lambda stop: run_applier(settings, stop), log_level, settings)


@commands.command()
def parent(config: Config = None, log_level: LogLevel = Level.INFO) -> None:
    """Speaks for a parent app: approves what its template allows below it, and leaves the rest to people."""
    with _importing():
        from .parent import run_parent
        from .settings import read_settings

    settings = read_settings(config)
    _run(lambda stop: run_parent(settings, stop), log_level, settings)


@contextmanager
def _importing() -> Iterator[None]:
    """Without the collector: nothing of what is imported is garbage, and it would look through all of it again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _run(start: Callable[[asyncio.Event], Coroutine[Any, Any, None]], level: Level, settings: Settings) -> None:
    """Runs until done, or until SIGINT or SIGTERM asks to stop; the work in hand is finished first."""
    import uvloop

    from .logs import set_up_logging
    from .redaction import Redactor

    set_up_logging(level, Redactor(settings.redaction).clean_text)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await start(stop)

    uvloop.run(run())


def _mount(first: str) -> None:
    """Adds the commands of other files; those that a copilot waits for without the files of the others."""
    from .cli_connect import connect, login, logout, whoami

    own = (connect, login, logout, whoami)
    for command in own:
        commands.command()(command)
    if first in {command.__name__ for command in (*own, serve, applier, parent)}:
        return
    from .cli_approvers import commands as approvers
    from .cli_deny import commands as deny
    from .cli_doctor import doctor
    from .cli_keys import commands as keys
    from .cli_policy import commands as policy
    from .cli_proposals import commands as proposals
    from .cli_record import commands as record
    from .demo.cli import commands as demo

    commands.command()(doctor)
    commands.add_typer(approvers, name="approvers")
    commands.add_typer(demo, name="demo")
    commands.add_typer(deny, name="deny")
    commands.add_typer(keys, name="keys")
    commands.add_typer(policy, name="policy")
    commands.add_typer(proposals, name="proposals")
    commands.add_typer(record, name="record")


def main() -> None:
    """Runs the command; what the person did wrong is said in one line each, without a stack trace."""
    _mount(next(iter(sys.argv[1:]), ""))
    try:
        commands()
    except ArborgateError as error:
        report(error)
        sys.exit(2)


def report(error: ArborgateError) -> None:
    """Says on standard error what was wrong: perhaps in a file, and there beside a password."""
    from .redaction import Redactor

    clean = Redactor().clean_text
    for line in filter(None, (error.message, error.hint)):
        print(f"arborgate: {clean(line)}", file=sys.stderr)  # noqa: T201  # the one place that speaks before logging is up


if __name__ == "__main__":
    main()
