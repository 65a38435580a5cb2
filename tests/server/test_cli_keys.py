"""Keys for approvals: made once, readable by their owner alone, never replaced."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from arborgate.policies.errors import BadConfiguration
from arborgate.server.approvals import load_signing_key, load_verify_key
from arborgate.server.cli_keys import PRIVATE, PUBLIC, commands
from arborgate.server.settings import read_settings

DEPLOY = Path(__file__).parent.parent.parent / "deploy"


def test_a_new_pair_is_one_that_serve_signs_with_and_the_applier_checks_with(tmp_path: Path) -> None:
    made = CliRunner().invoke(commands, ["new", str(tmp_path / "keys")])
    assert made.exit_code == 0, made.output
    private, public = tmp_path / "keys" / PRIVATE, tmp_path / "keys" / PUBLIC
    assert private.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(private).thumbprint() == load_verify_key(public).thumbprint()
    assert private.read_text().strip() not in made.output


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / PRIVATE).write_text("precious")
    refused = CliRunner().invoke(commands, ["new", str(tmp_path)])
    assert isinstance(refused.exception, BadConfiguration)
    assert (tmp_path / PRIVATE).read_text() == "precious"
    assert not (tmp_path / PUBLIC).exists()


@pytest.mark.parametrize("name", ["serve.yaml", "applier.yaml"])
def test_the_settings_to_begin_with_are_settings(name: str) -> None:
    assert read_settings(DEPLOY / name).environments[0].strict


def test_the_applier_to_begin_with_believes_its_own_list_of_approvers() -> None:
    applier = read_settings(DEPLOY / "applier.yaml").applier
    assert applier.approvers_file is not None
    assert [one.name for one in applier.git.repositories] == ["deployments"]
