"""Mistakes in policy and case files, with exactly what is told of each: place, problem, what was meant, the text."""

from pathlib import Path

import pytest
import yaml

from arborgate.policies.casebook import read_cases
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.loader import load_policies
from tests.policies.writing import copy_shipped

MISTAKES = yaml.safe_load((Path(__file__).parent / "mistakes.yaml").read_text())

CASES = """\
world:
  environments: {prod: {strict: true}}
  apps:
    main/argocd/shop: {environment: prod}
people:
  dana: {roles: [developer]}
cases:
  - who: dana
    may: app:read
    of: App::main/argocd/shop
    by: x
    why: Because.
"""


@pytest.mark.parametrize("written", MISTAKES["in_policies"], ids=lambda entry: entry["mistake"])
def test_a_mistake_in_a_policy_is_told_with_its_place_and_what_was_meant(
    written: dict[str, str], tmp_path: Path
) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text(written["written"])

    with pytest.raises(BadConfiguration) as caught:
        load_policies(folder)

    assert str(caught.value).replace(f"{folder}/", "") == written["told"]


@pytest.mark.parametrize("written", MISTAKES["in_cases"], ids=lambda entry: entry["mistake"])
def test_a_mistake_in_a_case_file_is_told_with_its_place_and_what_was_meant(written: dict[str, str]) -> None:
    assert written["right"] in CASES
    text = CASES.replace(written["right"], written["wrong"]) if written["right"] else ""

    with pytest.raises(BadConfiguration) as caught:
        read_cases(Path("own.yaml"), text)

    assert str(caught.value) == written["told"]
