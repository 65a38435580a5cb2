"""`arborgate policy`: what it prints, and its exit codes."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from arborgate.server.cli_policy import commands
from tests.policies.writing import change, copy_shipped, line_of, shipped_ids

KEYSPACE = ("--resource", "Keyspace::main:shop:", "--app", "main/argocd/shop")
PROPOSAL = ("--resource", "Proposal::p-1", "--app", "main/argocd/shop")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_shipped(tmp_path / "set")


def test_check_says_how_many_policies_are_in_order(folder: Path) -> None:
    for result in (run("check"), run("check", folder)):
        assert result.exit_code == 0
        assert f"{len(shipped_ids())} policies in order, digest " in result.stdout


def test_check_names_file_and_line_of_a_mistake_and_exits_1(folder: Path) -> None:
    change(folder / "readers.cedar", lambda text: text.replace('"caller:read"', '"caller:raed"'))

    result = run("check", folder)

    assert result.exit_code == 1
    line = line_of(folder / "readers.cedar", "caller:raed")
    assert f'{folder}/readers.cedar:{line}:13: unrecognized action `Action::"caller:raed"`' in result.stderr


def test_test_counts_the_cases_of_each_file(folder: Path) -> None:
    result = run("test", folder)

    assert result.exit_code == 0
    assert re.search(r"^readers.yaml: (\d+) of \1 hold$", result.stdout, re.MULTILINE)


def test_test_shows_the_cases_with_their_reasons_when_asked(folder: Path) -> None:
    result = run("test", folder, "--verbose")

    assert "holds  dana (mcp, copilot) may rollout:propose on App::main/argocd/shop" in result.stdout
    assert "A proposal changes nothing by itself." in result.stdout


def test_test_shows_what_fails_and_exits_1(folder: Path) -> None:
    change(
        folder / "cases/readers.yaml", lambda text: text.replace("may: record:search_all", "may_not: record:search_all")
    )

    result = run("test", folder)

    assert result.exit_code == 1
    held = re.search(r"^readers.yaml: (\d+) of (\d+) hold$", result.stdout, re.MULTILINE)
    assert held is not None
    assert int(held[1]) == int(held[2]) - 1
    assert (
        "may not record:search_all on Installation::arborgate, but allowed by auditors-search-all-records"
        in result.stderr
    )


def test_test_exits_1_when_a_policy_has_no_case(folder: Path) -> None:
    (folder / "own.cedar").write_text('@id("idle") permit (principal in Role::"x", action, resource);')

    result = run("test", folder)

    assert result.exit_code == 1
    assert "no case is decided by the policy 'idle'" in result.stderr


def test_test_names_a_file_that_cannot_be_read_as_policies(folder: Path) -> None:
    (folder / "own.cedar").write_text("permit")

    result = run("test", folder)

    assert result.exit_code == 1
    assert "own.cedar:1:1: not a Cedar policy" in result.stderr


def test_explain_names_the_policies_that_permit_with_file_and_line(folder: Path) -> None:
    result = run(
        "explain", "--policies", folder, "--role", "viewer", "--action", "app:read", "--resource", "App::a/b/c"
    )

    assert result.exit_code == 0
    assert "answer   allowed: permitted by\n" in result.stdout
    assert f"readers-read  {folder}/readers.cedar:5:1\n" in result.stdout


def test_explain_knows_roles_at_an_app_and_who_acts_for_themselves() -> None:
    asked = ("explain", "--action", "rollout:propose", "--resource", "App::main/argocd/api")
    below = ("--parent", "main/argocd/shop", "--role-at", "developer=main/argocd/shop")

    assert "answer   allowed: permitted by" in run(*asked, *below, "--binding", "dpop", "--acr", "key").stdout
    assert "agents-alone-only-look" in run(*asked, *below, "--itself").stdout
    assert run(*asked, "--role-at", "developer").exit_code == 2


def test_explain_names_every_policy_that_forbids(folder: Path) -> None:
    prod = ("--environment", "prod", "--strict")
    amy = ("--person", "amy", "--requester", "amy", "--role", "approver", "--login-age", "3600")

    result = run("explain", "--policies", folder, "--action", "proposal:approve", *PROPOSAL, *prod, *amy)

    assert (
        "of       Proposal::p-1 in App::main/argocd/shop in Environment::prod in Installation::arborgate"
        in result.stdout
    )
    assert "answer   denied: forbidden by\n" in result.stdout
    assert f"risky-approvals-need-a-recent-login  {folder}/boundaries.cedar:" in result.stdout
    for policy in ("nobody-decides-on-their-own", "only-people-decide"):
        assert re.search(rf"{policy}  \S*policies/always\.cedar:", result.stdout)


def test_explain_asks_at_a_moment_with_the_agents_and_the_calendar_of_the_settings(tmp_path: Path) -> None:
    config = tmp_path / "arborgate.yaml"
    config.write_text("{agents: {trusted: [ide]}, calendar: {freezes: [{name: x, from: 12-24, until: 12-26}]}}")
    amy = ("--role", "approver", "--channel", "pages", "--action", "proposal:approve", *PROPOSAL, "--config", config)
    dana = ("--role", "developer", "--action", "rollout:propose", "--resource", "App::a/b/c", "--config", config)

    assert "nothing-changes-in-a-freeze" in run("explain", *amy, "--at", "2026-12-24T12:00:00Z").stdout
    assert "answer   allowed" in run("explain", *amy, "--at", "2026-12-27T12:00:00Z").stdout
    assert "unknown-agents-only-look" in run("explain", *dana).stdout
    assert "answer   allowed" in run("explain", *dana, "--agent", "ide").stdout


@pytest.mark.parametrize(
    ("place", "allowed"),
    [(("--environment", "dev"), True), (("--environment", "prod", "--strict"), False), ((), False)],
)
def test_explain_takes_the_environment_into_account(place: tuple[str, ...], allowed: bool) -> None:
    result = run("explain", "--role", "developer", "--action", "redis:read_value", *KEYSPACE, *place)

    assert ("answer   allowed" in result.stdout) is allowed


def test_explain_takes_parents_labels_groups_and_channel_into_account(tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text(
        '@id("team") permit (principal in Group::"shop", action == Action::"rollout:propose",'
        ' resource is App in App::"main/argocd/shop")'
        ' when { resource.labels.contains("team=shop") && resource.project == "web" && context.channel == "stdio" };'
    )
    (folder / "cases/own.yaml").write_text(
        "world: {apps: {main/argocd/shop: {}, main/argocd/api: "
        "{parent: main/argocd/shop, project: web, labels: {team: shop}}}}\n"
        "people: {sue: {groups: [shop], channel: stdio}}\n"
        "cases: [{who: sue, may: 'rollout:propose', of: 'App::main/argocd/api', by: team, why: it is hers}]\n"
    )
    all_of_it = [
        ("--group", "shop"),
        ("--parent", "main/argocd/shop"),
        ("--label", "team=shop"),
        ("--project", "web"),
        ("--channel", "stdio"),
    ]
    asked = ("explain", "--policies", folder, "--action", "rollout:propose", "--resource", "App::main/argocd/api")

    assert "permitted by" in run(*asked, *(word for option in all_of_it for word in option)).stdout
    for left_out in all_of_it:
        given = [word for option in all_of_it if option != left_out for word in option]
        assert "no policy permits it" in run(*asked, *given).stdout


def test_explain_says_why_deciding_failed() -> None:
    result = run("explain", "--role", "viewer", "--action", "app:read", *PROPOSAL)

    assert "answer   denied: deciding failed, and that is a denial\n" in result.stdout
    assert "is never asked of the resource type `Proposal`" in result.stdout


@pytest.mark.parametrize(
    "resource",
    [
        ("--resource", "Room::1"),
        ("--resource", "App"),
        ("--resource", "App::shop"),
        ("--resource", "Keyspace::main:shop:"),
        ("--resource", "App::a/b/c", "--parent", "a/b/c"),
    ],
)
def test_explain_refuses_a_resource_that_makes_no_sense(resource: tuple[str, ...]) -> None:
    result = run("explain", "--action", "app:read", *resource)

    assert result.exit_code == 2
    assert "Invalid value" in result.stderr
