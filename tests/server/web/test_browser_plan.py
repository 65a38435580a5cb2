"""The page of a plan in a real browser: by keyboard alone, nothing in the way of assistive technology, and usable when
hundreds of apps are within reach."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from arborgate.tools.change import ChangeKind
from arborgate.tools.evidence import Evidence
from arborgate.tools.last import LastChange, Trace
from arborgate.tools.proposal import Proposal, ProposalState
from arborgate.tools.risk import Factor
from arborgate.tools.tree import Health, Owned
from tests.parts.axe import find_faults
from tests.parts.process import find_free_ports
from tests.server.web.serving import serve
from tests.server.web.test_moved import LiveObjects, moved_object, plan
from tests.server.web.world import World, make_change, make_factor, open_world
from tests.tools.world import make_app, make_managed

pytestmark = pytest.mark.anyio

IMAGE = Path(__file__).parents[3] / "docs" / "images" / "plan.png"

SCALED = """--- Deployment shop/orders-worker (live)
+++ Deployment shop/orders-worker (planned)
@@ -1,14 +1,14 @@
 spec:
   strategy:
     rollingUpdate:
       maxSurge: 25%
       maxUnavailable: 25%
     type: RollingUpdate
   template:
     metadata:
       labels:
         app: orders-worker
   progressDeadlineSeconds: 600
