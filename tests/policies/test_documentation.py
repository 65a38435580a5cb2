"""docs/policies.md: its examples work as they stand, and it names every action and everything in the context."""

import re
from pathlib import Path

from typer.testing import CliRunner

from arborgate.policies.loader import load_policies
from arborgate.policies.model import Action, ActionGroup, Channel
from arborgate.server.cli_policy import commands
from tests.policies.writing import copy_shipped

TEXT = (Path(__file__).parents[2] / "docs/policies.md").read_text()


def test_the_examples_load_beside_the_shipped_policies_and_their_cases_hold(tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text("\n".join(re.findall(r"```cedar\n(.*?)```", TEXT, re.DOTALL)))
    (folder / "cases/own.yaml").write_text("\n".join(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)))

    assert {"payments-read-their-values", "chat-bot-proposes-nothing"} <= load_policies(folder).locations.keys()


def test_the_explained_question_is_answered_as_shown() -> None:
    command, shown = re.findall(r"\$ arborgate policy explain (.*?)\n(who .*?)```", TEXT, re.DOTALL)[0]

    result = CliRunner().invoke(commands, ["explain", *command.replace("\\\n", " ").split()])

    assert result.stdout == shown


def test_every_action_stands_in_the_row_of_its_group() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))

    assert {group: sorted(re.findall(r"`([^`]+)`", row)) for group, row in rows.items()} == {
        group: sorted(action for action in Action if action.group is group) for group in ActionGroup
    }


def test_every_channel_is_named() -> None:
    assert all(f"`{channel}`" in TEXT for channel in Channel)
