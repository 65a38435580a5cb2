"""`arborgate policy`: check, test and read policies, and explain their decisions; reads files, changes nothing."""

from __future__ import annotations

import typer

from ..policies.errors import BadConfiguration
from ..policies.loader import load_policies
from .cli_policy_diff import diff
from .cli_policy_explain import explain
from .cli_policy_lint import show_lint
from .cli_policy_question import Directory, refuse
from .cli_policy_test import run_cases
from .cli_policy_what import show_what_can
from .cli_policy_who import show_who_can

commands = typer.Typer(help="Policies: check and test them, find who can, explain decisions.", no_args_is_help=True)


@commands.command()
def check(directory: Directory = None) -> None:
    """Checks policies as a start does: syntax, ids, schema and every case; exits 1 when they would be refused."""
    try:
        loaded = load_policies(directory)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    typer.echo(f"{len(loaded.locations)} policies in order, digest {loaded.digest}")


commands.command("test")(run_cases)
commands.command()(diff)
commands.command()(explain)
commands.command("lint")(show_lint)
commands.command("what-can")(show_what_can)
commands.command("who-can")(show_who_can)
