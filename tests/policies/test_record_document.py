"""docs/record.md: what it shows of a past is what the commands print of one, and it names every field of a record."""

import re
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from arborgate.policies.engine import Engine
from arborgate.policies.loader import read_policies
from arborgate.policies.model import INSTALLATION, Action, Caller
from arborgate.policies.surroundings import Surroundings
from arborgate.policies.world import Person, World
from arborgate.server import cli_policy
from arborgate.tools.record import Entry, Record
from tests.server.pasts import ask, write_past

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "record.md").read_text()
SHOWN = re.findall(r"```\n\$ arborgate policy (.*?[^\\])\n(.*?)```", TEXT, re.DOTALL)


async def write_week(folder: Path, policies: Path) -> None:
    """A little work of the example's people."""
    world = World.model_validate(
        {
            "environments": {"production": {"strict": True}, "test": {}},
            "apps": {
                "main/argocd/shop": {"environment": "production"},
                "main/argocd/shop-test": {"environment": "test", "parent": "main/argocd/shop"},
            },
            "keyspaces": {"main:shop:": {"app": "main/argocd/shop"}, "main:test:": {"app": "main/argocd/shop-test"}},
        }
    ).resources()
    bob, sue = person("bob", "staff"), person("sue", "staff", "shop-team")
    shop, test = world["Keyspace::main:shop:"], world["Keyspace::main:test:"]
    asked = [
        ask(bob, Action.APP_LIST, INSTALLATION),
        ask(bob, Action.APP_READ, world["App::main/argocd/shop"]),
        ask(sue, Action.REDIS_READ_VALUE, test),
        ask(sue, Action.REDIS_READ_VALUE, shop),
        ask(sue, Action.REDIS_READ_VALUE, shop),
    ]
    engine = Engine(read_policies(policies)[0], surroundings=Surroundings())
    await write_past(folder, engine, asked)


def person(name: str, *groups: str) -> Caller:
    return Person(groups=frozenset(groups), login_age=None).caller(name, 0)


def careless(policies: Path) -> None:
    """What the document says that somebody left out."""
    file = policies / "team.cedar"
    text = file.read_text()
    file.write_text(
        text.replace(
            '  resource in App::"main/argocd/shop"\n)\nunless { context.strict };',
            '  resource in App::"main/argocd/shop"\n);',
        )
    )
    assert file.read_text() != text


def hide(text: str) -> str:
    """Without what differs from run to run: times, digests, and where the shipped policies lie."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "(time)", text)
    text = re.sub(r"\S*/policies/always", "…/policies/always", text)
    text = re.sub(r"\d+ questions, \d+ decided", "(number) questions, (number) decided", text)
    return re.sub(r"\b[0-9a-f]{12}\b", "(digest)", text)


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    for name in ("policy-example", "policy-careless"):
        shutil.copytree(DOCS / "policy-example", tmp_path / name)
    careless(tmp_path / "policy-careless")
    await write_week(tmp_path / "arborgate-record", tmp_path / "policy-example")
    monkeypatch.chdir(tmp_path)
    return lambda command: CliRunner().invoke(cli_policy.commands, command.replace("\\\n", " ").split())


@pytest.mark.parametrize(("command", "shown"), SHOWN)
async def test_what_is_shown_is_what_is_printed(run: Callable[[str], Result], command: str, shown: str) -> None:
    assert hide(run(command).stdout) == hide(shown)


def test_both_commands_are_shown() -> None:
    assert [command.split()[0] for command, _ in SHOWN] == ["explain", "diff"]


def test_every_field_of_a_record_is_named() -> None:
    lines = TEXT.partition("\n## ")[0]  # before the tables of what a record becomes elsewhere
    named = {name for row in re.findall(r"^\| (`.*?) \|", lines, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    written = {each.name for each in fields(Record)} - {"question", "surroundings"}

    assert {each.name for each in fields(Entry)} - {"question", "surroundings"} < written
    assert named == written
