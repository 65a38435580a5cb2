"""The documents about cases and the workbench: the example is whole, and what is shown is what is said."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arborgate.policies.casebook import read_cases
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.findings import LEVELS
from arborgate.policies.loader import SHIPPED
from arborgate.server.cli_policy import commands

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "policy-workbench.md").read_text()
REFERENCE = (DOCS / "policy-cases.md").read_text()

SHOWN = re.findall(r"```\n\$ arborgate policy (.*?)\n(.*?)```", TEXT.replace("\\\n", " "), re.DOTALL)

WHOLE = """\
world:
  environments: {prod: {}}
  apps: {a/b/c: {}}
  workloads: {a/b/c/Deployment/d: {app: a/b/c}}
  keyspaces: {"main:c:": {app: a/b/c}}
  proposals: {p: {app: a/b/c, requester: dana}}
  agents: {}
people:
  dana: {}
cases:
  - {who: dana, may: 'app:read', of: 'App::a/b/c', by: x, why: because}
"""


def test_the_example_needs_each_of_its_words_and_lint_finds_nothing() -> None:
    folder = str(DOCS / "policy-example")

    for command in (["test", folder, "--mutants"], ["lint", folder, "--strict"]):
        result = CliRunner().invoke(commands, command)
        assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command.split()[0] for command, _ in SHOWN])
def test_a_command_answers_as_shown(command: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS)

    result = CliRunner().invoke(commands, command.split())

    assert result.stdout.replace(str(SHIPPED), "…/policies") == shown


def test_each_rule_of_lint_stands_in_the_table_with_its_level() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning|note) \|", TEXT, re.MULTILINE)

    assert sorted(rows) == sorted((str(rule), str(level)) for rule, level in LEVELS.items())


@pytest.mark.parametrize(
    "before",
    ["prod: {", "apps: {a/b/c: {", "d: {", '"main:c:": {', "p: {", "agents: {", "dana: {", "- {", ""],
)
def test_each_field_of_the_case_format_stands_in_the_reference(before: str) -> None:
    text = WHOLE.replace(before, f"{before}zzz: 1, ", 1) if before else f"zzz: 1\n{WHOLE}"

    with pytest.raises(BadConfiguration) as caught:
        read_cases(Path("own.yaml"), text)

    known = re.search(r"zzz: unknown field; known here: (.*)", str(caught.value))
    assert known is not None, str(caught.value)
    assert [field for field in known[1].split(", ") if f"`{field}`" not in REFERENCE] == []
