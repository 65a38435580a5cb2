"""`arborgate policy`: check policies, run their cases, explain one decision; reads files, changes nothing."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from ..policies.casebook import Case
from ..policies.errors import BadConfiguration
from ..policies.loader import check_cases, find_missing_cases, load_policies, read_policies
from .cli_policy_explain import explain
from .cli_policy_question import Directory, refuse

commands = typer.Typer(help="Policies: check them, run their cases, explain a decision.", no_args_is_help=True)


@commands.command()
def check(directory: Directory = None) -> None:
    """Checks policies as a start does: syntax, ids, schema and every case; exits 1 when they would be refused."""
    try:
        loaded = load_policies(directory)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    typer.echo(f"{len(loaded.locations)} policies in order, digest {loaded.digest}")


@commands.command("test")
def run_cases(
    directory: Directory = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the cases that hold, too, and why.")] = False,
) -> None:
    """Decides every case; exits 1 when one fails, or when a policy or an action has no case."""
    try:
        loaded, cases = read_policies(directory)
    except BadConfiguration as error:
        raise refuse(error.message) from error
    problems = find_missing_cases(loaded, cases, directory)
    for file, group in groupby(check_cases(loaded, cases), key=lambda answer: answer.case.location.file):
        answers = list(group)
        failed = [f"{answer.case.location}: {answer.problem}" for answer in answers if answer.problem]
        typer.echo(f"{file.name}: {len(answers) - len(failed)} of {len(answers)} hold")
        if verbose:
            for answer in answers:
                _show_case(answer.case, holds=not answer.problem)
        problems += failed
    if problems:
        raise refuse("\n".join(problems))


def _show_case(case: Case, *, holds: bool) -> None:
    typer.echo(f"  {'holds' if holds else 'FAILS'}  {case.title}")
    typer.echo(f"         {case.why}")


commands.command()(explain)
