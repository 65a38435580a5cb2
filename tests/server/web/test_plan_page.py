"""What makes a plan worth approving from: seen at a glance, with reasons, history and evidence."""

import re
from typing import Any

import pytest

from arborgate.server.web.glance import LOWER, view_risks
from arborgate.tools.app import AppSource
from arborgate.tools.change import Change, ChangeKind, Promotion
from arborgate.tools.evidence import Evidence
from arborgate.tools.last import LastChange, Trace
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.risk import Factor
from arborgate.tools.tree import Health, Owned
from tests.server.web.world import World, make_change, make_factor
from tests.tools.world import make_app, make_managed

pytestmark = pytest.mark.anyio


def read(html: str) -> str:
    """The text of the page, as it is read."""
    text = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text)).replace("&#39;", "'")


async def open_proposal(world: World, *changes: Change, **fields: Any) -> str:
    proposal = await world.propose(*changes, **fields)
    return (await (await world.enter("april", "approver")).get(f"/proposals/{proposal.id}")).text


@pytest.mark.parametrize(
    ("undos", "said"),
    [
        ((True,), "it can be undone"),
        ((False,), "it can’t be undone"),
        ((True, True), "all can be undone"),
        ((True, False, True), "2 of 3 can be undone"),
        ((False, False), "none can be undone"),
    ],
)
async def test_how_much_can_be_undone_is_said_at_the_top(world: World, undos: tuple[bool, ...], said: str) -> None:
    apps = ("orders-api", "orders-queue", "orders-worker")
    changes = [make_change(app, **({} if undo else {"undo": None})) for app, undo in zip(apps, undos, strict=False)]
    text = read(await open_proposal(world, *changes))
    assert said in text
    assert text.index(said) < text.index("The agent’s words")


async def test_the_heaviest_reason_comes_first_with_what_would_lower_it(world: World) -> None:
    factors = (
        make_factor("It is late.", Factor.OFF_HOURS),
        make_factor("The environment production is strict."),
        make_factor("It is later.", Factor.OFF_HOURS),
    )
    text = read(await open_proposal(world, factors=factors))
    reasons = text.partition("Why the risk is high")[2]
    assert reasons.index("production is strict") < reasons.index("It is late. It is later.")
    assert LOWER[Factor.OFF_HOURS] in reasons
    assert [view.weight for view in view_risks(factors)] == [4, 2]


def test_every_factor_says_what_would_take_it_away() -> None:
    assert set(LOWER) == set(Factor)


async def test_what_runs_in_an_app_and_who_leans_on_it_is_shown(world: World) -> None:
    world.tree.put(
        make_app(
            "orders-api",
            env="prod",
            parent="orders",
            managed=(make_managed("Deployment", "orders-api-web"),),
            owned=Owned(redis=("cache:orders:",), routes=("shop.test/orders",)),
        )
    )
    world.tree.put(make_app("reports", env="prod", owned=Owned(redis=("cache:orders:daily:",))))
    text = read(await open_proposal(world))
    for fact in (
        "1 app 1 workload 1 keyspace 1 route",
        "1 other app leans on what these own",
        "Deployment orders-api-web",
        "cache:orders: of orders-api also of reports (production)",
        "shop.test/orders of orders-api",
    ):
        assert fact in re.sub(r"(?<=[a-z])(?=orders-api-web)", " ", text), fact


async def test_who_changed_the_target_last_is_shown(world: World) -> None:
    last = (
        LastChange(
            trace=Trace.WRITTEN,
            by="arborgate",
            at="2025-11-22T08:00:00Z",
            fields=("/spec/replicas",),
            proposal="p-dc0l4eqjog0c7c9e",
        ),
        LastChange(trace=Trace.DEPLOYED, by="<b>ada</b>", at="2025-11-20T08:00:00Z", revision="v2.14.0"),
    )
    html = await open_proposal(world, make_change(last=last))
    text = read(html)
    assert "/spec/replicas written by arborgate, as p-dc0l4eqjog0c7c9e 2025-11-22 08:00" in text
    assert "deployed at v2.14.0 by &lt;b&gt;ada&lt;/b&gt; 2025-11-20 08:00" in text
    assert 'href="/proposals/p-dc0l4eqjog0c7c9e"' in html


async def test_evidence_is_told_apart_from_what_the_agent_says_of_it(world: World) -> None:
    one = Evidence(
        line="serve-1/42",
        at="2025-11-22T08:26:40.000000Z",
        tool="app_get",
        resource="App::main/argocd/orders-api",
        outcome="ok",
        arguments_digest="a" * 64,
        note="it <b>crashes</b>",
    )
    html = await open_proposal(world, evidence=(one,))
    evidence = html.partition('id="evidence"')[2].partition("</section>")[0]
    text = read(evidence)
    assert "these calls are on record, made for the same person" in text
    assert "app_get App::main/argocd/orders-api ok arguments aaaaaaaaaaaa serve-1/42" in text
    assert "The agent says it &lt;b&gt;crashes&lt;/b&gt;" in text
    assert 'href="/policies/record?ref=serve-1:42"' in evidence


async def test_a_change_in_a_crowd_can_be_unfolded(world: World) -> None:
    html = await open_proposal(world, *(make_change(f"app-{number}") for number in range(12)))
    assert html.count('<details class="plan-fold">') == 7
    assert len(re.findall(r'data-shows="/changes/\d+/diff"', html)) == 12


async def test_what_the_environment_below_runs_stands_beside_what_is_brought(world: World) -> None:
    world.change(ladder=PromotionSettings(path=("staging", "production")))
    image = "registry.test/shop/orders-api"
    source = AppSource(repo="https://git.test/shop", path="orders-api", chart="", target_revision="main")
    world.tree.put(make_app("orders-api", env="prod", parent="orders", sources=(source,)))
    patch = {"spec": {"source": {"targetRevision": "v2.13.4", "kustomize": {"images": [f"{image}:v2.13.4"]}}}}
    change = make_change(kind=ChangeKind.SET_IMAGE, patch=patch)
    lower = make_app(
        "orders-api-staging",
        env="staging",
        parent="shop-staging",
        images=(f"{image}:v2.13.4",),
        sources=(source,),
        health=Health.DEGRADED,
    )
    world.tree.put(lower)
    text = read(await open_proposal(world, change))
    assert "staging: orders-api-staging Degraded does not run well" in text
    assert f"runs {image}:v2.13.4" in text
    assert "does not run v2.13.4" in text
    assert "orders-api-staging" not in read(await open_proposal(world, make_change(kind=ChangeKind.RESTART)))


async def test_where_a_promotion_comes_from_is_shown(world: World) -> None:
    promotion = Promotion(
        app="main/argocd/orders-api-staging",
        origin="staging",
        environment="production",
        revision="3f2c1ab",
        since="2025-11-20T08:00:00Z",
        carried=("image <b>v2</b>",),
        stays=("replicas 3",),
    )
    text = read(await open_proposal(world, make_change(kind=ChangeKind.PROMOTE, promotion=promotion)))
    assert "from main/argocd/orders-api-staging of staging, which runs 3f2c1ab since 2025-11-20 08:00" in text
    assert "carries image &lt;b&gt;v2&lt;/b&gt;" in text
    assert "leaves replicas 3" in text
