"""The shipped policies: what they hold, that each of them matters, and that the schema speaks the program's words."""

import json
from pathlib import Path

import cedarpy
import pytest

from arborgate.policies.casebook import NOW
from arborgate.policies.engine import Engine
from arborgate.policies.loader import SCHEMA, check_cases, load_policies, read_policies
from arborgate.policies.model import Action, ActionGroup, Channel, ResourceType
from arborgate.policies.world import App, World
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.tree import app_resource
from tests.policies.writing import app, change, copy_shipped, environment, keyspace, person, proposal, shipped_ids
from tests.tools.tree.world import draw


def test_the_shipped_policies_load_and_all_their_cases_hold() -> None:
    loaded = load_policies(None)

    assert set(loaded.locations) == set(shipped_ids())
    assert len(loaded.digest) == 64


@pytest.mark.parametrize("policy", shipped_ids())
def test_without_any_one_shipped_policy_a_case_is_decided_the_other_way(policy: str, tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    file = folder / Path(load_policies(None).location(policy)[0]).name
    change(file, lambda text: _without(text, policy))

    loaded, cases = read_policies(folder)

    assert policy not in loaded.locations
    assert any(answer.decision.allowed != answer.case.allowed for answer in check_cases(loaded, cases))


def _without(text: str, policy: str) -> str:
    start = text.index(f'@id("{policy}")')
    return text[:start] + text[text.index(";", start) + 1 :]


def test_the_schema_has_the_actions_groups_and_types_of_the_model() -> None:
    schema = cedarpy.Schema.from_str(SCHEMA.read_text())
    entities = json.loads(str(cedarpy.Entities.from_json_str("[]", schema)))
    found = {entity["uid"]["id"]: {parent["id"] for parent in entity["parents"]} for entity in entities}

    assert found == {str(action): {str(action.group)} for action in Action} | {
        str(group): set() for group in ActionGroup
    }
    for kind in ResourceType:
        assert f"entity {kind}" in str(schema)


def test_the_world_of_the_cases_gives_an_app_the_attributes_that_the_tree_gives_it() -> None:
    declared = World(apps={"main/argocd/shop": App()}).resources()["App::main/argocd/shop"]

    made = app_resource(draw("shop", cluster="main", namespace="argocd"), ())

    assert made.id == declared.id
    assert [name for name, _ in made.attributes] == [name for name, _ in declared.attributes]


def test_an_environment_of_the_settings_is_strict_to_the_policies_when_its_rule_is() -> None:
    environments = Environments([EnvironmentRule(name="prod", strict=True), EnvironmentRule(name="dev")])
    engine = Engine(load_policies(None))
    dana = person("dana", "developer")

    def may_read_values(name: str) -> bool:
        return engine.decide(dana, Action.REDIS_READ_VALUE, keyspace(app("shop", environments.resource(name)))).allowed

    assert [may_read_values(name) for name in ("prod", "dev", "unassigned")] == [False, True, False]


@pytest.mark.parametrize(
    "channel", [channel for channel in Channel if channel not in (Channel.PAGES, Channel.TERMINAL)]
)
@pytest.mark.parametrize("action", [action for action in Action if action.group is ActionGroup.APPROVE])
def test_no_agent_approves_with_whatever_roles(channel: Channel, action: Action) -> None:
    every_role = ("viewer", "developer", "approver", "auditor", "applier")
    caller = person("amy", *every_role, channel=channel)
    asked = proposal(app("shop", environment("dev", strict=False)), person("dana"))

    decision = Engine(load_policies(None)).decide(caller, action, asked, at=NOW)

    assert not decision.allowed
    assert "only-people-decide" in decision.policies
