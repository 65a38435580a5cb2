"""What `app_get` tells of promotions: what runs in the other environments, and who approved what came from below."""

from pathlib import Path
from typing import Any

import pytest

from arborgate.tools.promotion.labels import FROM, PROPOSAL, REVISION
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.tree import App, Health
from tests.tools.test_proposal_tools import make_approval, make_proposal
from tests.tools.world import ADA, World, make_app

pytestmark = pytest.mark.anyio

LABELS = {FROM: "staging", PROPOSAL: "p1", REVISION: "3f2c1ab"}
STAGING = make_app("web-staging", environment="staging")
PRODUCTION = make_app("web", env="prod", environment="production", labels=LABELS)


def world_of(folder: Path, *apps: App) -> World:
    world = World(folder, *apps)
    world.ladder = PromotionSettings(path=("staging", "production"))
    return world


async def ask(world: World, app: str) -> dict[str, Any]:
    return await world.ask("app_get", app=app)


async def test_an_app_tells_what_it_is_elsewhere_and_whether_that_runs_the_same(tmp_path: Path) -> None:
    ahead = make_app("api-staging", environment="staging", revision="999", health=Health.DEGRADED)
    world = world_of(tmp_path, STAGING, PRODUCTION, ahead, make_app("api", env="prod", environment="production"))
    (same,) = (await ask(world, "web"))["elsewhere"]
    assert same == {
        "environment": "staging",
        "app": "main/argocd/web-staging",
        "revision": "3f2c1ab",
        "health": "Healthy",
        "same": True,
    }
    (other,) = (await ask(world, "api"))["elsewhere"]
    assert (other["revision"], other["health"], other["same"]) == ("999", "Degraded", False)


async def test_what_the_caller_may_not_see_is_nowhere_else(tmp_path: Path) -> None:
    hidden = make_app("web-staging", environment="staging", hidden=True)
    assert (await ask(world_of(tmp_path, hidden, PRODUCTION), "web"))["elsewhere"] == []


async def test_without_a_path_nothing_is_elsewhere(tmp_path: Path) -> None:
    world = World(tmp_path, STAGING, PRODUCTION)
    assert (await ask(world, "web"))["elsewhere"] == []


async def test_a_promoted_app_tells_by_which_proposal_and_who_approved_it(tmp_path: Path) -> None:
    world = world_of(tmp_path, STAGING, PRODUCTION)
    world.proposals.kept.append(make_proposal(1, "web", approvals=(make_approval("p1", "fine"),)))
    told = (await ask(world, "web"))["promoted"]
    assert told.startswith("from staging: 3f2c1ab, by proposal p1 (")
    assert told.endswith("approved by Bob")


async def test_a_proposal_that_the_caller_may_not_read_is_not_told(tmp_path: Path) -> None:
    vault = make_app("vault", env="prod", environment="production", labels=LABELS)
    world = world_of(tmp_path, vault)
    world.proposals.kept.append(make_proposal(1, "vault", approvals=(make_approval("p1", "fine"),)))
    assert (await ask(world, "vault"))["promoted"] == "from staging: 3f2c1ab"


async def test_a_label_that_names_a_proposal_of_another_app_tells_nothing_of_it(tmp_path: Path) -> None:
    world = world_of(tmp_path, STAGING, PRODUCTION, make_app("api"))
    world.proposals.kept.append(make_proposal(1, "api", approvals=(make_approval("p1", "fine"),)))
    assert (await ask(world, "web"))["promoted"] == "from staging: 3f2c1ab"


async def test_a_proposal_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert (await ask(world_of(tmp_path, PRODUCTION), "web"))["promoted"] == "from staging: 3f2c1ab"


async def test_an_app_that_was_never_promoted_says_nothing(tmp_path: Path) -> None:
    assert "promoted" not in await ask(world_of(tmp_path, STAGING), "web-staging")


async def test_it_is_told_as_text_too(tmp_path: Path) -> None:
    world = world_of(tmp_path, STAGING, PRODUCTION)
    answer = await world.call("app_get", ADA, app="web")
    assert "Promoted: «from staging: 3f2c1ab" in answer.text
    assert "staging: main/argocd/web-staging Healthy at 3f2c1ab: the same" in answer.text
