"""docs/policies.md: its examples work as they stand, and it names every action and everything in the context."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import yaml
from typer.testing import CliRunner

from arborgate.policies.loader import ALWAYS, SCHEMA, load_policies
from arborgate.policies.model import Action, ActionGroup, AgentTrust, Channel
from arborgate.policies.statements import read_statements
from arborgate.server.cli_policy import commands
from arborgate.server.identity.settings import Grant
from arborgate.server.settings import Settings
from tests.policies.roles import HEAD, roles_table
from tests.policies.writing import copy_shipped

ENVIRONMENTS = {"environments": [{"name": "production", "strict": True}]}
PAGE = Path(__file__).parents[2] / "docs/policies.md"
TEXT = PAGE.read_text()


def test_the_examples_load_beside_the_shipped_policies_and_their_cases_hold(tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text("\n".join(re.findall(r"```cedar\n(.*?)```", TEXT, re.DOTALL)))
    (folder / "cases/own.yaml").write_text("\n".join(re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)))

    assert {
        "chat-bot-proposes-nothing",
        "only-reviewed-agents-propose",
        "payments-read-their-values",
        "production-approvals-need-a-key",
        "production-sleeps-at-night",
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


def test_the_table_of_roles_is_what_the_engine_decides() -> None:
    table = roles_table()
    shown = re.findall(rf"^{re.escape(HEAD)}(?:\|.*\n)*", TEXT, re.MULTILINE)
    if os.environ.get("ARBORGATE_GOLDEN") == "write":
        PAGE.write_text(TEXT.replace(shown[0], table))

    assert shown == [table], "run `make golden` after changing who may do what"


def test_every_channel_is_named() -> None:
    assert all(f"`{channel}`" in TEXT for channel in Channel)


def test_everything_in_the_context_is_named_and_nothing_else() -> None:
    named = re.findall(r"^\| `(\w+)` \| [^`].* \|$", TEXT, re.MULTILINE)
    types = re.findall(r"^type \w+ = \{\n(.*?)^\};", SCHEMA.read_text(), re.MULTILINE | re.DOTALL)

    assert sorted(named) == sorted({name for text in types for name in re.findall(r"^  (\w+):", text, re.MULTILINE)})


def test_every_policy_that_is_always_in_force_is_named() -> None:
    (table,) = re.findall(r"^\| always \|.*\n((?:\|.*\n)*)", TEXT, re.MULTILINE)

    assert sorted(re.findall(r"^\| ([a-z-]+) \|", table, re.MULTILINE)) == sorted(
        statement.id for statement in read_statements(ALWAYS[0], ALWAYS[0].read_text())
    )


def test_the_agents_and_the_calendar_shown_are_settings() -> None:
    agents, calendar = (re.findall(rf"```\n({name}:.*?)```", TEXT, re.DOTALL)[0] for name in ("agents", "calendar"))
    settings = Settings.model_validate({**yaml.safe_load(agents), **yaml.safe_load(calendar), **ENVIRONMENTS})
    frozen, until = (datetime(2026, 12, day, 12, tzinfo=UTC).timestamp() for day in (18, 24))

    assert settings.agents.trust("ide-x", (), direct=False) is AgentTrust.TRUSTED
    assert settings.calendar.explain("production", frozenset(), frozen) is None
    assert f"*{settings.calendar.explain('production', frozenset(), until)}*" in " ".join(TEXT.split())


def test_a_role_at_an_app_is_given_as_shown() -> None:
    (block,) = re.findall(r"```\n(roles:.*?)```", TEXT, re.DOTALL)

    assert Settings.model_validate(yaml.safe_load(block)).roles["developer"] == (
        "platform",
        Grant(group="payments-team", at="main/argocd/payments"),
    )
