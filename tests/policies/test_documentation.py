"""docs/policies.md: its examples work as they stand, and it names every action and everything in the context."""

import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from arborgate.policies.loader import SCHEMA, load_policies
from arborgate.policies.model import Action, ActionGroup, Channel
from arborgate.server.cli_policy import commands
from arborgate.server.identity.settings import Grant
from arborgate.server.settings import Settings
from tests.policies.writing import copy_shipped

TEXT = (Path(__file__).parents[2] / "docs/policies.md").read_text()


def test_the_examples_load_beside_the_shipped_policies_and_their_cases_hold(tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text("\n".join(re.findall(r"```cedar\n(.*?)```", TEXT, re.DOTALL)))
    (folder / "cases/own.yaml").write_text("\n".join(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)))

    assert {
        "chat-bot-proposes-nothing",
        "only-reviewed-agents-propose",
        "payments-read-their-values",
        "production-approvals-need-a-key",
        "production-takes-bound-calls",
    } <= load_policies(folder).locations.keys()


def test_the_explained_question_is_answered_as_shown() -> None:
    command, shown = re.findall(r"\$ arborgate policy explain (.*?)\n(who .*?)```", TEXT, re.DOTALL)[0]

    result = CliRunner().invoke(commands, ["explain", *command.replace("\\\n", " ").split()])

    assert result.stdout == shown


def test_every_action_stands_in_the_row_of_its_group() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.*) \|$", TEXT, re.MULTILINE))

    assert {group: sorted(re.findall(r"`([^`]+)`", row)) for group, row in rows.items()} == {
        group: sorted(action for action in Action if action.group is group) for group in ActionGroup
    }


def test_every_channel_is_named() -> None:
    assert all(f"`{channel}`" in TEXT for channel in Channel)


def test_everything_in_the_context_is_named_and_nothing_else() -> None:
    named = re.findall(r"^\| `(\w+)` \| [^`].* \|$", TEXT, re.MULTILINE)
    types = re.findall(r"^type \w+ = \{\n(.*?)^\};", SCHEMA.read_text(), re.MULTILINE | re.DOTALL)

    assert sorted(named) == sorted({name for text in types for name in re.findall(r"^  (\w+):", text, re.MULTILINE)})


def test_a_role_at_an_app_is_given_as_shown() -> None:
    (block,) = re.findall(r"```\n(roles:.*?)```", TEXT, re.DOTALL)

    assert Settings.model_validate(yaml.safe_load(block)).roles["developer"] == (
        "platform",
        Grant(group="payments-team", at="main/argocd/payments"),
    )
