"""The shipped policies: what they hold, that each of them matters, and that the schema speaks the program's words."""

import json

import cedarpy
import pytest

from arborgate.policies.casebook import NOW
from arborgate.policies.coverage import find_survivors
from arborgate.policies.engine import Engine
from arborgate.policies.loader import SCHEMA, load_policies, read_folder
from arborgate.policies.model import Action, ActionGroup, Channel, ResourceType
from arborgate.policies.world import App, World
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.tree import app_resource
from tests.policies.writing import (
    TRUSTING,
    app,
    environment,
    keyspace,
    person,
    proposal,
    shipped_ids,
)
from tests.tools.tree.world import draw


def test_the_shipped_policies_load_and_all_their_cases_hold() -> None:
    loaded = load_policies(None)

    assert set(loaded.locations) == set(shipped_ids())
    assert len(loaded.digest) == 64


def test_every_shipped_policy_and_every_part_of_it_is_one_that_a_case_would_miss() -> None:
    folder = read_folder(None)
    survivors = find_survivors(folder.statements, folder.cases)

    assert [survivor.passage.tell(survivor.problem) for survivor in survivors] == []


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
    engine = Engine(load_policies(None), surroundings=TRUSTING)
    dana = person("dana", "developer")

    def may_read_values(name: str) -> bool:
        return engine.decide(dana, Action.REDIS_READ_VALUE, keyspace(app("shop", environments.resource(name)))).allowed

    assert [may_read_values(name) for name in ("prod", "dev", "unassigned")] == [False, True, False]


@pytest.mark.parametrize(
    "channel", [channel for channel in Channel if channel not in (Channel.PAGES, Channel.TERMINAL)]
)
@pytest.mark.parametrize("action", [action for action in Action if action.group is ActionGroup.APPROVE])
def test_no_agent_approves_with_whatever_roles(channel: Channel, action: Action) -> None:
    every_role = ("viewer", "developer", "approver", "auditor", "applier", "parent")
    caller = person("amy", *every_role, channel=channel)
    asked = proposal(app("shop", environment("dev", strict=False)), person("dana"))

    decision = Engine(load_policies(None), surroundings=TRUSTING).decide(caller, action, asked, at=NOW)

    assert not decision.allowed
    assert {"only-people-decide", "only-parents-decide-within"} & {*decision.policies}