-  replicas: 3
+  replicas: 0
   revisionHistoryLimit: 10"""

MANY = 300


@pytest.fixture
def live() -> LiveObjects:
    return LiveObjects({"orders-api": moved_object()})


@pytest.fixture
async def site(tmp_path: Path, redis_url: str, live: LiveObjects) -> AsyncIterator[World]:
    (port,) = find_free_ports(1)
    async with open_world(tmp_path / "record", redis_url, url=f"http://127.0.0.1:{port}") as world:
        world.change(live=live)
        async with serve(world):
            yield world


async def enter(site: World, page: Page, proposal: Proposal) -> None:
    session = await site.start_session("april", "approver", agent=str(await page.evaluate("navigator.userAgent")))
    await page.context.add_cookies([{"name": "arborgate", "value": session, "url": site.url}])
    await page.goto(f"{site.url}/proposals/{proposal.id}")


async def propose_much(site: World) -> Proposal:
    """Three changes that show all that a page can hold."""
    owned = Owned(redis=("cache:orders:",), routes=("shop.test/orders",))
    running = (make_managed("Deployment", "orders-api", health="Degraded"),)
    site.tree.put(make_app("orders", env="prod", parent="shop", health=Health.DEGRADED, owned=owned))
    site.tree.put(make_app("orders-api", env="prod", parent="orders", health=Health.DEGRADED, managed=running))
    site.tree.put(make_app("reports", env="prod", owned=Owned(redis=("cache:orders:daily:",))))
    last = (
        LastChange(
            trace=Trace.WRITTEN, by="kubectl-edit", at="2026-11-20T08:02:00Z", fields=("/spec/source/targetRevision",)
        ),
        LastChange(trace=Trace.DEPLOYED, by="bob", at="2026-11-19T18:02:00Z", revision="v2.14.0"),
    )
    seen = Evidence(
        line="serve-1/42",
        at="2026-11-21T08:02:40.000000Z",
        tool="app_get",
        resource="App::main/argocd/orders-api",
        outcome="ok",
        arguments_digest="0123456789abcdef" * 4,
        note="its pods wait for the image",
    )
    return await site.propose(
        make_change("orders-api", last=last),
        make_change("orders-worker", summary="Scale Deployment orders-worker from 3 to 0", diff=SCALED),
        make_change(
            "orders",
            kind=ChangeKind.SYNC,
            summary="Sync orders to 3f2c1ab",
            diff="",
            undo=None,
            undo_note="The app syncs by itself; to go back, set an older revision or image.",
            wave=1,
        ),
        title="Roll orders back to v2.13.4",
        factors=(
            make_factor("The environment production is strict."),
            make_factor(
                "It goes back to an earlier deployment; data that was migrated since does not go back with it.",
                Factor.DOWNGRADE,
            ),
        ),
        evidence=(seen,),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_nothing_on_the_page_is_in_the_way_of_assistive_technology(
    site: World, page: Page, scheme: str, width: int
) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": width, "height": 900})
    await enter(site, page, await propose_much(site))
    if os.environ.get("ARBORGATE_IMAGES") == "write" and (scheme, width) == ("light", 1280):
        await page.screenshot(path=IMAGE, full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": 1280})
    for summary in await page.locator(".body summary").all():
        if await summary.is_visible():
            await summary.click()
    await page.get_by_text("Side by side").click()
    assert await find_faults(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_the_diffs_are_turned_and_unfolded_by_keyboard_and_stay_so(site: World, page: Page) -> None:
    proposal = await propose_much(site)
    await enter(site, page, proposal)
    columns = "getComputedStyle(document.querySelector('.pair')).display"
    assert await page.evaluate(columns) == "block"
    await page.get_by_label("Unified").focus()
    await page.keyboard.press("ArrowRight")
    assert await page.evaluate(columns) == "grid"
    fold = page.locator(".fold > summary").first
    await expect(page.get_by_text("maxSurge: 25%")).to_be_hidden()
    await fold.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("maxSurge: 25%")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Side by side")).to_be_checked()
    assert await page.evaluate(columns) == "grid"
    assert "diffs" not in str(await page.context.cookies())


async def test_what_the_browser_shows_of_a_diff_is_the_diff(site: World, page: Page) -> None:
    await enter(site, page, await propose_much(site))
    shown = await page.evaluate(
        """[...document.querySelectorAll('[data-shows="/changes/1/diff"] [data-line]')].map((each) => each.textContent)"""
    )
    assert "\n".join(shown) == SCALED


async def test_a_target_that_moves_is_told_while_the_page_is_open(site: World, live: LiveObjects, page: Page) -> None:
    site.tree.put(make_app("orders-api", env="prod", parent="orders", resource_version="2"))
    await page.clock.install()
    await enter(site, page, await site.propose(plan()))
    await expect(page.get_by_text("Nothing that it touches has moved since it was planned.")).to_be_visible()
    live.objects["orders-api"] = moved_object(targetRevision="v3")
    await page.clock.run_for(11_000)
    await expect(page.get_by_role("alert")).to_contain_text("Its target has moved since this was planned.")
    await expect(page.get_by_role("alert")).to_contain_text("/spec/source/targetRevision")
    assert await find_faults(page) == []


async def test_with_hundreds_of_apps_the_decision_is_at_hand_and_the_page_answers(site: World, page: Page) -> None:
    for number in range(MANY):
        parent = "platform" if number % 10 == 0 else f"shop-{number // 10 * 10:03}"
        running = (make_managed("Deployment", f"shop-{number:03}"),)
        site.tree.put(make_app(f"shop-{number:03}", env="prod", parent=parent, managed=running))
    changes = [make_change(f"shop-{number:03}", diff=SCALED) for number in range(MANY)]
    await page.set_viewport_size({"width": 1280, "height": 800})
    proposal = await site.propose(*changes)
    await enter(site, page, proposal)
    await expect(page.get_by_role("button", name="Approve")).to_be_in_viewport()
    await page.locator("#apps").scroll_into_view_if_needed()
    await expect(page.locator(".reach .totals")).to_be_in_viewport()
    await expect(page.get_by_role("button", name="Approve")).to_be_in_viewport()
    inner = page.locator("#change-299").locator("xpath=..").locator("summary").first
    await inner.click()
    await expect(page.locator('[data-shows="/changes/298/diff"]').get_by_text("replicas: 0")).to_be_visible()
    await page.get_by_label("Comment").fill("All of them.")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("Approved.", exact=False).first).to_be_visible()
    assert (await site.book.get(proposal.id)).state is ProposalState.APPROVED
