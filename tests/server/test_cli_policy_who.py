"""`arborgate policy who-can` and `what-can`: what they print, for people and for programs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from arborgate.policies.model import Action
from arborgate.server.cli_policy import commands
from tests.policies.writing import change, copy_shipped

SCENE = """\
world:
  environments: {prod: {strict: true}, dev: {}}
  apps:
    main/argocd/shop: {environment: prod}
    main/argocd/api: {environment: prod, parent: main/argocd/shop}
    main/argocd/toys: {environment: dev}
  keyspaces:
    "main:api:": {app: main/argocd/api}
    "main:toys:": {app: main/argocd/toys}
people:
  dana: {groups: [devs]}
  lea: {groups: [shop-leads]}
  otto: {}
"""

SETTINGS = "roles: {developer: [devs], approver: [leads, {group: shop-leads, at: main/argocd/shop}]}\n"

OWN = """\
@id("devs")
permit (principal in Role::"developer", action == Action::"redis:read_value", resource)
unless { context.strict };

@id("leads")
permit (principal in Role::"approver", action == Action::"redis:read_value", resource);

@id("no-strangers")
forbid (principal, action == Action::"redis:read_value", resource)
when { context.strict && context.agent == "stranger" };

@id("no-lists")
permit (principal, action == Action::"redis:list", resource)
when { context.bound };

@id("never")
forbid (principal, action == Action::"redis:list", resource);
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Own policies alone decide on Redis; the files that the commands take are beside them."""
    folder = copy_shipped(tmp_path / "set")
    for file in folder.glob("*.cedar"):
        file.unlink()
    for file in folder.glob("cases/*"):
        file.unlink()
    (folder / "own.cedar").write_text(OWN)
    (tmp_path / "scene.yaml").write_text(SCENE)
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


def who_can(folder: Path, *arguments: str | Path) -> Result:
    scene, settings = folder.parent / "scene.yaml", folder.parent / "settings.yaml"
    given = ("--policies", folder, "--world", scene, "--config", settings)
    return run("who-can", "redis:read_value", *arguments, *given)


def test_who_can_tells_each_way_with_what_it_takes_who_has_the_role_and_which_people(folder: Path) -> None:
    result = who_can(folder, "Keyspace::main:api:")

    place = "Keyspace::main:api: in App::main/argocd/api in App::main/argocd/shop in Environment::prod"
    always = next(line for line in result.stdout.splitlines() if "always.cedar" in line)
    assert result.stderr == ""
    assert always.startswith('  && context.trust != "forbidden"  else forbidden-agents-do-nothing forbids  ')
    assert (
        result.stdout.replace(f"{always}\n", "")
        == f"""\
what     redis:read_value (read_sensitive)
of       {place} in Installation::arborgate
answer   in 1 way

  principal in Role::"approver"    leads permits  {folder}/own.cedar:5:1
    role approver: group leads; group shop-leads at App::main/argocd/shop
  && context.agent != "stranger"   else no-strangers forbids  {folder}/own.cedar:8:1

