"""`arborgate policy lint`: what it prints in each format, and its exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from arborgate.server.cli_policy import commands

NOTE = '@id("note") permit (principal in Role::"viewer", action == Action::"redis:read_value", resource);\n'
WARNING = '@id("warning") permit (principal, action == Action::"app:read", resource);\n'
ERROR = (
    '@id("error") permit (principal in Role::"viewer", action == Action::"app:list", resource)\n'
    'when { context.channel == "page" };\n'
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["lint", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize(
    ("policies", "options", "code"),
    [
        (NOTE, (), 0),
        (NOTE, ("--strict",), 0),
        (WARNING, (), 0),
        (WARNING, ("--strict",), 1),
        (ERROR, (), 1),
        ("permit", (), 1),
        (NOTE, ("--format", "xml"), 2),
    ],
)
def test_errors_fail_and_warnings_do_when_asked_and_notes_never_do(
    policies: str, options: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    (tmp_path / "own.cedar").write_text(policies)

    assert run(tmp_path, *options).exit_code == code


def test_a_finding_is_told_with_its_place_its_line_and_a_count(tmp_path: Path) -> None:
    (tmp_path / "own.cedar").write_text(NOTE + ERROR)

    lines = run(tmp_path).stdout.splitlines()

    assert lines[0].startswith(f"{tmp_path}/own.cedar:1:1: note: note: permits redis:read_value in every environment")
    assert lines[-4:-1] == [
        f'{tmp_path}/own.cedar:3:27: error: error: context.channel is never "page"; did you mean "pages"? [unknown-word]',
        '    when { context.channel == "page" };',
        f"    {' ' * 26}^^^^^^",
    ]
    assert lines[-1] == "2 policies: 2 errors, 1 note"


def test_a_program_gets_every_field(tmp_path: Path) -> None:
    (tmp_path / "own.cedar").write_text(WARNING)

    (told,) = json.loads(run(tmp_path, "--format", "json").stdout)

    assert told == {
        "level": "warning",
        "rule": "anybody",
        "policy": "warning",
        "problem": "permits this to everybody who can log in, agents of their own as well; name a role or a group",
        "file": f"{tmp_path}/own.cedar",
        "line": 1,
        "column": 24,
        "width": 9,
        "text": WARNING.strip(),
    }


def test_a_workflow_on_github_gets_annotations(tmp_path: Path) -> None:
    folder = tmp_path / "100%, really"
    folder.mkdir()
    (folder / "own.cedar").write_text(WARNING)

    assert run(folder, "--format", "github").stdout == (
        f"::warning file={tmp_path}/100%25%2C really/own.cedar,line=1,col=24,endColumn=33,title=anybody::"
        "warning: permits this to everybody who can log in, agents of their own as well; name a role or a group\n"
    )


def test_settings_tell_which_roles_and_environments_there_are(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("roles: {viewer: [staff], auditor: []}\nenvironments: [{name: prod}]\n")
    (tmp_path / "own.cedar").write_text(
        '@id("a") permit (principal in Role::"auditor", action == Action::"app:read", resource);\n'
        '@id("b") permit (principal in Role::"viewer", action == Action::"app:read", resource in Environment::"prd");\n'
    )

    told = run(tmp_path, "--config", tmp_path / "settings.yaml", "--strict")

    assert told.exit_code == 1
    assert 'a: no group has the role "auditor" in the settings; known: viewer [unknown-role]' in told.stdout
    assert 'b: the settings have no environment "prd"; did you mean "prod"? [unknown-environment]' in told.stdout
    assert run(tmp_path).stdout == "2 policies: nothing to say\n"
