"""Promotions where a live change would be undone: a commit of what ran below, and of labels that say where."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from arborgate.policies.errors import ArborgateError, Refused
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.change import Change, ChangeKind, merge
from arborgate.tools.git.changes import as_application, make_commit
from arborgate.tools.git.retelling import list_retellings
from arborgate.tools.git.source import GitSource
from arborgate.tools.promotion import tools
from arborgate.tools.promotion.carrying import Move
from arborgate.tools.promotion.claims import check_brought
from arborgate.tools.promotion.labels import FROM, PROPOSAL, REVISION
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.promotion.plan import plan_promotion_commit
from arborgate.tools.proposal import Proposal
from arborgate.tools.retelling import retell
from tests.parts.git import GitServer
from tests.tools.git.desk import ASKED, Desk
from tests.tools.git.repository import API, NAME, api_node, make_family, make_settings
from tests.tools.rollouts.applications import (
    CLUSTER,
    COMMIT,
    ENVIRONMENTS,
    KUSTOMIZE,
    make_application,
)
from tests.tools.rollouts.proposing import Bench, running
from tests.tools.world import ADA

pytestmark = pytest.mark.anyio

LADDER = PromotionSettings(path=("staging", "production"))
IMAGE = "registry.example.org/shop/api:1.5.0"
RAN: dict[str, Any] = {**KUSTOMIZE, "kustomize": {"images": [f"api={IMAGE}"]}}
REASON = "It has run well in staging for a day."


@pytest.fixture
def desk(desks: Callable[..., Desk]) -> Desk:
    """`api` in production, whose parent self-heals."""
    return desks(shop={"env": "prod"})


async def plan(desk: Desk, origin: dict[str, Any] | None = None) -> Change:
    """What ran in staging, for production."""
    node, live, origin = api_node(desk.tree), await desk.read(), origin or make_application("api-staging", source=RAN)
    move = Move(AppParser(CLUSTER, ENVIRONMENTS, {}).parse(origin), node.app, LADDER)
    planned = plan_promotion_commit(node, move, origin, as_application(node, live), proposal="p-1")
    return make_commit(planned, node, desk.target, live).change


async def test_what_ran_below_is_committed_with_labels_that_say_where(desk: Desk) -> None:
    change = await plan(desk)
    assert change.kind is ChangeKind.PROMOTE
    assert change.summary == f"Promote api from staging: image {IMAGE}, as a commit to shop main apps/api.yaml"
    after = await desk.apply(change)
    told = {FROM: "staging", PROPOSAL: "p-1", REVISION: COMMIT}
    assert after["metadata"]["labels"] == {"env": "staging", **told}
    (labels,) = (line for line in API.splitlines() if "labels" in line)
    assert [line for line in API.splitlines() if line not in desk.file()] == [labels, f"      - api={IMAGE[:-5]}1.4.2"]
    assert "# not production" in desk.file()
    assert len(desk.file().splitlines()) == len(API.splitlines())


LABELS = {
    "none": "",
    "a block": "  labels:\n    team: shop   # theirs\n    tier: backend\n",
    "in braces": "  labels: {team: shop}\n",
    "of an earlier promotion": f"  labels:\n    {FROM}: staging\n    {PROPOSAL}: p-0\n    {REVISION}: old\n",
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
async def test_an_undo_brings_the_very_bytes_back_and_all_else_stays(
    desk: Desk, server: GitServer, labels: str
) -> None:
    before = API.replace("  labels: {env: staging}    # not production\n", labels)
    server.commit(NAME, {"apps/api.yaml": before})
    change = await plan(desk)
    after = await desk.apply(change)
    assert after["metadata"]["labels"][PROPOSAL] == "p-1"
    kept = [line for line in before.splitlines() if "api:1.4.2" not in line and "arborgate.dev" not in line]
    for line in kept:
        assert line in desk.file() or "{team: shop}" in line
    await desk.apply(change, asked=replace(ASKED, undone=True))
    assert desk.file() == before
    assert (await desk.read())["metadata"].get("labels", {}).get(PROPOSAL, "") in ("", "p-0")


SEVERAL = """\
# Two sources.
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: api
spec:
  project: default
  syncPolicy: { automated: {} }
  destination: {server: https://kubernetes.default.svc, namespace: shop}
  sources:
  # what runs
  - repoURL: https://git.example.org/shop.git
    path: api
    targetRevision: v1.4.2   # pinned
    kustomize:
      images: [api=registry.example.org/shop/api:1.4.2]
  - repoURL: https://git.example.org/dashboards.git
    path: api
    targetRevision: main
"""


async def test_of_several_sources_only_what_ran_below_changes(desks: Callable[..., Desk], server: GitServer) -> None:
    server.commit(NAME, {"apps/api.yaml": SEVERAL})
    sources = yaml.safe_load(SEVERAL)["spec"]["sources"]
    desk = desks(shop={"env": "prod", "sources": sources})
    ran = merge(sources[0], {"targetRevision": "v1.5.0", "kustomize": {"images": [f"api={IMAGE}"]}})
    change = await plan(desk, make_application("api-staging", sources=[ran, sources[1]]))
    await desk.apply(change)
    was, now = SEVERAL.splitlines(), desk.file().splitlines()
    assert [line for line in was if line not in now] == [
        "    targetRevision: v1.4.2   # pinned",
        "      images: [api=registry.example.org/shop/api:1.4.2]",
    ]
    retellings = list_retellings(desk.source.books)
    server.commit(NAME, {"apps/api.yaml": SEVERAL})
    assert retell(retellings, api_node(desk.tree), change, await desk.read(), proposed_at=0).change == change


async def test_an_undo_leaves_what_others_have_changed_in_the_file_since(desk: Desk, server: GitServer) -> None:
    change = await plan(desk)
    await desk.apply(change)
    server.commit(NAME, {"apps/api.yaml": desk.file().replace("namespace: shop", "namespace: market")})
    await desk.apply(change, asked=replace(ASKED, undone=True))
    assert (await desk.read())["metadata"]["labels"] == {"env": "staging"}
    assert "namespace: market" in desk.file()
    assert "api:1.4.2" in desk.file()


METADATA = {
    "another label": {"labels": {"env": "production"}},
    "one more": {"labels": {FROM: "staging", "team": "thieves"}},
    "a name": {"name": "other"},
    "finalizers": {"labels": {FROM: "staging"}, "finalizers": []},
    "another annotation": {"annotations": {"argocd.argoproj.io/sync-wave": "-9"}},
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA.keys())
async def test_nothing_else_of_the_metadata_is_ever_written(desk: Desk, metadata: dict[str, Any]) -> None:
    change = await plan(desk)
    told = change.model_copy(update={"patch": merge(change.patch, {"metadata": metadata})})
    with pytest.raises(Refused, match="never written"):
        await desk.apply(told)
    assert desk.file() == API


TELLS: dict[str, dict[str, Any]] = {
    "diff": {"diff": "nothing"},
    "summary": {"summary": "Harmless, as a commit to shop main apps/api.yaml"},
    "patch": {"patch": {"spec": {"source": {"kustomize": {"images": ["api=evil:1"]}}}}},
    "undo": {"undo": None},
    "check": {"check": None},
}


@pytest.mark.parametrize("update", [{}, *TELLS.values()], ids=["the truth", *TELLS])
async def test_the_applier_tells_it_again_word_for_word(desk: Desk, update: dict[str, Any]) -> None:
    change, live = await plan(desk), await desk.read()
    if "check" in update:
        update = {"check": change.check.model_copy(update={"sync": None})}
    told = change.model_copy(update=update)
    retellings = list_retellings(desk.source.books)
    if not update:
        assert retell(retellings, api_node(desk.tree), told, live, proposed_at=0).change == change
        return
    with pytest.raises(Refused, match="differs"):
        retell(retellings, api_node(desk.tree), told, live, proposed_at=0)


async def test_the_applier_asks_whether_it_ever_ran_below(desk: Desk) -> None:
    change, live = await plan(desk), await desk.read()
    assert change.promotion is not None
    check_brought(change, change.promotion, make_application("api-staging", source=RAN), live, LADDER)
    never = make_application("api-staging", source=KUSTOMIZE)
    with pytest.raises(Refused, match="an image as it never was"):
        check_brought(change, change.promotion, never, live, LADDER)


Open = Callable[..., AbstractAsyncContextManager["Shop"]]


class Shop:
    """A bench with `api` in staging, and in production under a parent that may self-heal."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def promote(self) -> Proposal:
        answer = await self.bench.gate.call(ADA, "promotion_propose", {"reason": REASON, "apps": ["api-staging"]})
        assert answer.structured is not None, answer.error
        return await self.bench.book.get(answer.structured["proposal"])

    async def fail(self) -> ArborgateError:
        answer = await self.bench.gate.call(ADA, "promotion_propose", {"reason": REASON, "apps": ["api-staging"]})
        assert answer.error is not None
        return answer.error


@pytest.fixture
def shops(server: GitServer, redis: Redis, tmp_path: Path) -> Open:
    server.commit(NAME, {"apps/kept.yaml": API.replace("name: api", "name: api-prod"), "apps/api.yaml": None})

    @asynccontextmanager
    async def open_shop(*, heals: bool = True, owner_set: str = "", **more: Any) -> AsyncIterator[Shop]:
        parent, child = make_family(
            "api-prod",
            {"repoURL": f"{server.url}/{NAME}.git", "path": "apps", "targetRevision": "HEAD"},
            policy=None if heals else {"automated": {}},
            env="prod",
            owner_set=owner_set,
        )
        below, source = make_application("api-staging", source=RAN), GitSource(make_settings(server, tmp_path, **more))
        world, sources = (parent, child, below), {GitSource: source}
        async with running(
            redis, tmp_path, *world, rehearsal_wait=0.0, sources=sources, tools=tools.TOOLS, ladder=LADDER
        ) as bench:
            yield Shop(bench)
        await source.close()

    return open_shop


async def test_what_a_parent_would_undo_is_proposed_as_a_commit(shops: Open) -> None:
    async with shops() as shop:
        content = (await shop.promote()).content
    assert content.title == "Promote api-prod from staging to production"
    (change,) = content.changes
    assert str(change.target) == "Application main/apps/kept.yaml#api-prod in shop"
    assert f"{PROPOSAL}: {content.id}" in change.diff


async def test_what_nobody_undoes_is_promoted_live_unless_settings_say_otherwise(shops: Open) -> None:
    async with shops(heals=False) as shop:
        (change,) = (await shop.promote()).content.changes
        assert change.target.api == "argoproj.io/v1alpha1"
    async with shops(heals=False, always=("production",)) as shop:
        (change,) = (await shop.promote()).content.changes
        assert change.target.api == "git"


async def test_what_a_set_generates_is_refused_with_the_way_out(shops: Open) -> None:
    async with shops(owner_set="all-shops") as shop:
        error = await shop.fail()
    assert "ApplicationSet" in error.message
    assert error.field == "apps.0"


async def test_what_is_committed_and_has_not_arrived_is_not_committed_again(shops: Open, server: GitServer) -> None:
    brought = "- api=registry.example.org/shop/api:1.5.0"
    text = server.read(NAME, "apps/kept.yaml").replace("- api=registry.example.org/shop/api:1.4.2", brought)
    server.commit(NAME, {"apps/kept.yaml": text})
    async with shops() as shop:
        error = await shop.fail()
    assert "has not arrived" in error.message
    assert "parent" in str(error.hint)


async def test_without_a_repository_it_is_refused_with_the_way_out(shops: Open) -> None:
    async with shops(heals=True, repositories=()) as shop:
        error = await shop.fail()
    assert "would be undone by shop" in error.message
    assert "git.repositories" in str(error.hint)
