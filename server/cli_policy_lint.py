"""`arborgate policy lint`: what policies say that can't be meant, or need not be said."""

from __future__ import annotations

import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..policies.errors import BadConfiguration
from ..policies.findings import Finding, Level
from ..policies.lint import lint
from ..policies.loader import read_folder
from ..policies.plain_reading import NOTHING_KNOWN, Known
from .cli_policy_question import ConfigOption, Directory, refuse
from .settings import Settings, read_settings


class Report(StrEnum):
    """How findings are written: for people, for programs, or as annotations in a workflow on GitHub."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


_ON_GITHUB = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


def show_lint(
    directory: Directory = None,
    config: ConfigOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings, too.")] = False,
    report: Annotated[
        Report, typer.Option("--format", help="For people, for programs, or for workflows on GitHub.")
    ] = Report.TEXT,
) -> None:
    """Finds what never applies, what another policy says already, what is given to more than was meant, and misspelt
    words; with --config also names that the settings do not know.

    Exits 1 for errors (with --strict also for warnings), never for notes, and when the policies can't be read; 2 when it
    was called wrongly."""
    try:
        folder = read_folder(directory)
        known = NOTHING_KNOWN if config is None else _know(read_settings(config))
    except BadConfiguration as error:
        raise refuse(error.message) from error
    found = lint(folder.statements, known, folder.own)
    match report:
        case Report.JSON:
            typer.echo(json.dumps([_as_json(finding) for finding in found], indent=2))
        case Report.GITHUB:
            for finding in found:
                typer.echo(_annotate(finding))
        case Report.TEXT:
            for finding in found:
                typer.echo(finding.tell())
            typer.echo(_count(found, len(folder.own)))
    failing = {Level.ERROR, Level.WARNING} if strict else {Level.ERROR}
    if any(finding.level in failing for finding in found):
        raise typer.Exit(1)


def _know(settings: Settings) -> Known:
    members = [member for each in settings.roles.values() for member in each]
    agents = frozenset((*settings.agents.trusted, *settings.agents.forbidden))
    return Known(
        roles=frozenset(role for role, each in settings.roles.items() if each),
        groups=frozenset(member if isinstance(member, str) else member.group for member in members),
        environments=frozenset(rule.name for rule in settings.environments),
        agents=agents or None,
    )


def _count(found: list[Finding], policies: int) -> str:
    count = Counter(finding.level for finding in found)
    told = ", ".join(f"{count[level]} {level}{'' if count[level] == 1 else 's'}" for level in Level if count[level])
    return f"{policies} policies: {told or 'nothing to say'}"


def _as_json(finding: Finding) -> dict[str, object]:
    where = finding.passage.location
    return {
        "level": finding.level,
        "rule": finding.rule,
        "policy": finding.policy,
        "problem": finding.problem,
        "file": str(where.file),
        "line": where.line,
        "column": where.column,
        "width": finding.passage.width,
        "text": finding.passage.line,
    }


def _annotate(finding: Finding) -> str:
    """A workflow command: https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    where, end = finding.passage.location, finding.passage.location.column + finding.passage.width
    place = f"file={_escape(where.file)},line={where.line},col={where.column},endColumn={end}"
    message = f"{finding.policy}: {finding.problem}".replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{_ON_GITHUB[finding.level]} {place},title={finding.rule}::{message}"


def _escape(value: Path) -> str:
    text = str(value)
    for character, written in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(character, written)
    return text