dana  may not, by nothing
lea   may, by leads
otto  may not, by nothing
"""
    )


def test_who_can_finds_a_role_at_an_app_only_below_it(folder: Path) -> None:
    result = who_can(folder, "Keyspace::main:toys:")

    assert "role developer: group devs\n" in result.stdout
    assert "role approver: group leads\n" in result.stdout
    assert "dana  may, by devs\n" in result.stdout


def test_who_can_tells_what_is_forbidden_to_all(folder: Path) -> None:
    result = run("who-can", "redis:list", "--policies", folder)

    assert "answer   nobody\n\n  no-lists: always forbidden by never\n" in result.stdout


def test_who_can_describes_a_resource_by_options(folder: Path) -> None:
    asked = ("who-can", "redis:read_value", "Keyspace::main:x:", "--app", "a/b/c", "--policies", folder)

    assert "answer   in 2 ways" in run(*asked, "--environment", "dev").stdout
    assert "answer   in 1 way\n" in run(*asked, "--environment", "prod", "--strict").stdout


def test_who_can_refuses_a_resource_that_the_world_does_not_have(folder: Path) -> None:
    assert who_can(folder, "Keyspace::main:none:").exit_code == 2


def test_who_can_tells_a_program_the_same(folder: Path) -> None:
    told = json.loads(who_can(folder, "Keyspace::main:api:", "--format", "json").stdout)

    assert (told["action"], told["resource"], told["always"]) == ("redis:read_value", "Keyspace::main:api:", False)
    (way,) = told["ways"]
    assert (way["policy"], way["at"], way["roles"]) == ("leads", f"{folder}/own.cedar:5:1", ["approver"])
    assert way["holders"] == ["role approver: group leads; group shop-leads at App::main/argocd/shop"]
    assert way["condition"].startswith('(principal in Role::"approver") && ')
    assert '(context.agent != "stranger")' in way["condition"]
    assert told["people"][1] == {"name": "lea", "allowed": True, "by": "leads"}


def what_can(folder: Path, *arguments: str | Path) -> Result:
    return run("what-can", *arguments, "--policies", folder, "--config", folder.parent / "settings.yaml")


def test_what_can_tells_where_and_under_which_condition(folder: Path) -> None:
    result = what_can(folder, "dana", "--group", "devs", "--group", "shop-leads")

    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("redis:read_value"))
    assert lines[:3] == [
        "who      https://issuer.example#dana",
        "roles    developer, approver at App::main/argocd/shop",
        "through  mcp, copilot",
    ]
    assert lines[at : at + 3] == [
        "redis:read_value      where  (Keyspace)",
        f"                        !context.strict  devs permits  {folder}/own.cedar:1:1",
        f'                        resource in App::"main/argocd/shop"  leads permits  {folder}/own.cedar:5:1',
    ]
    assert "rollout:propose       nowhere  (App, Workload)\n" in result.stdout


def test_what_can_takes_a_person_from_a_file_and_lists_what_they_reach_in_its_world(folder: Path) -> None:
    result = what_can(folder, "lea", "--world", folder.parent / "scene.yaml")

    assert "roles    none, approver at App::main/argocd/shop\n" in result.stdout
    assert "in this world: Keyspace::main:api:\n" in result.stdout


def test_what_can_has_an_answer_for_every_action(folder: Path) -> None:
    told = json.loads(what_can(folder, "dana", "--role", "developer", "--format", "json").stdout)

    assert {answer["action"] for answer in told["answers"]} == set(Action)
    (read,) = (answer for answer in told["answers"] if answer["action"] == "redis:read_value")
    assert (read["type"], read["always"], read["condition"]) == ("Keyspace", False, "!context.strict")


def test_what_can_counts_a_login_only_when_it_is_given(folder: Path) -> None:
    change(
        folder / "own.cedar",
        lambda text: (
            text + '@id("fresh") permit (principal, action == Action::"rollout:propose", resource is App)'
            " when { context.login_age < 60 };"
        ),
    )

    assert "context.login_age <= 59  fresh permits" in what_can(folder, "dana").stdout
    assert "rollout:propose       everywhere, by fresh  (App)" in what_can(folder, "dana", "--login-age", "59").stdout
    assert "rollout:propose       nowhere  (App, Workload)" in what_can(folder, "dana", "--login-age", "60").stdout


def test_a_file_with_a_mistake_is_refused_with_its_place(folder: Path) -> None:
    (folder.parent / "scene.yaml").write_text("people: {dana: {rolls: [x]}}\n")

    result = who_can(folder, "Keyspace::main:api:")

    assert result.exit_code == 1
    assert f"{folder.parent}/scene.yaml:1:17: people.dana.rolls: unknown field; did you mean 'roles'?" in result.stderr
