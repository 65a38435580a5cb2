"""Promotions at the applier: applied as they are approved, and refused where what they say never ran below."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from arborgate.tools.argocd.changes import make_sync
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.change import Change, merge
from arborgate.tools.diff import list_fields
from arborgate.tools.git.settings import GitRepository, GitSettings
from arborgate.tools.plan import make_precondition, write_title
from arborgate.tools.promotion.carrying import Move
from arborgate.tools.promotion.labels import FROM, PROPOSAL, REVISION
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.promotion.plan import plan_promotion
from arborgate.tools.promotion.retelling import write_promotion_title
from arborgate.tools.proposal import Draft, Proposal
from arborgate.tools.risk import Risk, find_factors
from tests.server.applier.cluster import make_app, make_deployment
from tests.server.applier.world import CLUSTER, DEV, World

pytestmark = pytest.mark.anyio

PATH = ("staging", "production")
RAN = "c" * 40
BEFORE = "d" * 40


@pytest.fixture
async def world(redis_world: Callable[..., World]) -> World:
    """The database in staging, one release ahead of production."""
    world = redis_world()
    world.settings = world.settings.model_copy(
        update={"promotion": PromotionSettings(path=PATH, shared_parameters=("feature.*",))}
    )
    world.cluster.add(make_app("db-staging", wave=0, environment="staging"))
    world.cluster.add(make_deployment("db-staging"))
    source = {"targetRevision": "1.1.0", "path": "db"}
    world.cluster.edit("Application", "db-staging", {"spec": {"source": source}})
    source = world.cluster.get("Application", "db-staging")["spec"]["source"]
    history = [
        {
            "id": 1,
            "revision": BEFORE,
            "source": {**source, "targetRevision": "1.0.9"},
            "deployedAt": "2026-11-01T08:00:00Z",
        },
        {"id": 2, "revision": RAN, "source": source, "deployedAt": "2026-11-02T08:00:00Z"},
    ]
    sync = {"revision": RAN, "comparedTo": {"source": source}}
    world.cluster.edit("Application", "db-staging", {"status": {"sync": sync, "history": history}})
    world.cluster.edit("Application", "db", {"spec": {"source": {"targetRevision": "1.0.0"}}})
    for name in ("db", "db-staging"):
        world.relist(name)
    world.worker = world.make_worker()
    return world


Beside = Callable[[list[Change]], list[Change]]


async def propose(
    world: World, lie: Callable[[Change], Change] = lambda change: change, beside: Beside = lambda changes: changes
) -> Proposal:
    """The promotion of the database, in which a stolen server puts a lie, rehearsed."""
    parser = AppParser(CLUSTER, world.environments, {})
    live = [world.cluster.get("Application", name) for name in ("db-staging", "db")]
    origin, target = map(parser.parse, live)
    identity = world.book.new_id()
    move = Move(origin, target, world.settings.promotion)
    first, *more = [plan.change for plan in plan_promotion(world.node("db"), move, *live, proposal=identity)]
    told = lie(first)
    watched = make_precondition(live[1], {*told.precondition.fields, *list_fields(told.patch)})
    changes = (told.model_copy(update={"precondition": watched}), *beside(more))
    draft = Draft(
        id=identity,
        title=write_promotion_title(changes) or write_title(changes),
        reason="It ran well for a day.",
        changes=changes,
        environments=("production",),
        risk=Risk.HIGH,
        factors=find_factors(changes, world.tree, world.environments),
    )
    drafted = await world.book.draft(DEV, draft)
    await world.worker.advance(drafted.id)
    return await world.book.get(drafted.id)


async def test_a_promotion_is_applied_and_the_app_says_where_it_came_from(world: World) -> None:
    proposal = await propose(world)
    assert (proposal.state, proposal.state_note) == ("proposed", "")
    assert proposal.content.title == "Promote db from staging to production"
    await world.book.decide(world.vote(proposal))
    await world.worker.advance(proposal.id)

    ended = await world.book.get(proposal.id)
    assert (ended.state, ended.state_note) == ("applied", "")
    app = world.cluster.get("Application", "db")
    assert app["spec"]["source"]["targetRevision"] == "1.1.0"
    assert app["status"]["operationState"]["operation"]["sync"]["revision"] == RAN
    labels = {name: value for name, value in app["metadata"]["labels"].items() if name != "env"}
    assert labels == {FROM: "staging", PROPOSAL: proposal.id, REVISION: RAN}


async def test_what_commits_alone_may_change_is_not_changed_live(world: World) -> None:
    repository = GitRepository(name="shop", url="https://git.example.org/shop.git")
    for always, state in (("production", "refused"), ("db", "refused"), ("staging", "proposed")):
        settings = GitSettings(repositories=(repository,), always=(always,))
        world.settings = world.settings.model_copy(update={"git": settings})
        world.worker = world.make_worker()
        proposal = await propose(world)
        assert proposal.state == state, always
        assert ("commits alone" in proposal.state_note) == (state == "refused")


async def test_what_was_promoted_may_have_moved_on_below_as_long_as_it_ran_there(world: World) -> None:
    proposal = await propose(world)
    await world.book.decide(world.vote(proposal))
    app = world.cluster.get("Application", "db-staging")
    source = {**app["spec"]["source"], "targetRevision": "1.2.0"}
    history = [
        *app["status"]["history"],
        {"id": 3, "revision": "e" * 40, "source": source, "deployedAt": "2026-11-03T08:00:00Z"},
    ]
    world.cluster.edit("Application", "db-staging", {"spec": {"source": source}, "status": {"history": history}})
    world.cluster.edit("Application", "db-staging", {"status": {"sync": {"revision": "e" * 40}}})
    world.relist("db-staging")
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_what_fails_below_by_then_is_not_promoted(world: World) -> None:
    proposal = await propose(world)
    await world.book.decide(world.vote(proposal))
    world.cluster.edit("Application", "db-staging", {"status": {"health": {"status": "Degraded"}}})
    world.relist("db-staging")
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert ended.state in ("rejected", "rolled_back")
    assert "what does not run well is not promoted" in ended.state_note
    assert not world.cluster.patched


async def test_a_promotion_that_fails_takes_its_labels_back(world: World) -> None:
    before = world.cluster.get("Application", "db")["metadata"]["labels"]
    proposal = await propose(world)
    await world.book.decide(world.vote(proposal))
    world.cluster.breaks.add("db")
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert ended.state in ("rolled_back", "failed")
    if ended.state == "rolled_back":
        assert world.cluster.get("Application", "db")["metadata"]["labels"] == before


def write(change: Change, patch: Mapping[str, Any], carried: tuple[str, ...]) -> Change:
    """The change with more in its patch, told in its words as a stolen server would."""
    promotion = change.promotion
    assert promotion is not None
    return change.model_copy(
        update={"patch": merge(change.patch, patch), "promotion": promotion.model_copy(update={"carried": carried})}
    )


def tell(change: Change, **told: str) -> Change:
    promotion = change.promotion
    assert promotion is not None
    return change.model_copy(update={"promotion": promotion.model_copy(update=told)})


LIES: dict[str, tuple[Callable[[Change], Change], str]] = {
    "a revision that never ran there": (
        lambda change: write(change, {"spec": {"source": {"targetRevision": "6.6.6"}}}, ("revision 6.6.6",)),
        "brings its revision as it never was",
    ),
    "an image that never ran there": (
        lambda change: write(
            change,
            {"spec": {"source": {"kustomize": {"images": ["db=evil.example/db:1"]}}}},
            ("revision 1.1.0", "image evil.example/db:1"),
        ),
        "brings an image as it never was",
    ),
    "a parameter that never had this value": (
        lambda change: write(
            change,
            {"spec": {"source": {"helm": {"parameters": [{"name": "feature.x", "value": "on"}]}}}},
            ("revision 1.1.0", "feature.x"),
        ),
        "brings feature.x as it never was",
    ),
    "a parameter whose name sets another one": (
        lambda change: write(
            change,
            {"spec": {"source": {"helm": {"parameters": [{"name": "x=1,pod.privileged", "value": "true"}]}}}},
            ("revision 1.1.0",),
        ),
        "writes more than it carries",
    ),
    "a list of containers among the values": (
        lambda change: write(
            change,
            {"spec": {"source": {"helm": {"valuesObject": {"extraContainers": [{"image": "evil.example/db:1"}]}}}}},
            ("revision 1.1.0",),
        ),
        "writes more than it carries",
    ),
    "another path of the repository": (
        lambda change: write(change, {"spec": {"source": {"path": "other"}}}, ("revision 1.1.0",)),
        "writes /spec/source/path",
    ),
    "a label of its own": (
        lambda change: write(change, {"metadata": {"labels": {"team": "mine"}}}, ("revision 1.1.0",)),
        "writes /metadata/labels/team",
    ),
    "the label of another proposal": (
        lambda change: write(change, {"metadata": {"labels": {PROPOSAL: "p-other"}}}, ("revision 1.1.0",)),
        "labels",
    ),
    "a revision that it is said to have run": (
        lambda change: tell(change, revision="f" * 40),
        "something else than what is promoted",
    ),
    "a time since when": (lambda change: tell(change, since="2020-01-01T00:00:00Z"), "has not run it since"),
    "another app below": (lambda change: tell(change, app=f"{CLUSTER}/argocd/api"), "does not go from one environment"),
    "an app that is not there": (lambda change: tell(change, app=f"{CLUSTER}/argocd/gone"), "not there"),
    "an environment below": (lambda change: tell(change, origin="dev"), "does not go from one environment"),
    "no origin at all": (lambda change: change.model_copy(update={"promotion": None}), "does not say what it promotes"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_stolen_server_can_not_lie_about_what_is_promoted(world: World, lie: str) -> None:
    change, why = LIES[lie]
    proposal = await propose(world, change)
    assert proposal.state == "refused"
    assert why in proposal.state_note
    assert not world.cluster.patched


async def test_nothing_else_hides_behind_the_title_of_a_promotion(world: World) -> None:
    proposal = await propose(world, beside=lambda changes: [*changes, world.scale("api", 5)])
    assert (proposal.state, "It is called a promotion" in proposal.state_note) == ("refused", True)


async def test_a_promotion_is_synced_to_nothing_else_than_what_is_promoted(world: World) -> None:
    live = world.cluster.get("Application", "db")

    def sync_to_another(changes: list[Change]) -> list[Change]:
        (sync,) = changes
        other = make_sync(
            world.node("db").app, merge(live, {"spec": {"source": {"targetRevision": "1.1.0"}}}), ["e" * 40]
        )
        return [other.model_copy(update={"precondition": sync.precondition})]

    proposal = await propose(world, beside=sync_to_another)
    assert (proposal.state, "synced to something else" in proposal.state_note) == ("refused", True)


async def test_an_image_that_ran_below_is_not_put_in_the_place_of_another(world: World) -> None:
    images = {"kustomize": {"images": ["registry.example/db:1.1.0"]}}
    world.cluster.edit("Application", "db-staging", {"spec": {"source": images}})
    world.relist("db-staging")
    moved = {"spec": {"source": {"kustomize": {"images": ["side=registry.example/db:1.1.0"]}}}}
    told = ("revision 1.1.0", "image registry.example/db:1.1.0")
    proposal = await propose(world, lambda change: write(change, moved, told))
    assert "brings an image as it never was" in proposal.state_note


async def test_an_app_in_staging_that_is_another_component_is_no_origin(world: World) -> None:
    world.cluster.add(make_app("cache-staging", wave=0, environment="staging"))
    world.relist("cache-staging")
    proposal = await propose(world, lambda change: tell(change, app=f"{CLUSTER}/argocd/cache-staging"))
    assert "are not the same in two environments" in proposal.state_note


async def test_a_path_of_environments_is_the_appliers_own(world: World) -> None:
    proposal = await propose(world)
    await world.book.decide(world.vote(proposal))
    world.settings = world.settings.model_copy(update={"promotion": PromotionSettings()})
    world.worker = world.make_worker()
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert ended.state == "rejected"
    assert "does not go from one environment to the next" in ended.state_note
    assert not world.cluster.patched
