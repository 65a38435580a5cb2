"""The tools `app_list` and `app_tree`: what they find, in which order, in which pages, and for whom."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from arborgate.policies.errors import Reason
from arborgate.tools.tree import Health, Sync
from tests.tools.world import ADA, AUDITOR, World, make_app, make_caller, make_condition, names

pytestmark = pytest.mark.anyio


def make_many(count: int, **fields: Any) -> list[Any]:
    return [make_app(f"app-{number:03}", **fields) for number in range(count)]


async def test_the_list_begins_with_the_worst_and_counts_all_that_pass(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        make_app("fine"),
        make_app("drifted", sync=Sync.OUT_OF_SYNC),
        make_app("broken", health=Health.DEGRADED, health_message="CrashLoopBackOff in api-0"),
        make_app("broken-in-production", env="prod", health=Health.DEGRADED),
    )
    answer = await world.ask("app_list")
    assert names(answer["apps"]) == ["broken-in-production", "broken", "drifted", "fine"]
    assert (answer["total"], answer["health"]) == (4, {"Degraded": 2, "Healthy": 2})
    assert answer["apps"][1]["message"] == "CrashLoopBackOff in api-0"
    assert answer["fresh"] == [{"cluster": "main", "version": "4711", "age_seconds": 1.5, "stale": False}]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"environment": "production"}, ["api"]),
        ({"project": "billing"}, ["bill"]),
        ({"health": "Missing"}, ["web"]),
        ({"sync": "OutOfSync"}, ["web"]),
        ({"label": "team=core"}, ["bill"]),
        ({"text": "I"}, ["api", "bill"]),
        ({"text": "i", "environment": "staging"}, ["bill"]),
        ({"text": "nothing-like-it"}, []),
    ],
)
async def test_every_filter_narrows_the_list(tmp_path: Path, filters: dict[str, str], found: list[str]) -> None:
    world = World(
        tmp_path,
        make_app("api", env="prod"),
        make_app("bill", project="billing", labels={"team": "core"}),
        make_app("web", health=Health.MISSING, sync=Sync.OUT_OF_SYNC),
    )
    answer = await world.ask("app_list", ADA, **filters)
    assert names(answer["apps"]) == found
    assert answer["total"] == len(found)


async def test_hidden_apps_are_neither_listed_nor_counted(tmp_path: Path) -> None:
    world = World(tmp_path, make_app("api"), make_app("vault", hidden=True, health=Health.DEGRADED))
    answer = await world.ask("app_list")
    assert (answer["total"], names(answer["apps"]), answer["health"]) == (1, ["api"], {"Healthy": 1})
    assert names((await world.ask("app_list", AUDITOR))["apps"]) == ["vault", "api"]
    assert (await world.ask("app_list", text="vault"))["total"] == 0


async def test_a_row_names_the_deepest_failing_app_below_it_that_the_caller_may_see(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        make_app("root"),
        make_app("shop", parent="root"),
        make_app("api", parent="shop", health=Health.DEGRADED),
        make_app("vault", parent="api", hidden=True, health=Health.DEGRADED),
    )
    rows = {row["app"]: row for row in (await world.ask("app_list"))["apps"]}
    assert rows["main/argocd/root"]["failing_below"] == "main/argocd/api"
    assert "failing_below" not in rows["main/argocd/api"]
    assert "vault" not in str(await world.call("app_list"))
    rows = {row["app"]: row for row in (await world.ask("app_list", AUDITOR))["apps"]}
    assert rows["main/argocd/root"]["failing_below"] == "main/argocd/vault"


async def test_a_message_that_names_a_hidden_app_below_is_left_out(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        make_app("root", conditions=(make_condition("waiting for argoproj.io/Application/vault"),)),
        make_app("vault", parent="root", hidden=True),
    )
    assert "message" not in (await world.ask("app_list"))["apps"][0]
    assert "vault" in (await world.ask("app_list", AUDITOR))["apps"][0]["message"]


async def test_pages_show_every_app_once(tmp_path: Path) -> None:
    apps = [
        *make_many(15),
        *(make_app(f"live-{n}", env="prod") for n in range(12)),
        *(make_app(f"bad-{n}", health=Health.DEGRADED, env="prod") for n in range(3)),
    ]
    world = World(tmp_path, *apps)
    expected = [node.app.id.name for node in world.tree.nodes()]
    seen: list[str] = []
    answer = await world.ask("app_list", limit=7)
    seen += names(answer["apps"])
    while "cursor" in answer:
        answer = await world.ask("app_list", limit=7, cursor=answer["cursor"])
        seen += names(answer["apps"])
    assert seen == expected


async def test_a_page_goes_on_where_it_ended_when_apps_before_it_recover(tmp_path: Path) -> None:
    world = World(tmp_path, *make_many(4, health=Health.DEGRADED))
    first = await world.ask("app_list", limit=2)
    world.tree.put(make_app("app-000"))
    second = await world.ask("app_list", limit=2, cursor=first["cursor"])
    assert names(first["apps"]) == ["app-000", "app-001"]
    assert names(second["apps"]) == ["app-002", "app-003"]


async def test_a_page_of_twenty_is_at_most_8_kilobytes(tmp_path: Path) -> None:
    parents = [make_app(f"a-rather-long-name-of-a-parent-app-{n:02}", health=Health.DEGRADED) for n in range(30)]
    for n in range(30):
        parents.append(
            make_app(
                f"a-rather-long-name-of-a-child-app-{n:02}",
                parent=parents[n].id.name,
                health=Health.DEGRADED,
                health_message="Deployment exceeded its progress deadline. " * 20,
            )
        )
    world = World(tmp_path, *parents)
    answer = await world.ask("app_list")
    assert len(orjson.dumps(answer)) <= 8 * 1024
    assert len(answer["apps"]) >= 15
    usual = World(tmp_path, *make_many(60))
    answer = await usual.ask("app_list")
    assert len(answer["apps"]) == 20
    assert len(orjson.dumps(answer)) <= 4 * 1024


async def test_a_cursor_of_another_caller_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, *make_many(5))
    cursor = (await world.ask("app_list", limit=2))["cursor"]
    error = await world.fail("app_list", make_caller("bob", "developer"), limit=2, cursor=cursor)
    assert (error.reason, error.field) == (Reason.INVALID, "cursor")


async def test_a_cursor_with_other_filters_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, *make_many(5))
    cursor = (await world.ask("app_list", limit=2))["cursor"]
    error = await world.fail("app_list", limit=2, cursor=cursor, project="shop")
    assert (error.reason, error.field) == (Reason.INVALID, "cursor")
    assert len((await world.ask("app_list", limit=3, cursor=cursor))["apps"]) == 3


async def test_a_broken_cursor_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, *make_many(5))
    error = await world.fail("app_list", cursor="no-cursor-at-all")
    assert (error.reason, error.field) == (Reason.INVALID, "cursor")


async def test_an_unknown_environment_is_answered_with_those_that_the_caller_sees(tmp_path: Path) -> None:
    world = World(tmp_path, make_app("api"), make_app("vault", env="prod", hidden=True))
    error = await world.fail("app_list", environment="prod")
    assert (error.reason, error.field, error.hint) == (Reason.INVALID, "environment", "Give one of: staging.")
    # A hidden app's environment is no more than a wrong word.
    assert (await world.fail("app_list", environment="production")).hint == error.hint


async def test_a_label_without_a_value_is_refused(tmp_path: Path) -> None:
    error = await World(tmp_path, make_app("api")).fail("app_list", label="team")
    assert (error.reason, error.field) == (Reason.INVALID, "label")


async def test_an_old_view_of_a_cluster_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, make_app("api"), stale=True)
    for tool in ("app_list", "app_tree"):
        assert "STALE" in (await world.call(tool)).text
    for tool in ("app_get", "app_diagnose"):
        assert "STALE" in (await world.call(tool, app="api")).text
    assert (await world.ask("app_list"))["fresh"][0]["stale"] is True


async def test_the_tree_shows_parents_before_children_down_to_its_depth(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        make_app("root"),
        make_app("shop", parent="root"),
        make_app("api", parent="shop"),
        make_app("db", parent="api", health=Health.DEGRADED),
        make_app("alone"),
    )
    rows = (await world.ask("app_tree"))["rows"]
    assert [(row["depth"], name) for row, name in zip(rows, names(rows), strict=True)] == [
        (0, "alone"),
        (0, "root"),
        (1, "shop"),
        (2, "api"),
    ]
    assert (rows[-1]["folded"], rows[-1]["failing_below"]) == (1, "main/argocd/db")
    rows = (await world.ask("app_tree", root="shop", depth=0))["rows"]
    assert (names(rows), rows[0]["folded"], rows[0]["failing_below"]) == (["shop"], 1, "main/argocd/db")


async def test_only_unhealthy_keeps_what_is_unhealthy_and_what_leads_to_it(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        make_app("root"),
        make_app("web", parent="root"),
        make_app("shop", parent="root"),
        make_app("api", parent="shop", health=Health.PROGRESSING),
        make_app("fine"),
    )
    assert names((await world.ask("app_tree", only_unhealthy=True))["rows"]) == ["root", "shop", "api"]


async def test_the_tree_has_no_hidden_apps_and_no_links_through_them(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        make_app("root"),
        make_app("vault", parent="root", hidden=True, health=Health.DEGRADED),
        make_app("keys", parent="vault", health=Health.DEGRADED),
    )
    rows = (await world.ask("app_tree"))["rows"]
    assert [(row["depth"], name) for row, name in zip(rows, names(rows), strict=True)] == [(0, "keys"), (0, "root")]
    assert names((await world.ask("app_tree", root="root"))["rows"]) == ["root"]
    folded = (await world.ask("app_tree", depth=0))["rows"][1]
    assert "folded" not in folded
    assert "failing_below" not in folded
    rows = (await world.ask("app_tree", AUDITOR))["rows"]
    assert names(rows) == ["root", "vault", "keys"]


async def test_a_hidden_root_looks_like_a_missing_one(tmp_path: Path) -> None:
    world = World(tmp_path, make_app("vault", hidden=True))
    hidden = await world.fail("app_tree", root="vault")
    missing = await world.fail("app_tree", root="nowhere")
    assert hidden.reason is missing.reason is Reason.NOT_THERE
    assert hidden.message.replace("vault", "nowhere") == missing.message
    assert "vault" in world.records.written[0].detail


async def test_a_tree_of_too_many_rows_is_cut_and_says_how_to_go_on(tmp_path: Path) -> None:
    world = World(tmp_path, *make_many(300))
    answer = await world.ask("app_tree")
    assert 100 < len(answer["rows"]) <= 200
    assert "only_unhealthy" in answer["cut"]
    assert len(orjson.dumps(answer)) <= 16_384


async def test_the_text_of_a_list_says_what_the_structure_says(tmp_path: Path) -> None:
    message = "line one\nHealthy  Synced  main/argocd/forged"
    world = World(tmp_path, make_app("api", health=Health.DEGRADED, health_message=message), *make_many(3))
    answer = await world.call("app_list", limit=2)
    lines = answer.text.splitlines()
    assert lines[0] == "4 apps: 1 Degraded, 3 Healthy; worst first."
    assert lines[1].split() == [
        "Degraded", "Synced", "main/argocd/api", "staging", "shop", "«line", "one", "⏎", "Healthy", "Synced",
        "main/argocd/forged»",
    ]  # fmt: skip
    assert answer.structured is not None
    assert f"Next page: cursor {answer.structured['cursor']}" in lines
    assert lines[-1] == "main seen 1.5 s ago at version 4711"
    assert ADA.name not in answer.text
