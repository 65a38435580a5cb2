"""`arborgate policy test`: decides every case, and says how much of the policies the cases look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from ..policies.casebook import Answer
from ..policies.coverage import Coverage, find_survivors, measure_coverage
from ..policies.engine import LoadedPolicies
from ..policies.errors import BadConfiguration
from ..policies.loader import Folder, assemble, check_cases, find_missing_cases, read_folder
from .cli_policy_question import Directory, refuse
from .junit import write_junit


def run_cases(
    directory: Directory = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the cases that hold, too, and why.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write the outcome to this file, as JUnit XML.")] = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Say what no case looks at: policies, and conditions seen one way only.")
    ] = False,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Change one thing after the other, and fail where no case notices.")
    ] = False,
) -> None:
    """Decides every case. Needs no settings and no network.

    Exits 1 when the policies can't be read, a case fails, a policy or an action has no case, or (with --mutants) a
    change goes unnoticed; 2 when it was called wrongly."""
    try:
        folder = read_folder(directory)
    except BadConfiguration as error:
        _write(junit, write_junit((), (), error.message))
        raise refuse(error.message) from error
    loaded = assemble(folder.statements, folder.digest)
    answers = check_cases(loaded, folder.cases)
    gaps = find_missing_cases(loaded, folder.cases, directory)
    for file, group in groupby(answers, key=lambda answer: answer.case.location.file):
        _show_file(file, list(group), verbose)
    _write(junit, write_junit(answers, gaps))
    if coverage:
        own = {statement.id for statement in folder.own}
        _show_coverage([each for each in measure_coverage(folder.statements, folder.cases) if each.policy in own])
    failed = [answer for answer in answers if answer.problem]
    problems = [line for answer in failed for line in _explain(loaded, answer)] + gaps
    if not failed and mutants:
        problems += _judge_mutants(folder)
    if problems:
        raise refuse("\n".join(problems))


def _write(file: Path | None, text: str) -> None:
    if file is None:
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file}: cannot be written: {error.strerror}", param_hint="--junit") from error


def _show_file(file: Path, answers: Sequence[Answer], verbose: bool) -> None:
    holding = sum(not answer.problem for answer in answers)
    typer.echo(f"{file.name}: {holding} of {len(answers)} hold")
    for answer in answers if verbose else ():
        typer.echo(f"  {'FAILS' if answer.problem else 'holds'}  {answer.case.title}")
        typer.echo(f"         {answer.case.why}")


def _explain(loaded: LoadedPolicies, answer: Answer) -> Iterator[str]:
    case, decision = answer.case, answer.decision
    yield f"{case.location}: {answer.problem}"
    yield f"    expected  {_told(case.allowed, case.by)}"
    yield f"    decided   {decision.error or _told(decision.allowed, decision.policies)}"
    for policy in decision.policies:
        yield f"              {policy}  {loaded.locations[policy]}"
    yield f"    why       {case.why}"


def _told(allowed: bool, policies: Sequence[str]) -> str:
    return f"{'allowed' if allowed else 'denied'} by {', '.join(policies) or 'nothing'}"


def _show_coverage(found: Sequence[Coverage]) -> None:
    conditions = [condition for each in found for condition in each.conditions]
    both = sum(bool(condition.held and condition.failed) for condition in conditions)
    reached = sum(bool(each.reached) for each in found)
    typer.echo(
        f"coverage: {reached} of {len(found)} policies decide a case, "
        f"{both} of {len(conditions)} conditions are seen both ways"
    )
    for each in found:
        if not each.reached:
            typer.echo(each.passage.tell(f"{each.policy} decides no case"))
        for condition in each.conditions:
            if not condition.failed:
                typer.echo(
                    condition.passage.tell(f"{each.policy}: in no case is it this condition alone that keeps it off")
                )


def _judge_mutants(folder: Folder) -> Sequence[str]:
    survivors = find_survivors(folder.statements, folder.cases, folder.own)
    typer.echo(f"mutants: {len(survivors) or 'none'} unnoticed")
    return [survivor.passage.tell(survivor.problem) for survivor in survivors]
