"""Steering and watching a proposal in a real browser: by keyboard alone, live, and told to screen readers with tact."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from arborgate.server.leases import Lease
from arborgate.server.steering import Command
from arborgate.tools.proposal import Order, Proposal, ProposalState, Step, StepState
from tests.parts.axe import find_faults
from tests.parts.process import find_free_ports
from tests.server.web.serving import serve
from tests.server.web.test_live import begin
from tests.server.web.world import World, make_caller, open_world

pytestmark = pytest.mark.anyio

WHY = "The error rate of checkout doubles."


@pytest.fixture
async def site(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    (port,) = find_free_ports(1)
    async with open_world(tmp_path / "record", redis_url, url=f"http://127.0.0.1:{port}") as world, serve(world):
        yield world


async def enter(page: Page, world: World, subject: str, role: str, path: str) -> None:
    """Opens a page as somebody who is logged in."""
    agent = await page.evaluate("navigator.userAgent")
    session = await world.start_session(subject, role, agent=str(agent))
    await page.context.add_cookies([{"name": "arborgate", "value": session, "url": world.url}])
    await page.goto(world.url + path)


async def press_until(page: Page, name: str) -> None:
    """Presses Tab until the control of that name has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if name == await page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"):
            return
    raise AssertionError(f"the keyboard does not reach {name!r}")


async def standing(world: World, proposal: Proposal) -> Order | None:
    hold = await world.steering.standing(await world.book.get(proposal.id))
    return hold.order if hold else None


async def open_applying(page: Page, world: World) -> tuple[Proposal, Lease]:
    proposal, lease = await begin(world)
    await enter(page, world, "april", "approver", f"/proposals/{proposal.id}")
    await expect(page.get_by_text("Applying: 0 of 1 change")).to_be_visible()
    return proposal, lease


async def test_an_approver_pauses_resumes_and_aborts_with_the_keyboard_alone(site: World, page: Page) -> None:
    proposal, _ = await open_applying(page, site)
    await press_until(page, "Pause or abort")
    await page.keyboard.press("Enter")
    await press_until(page, "Pause")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Paused by a person.")).to_be_visible()
    assert await standing(site, proposal) is Order.PAUSE
    await press_until(page, "Resume")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Paused by a person.")).to_have_count(0)
    assert await standing(site, proposal) is None
    await press_until(page, "Pause or abort")
    await page.keyboard.press("Enter")
    await press_until(page, "Abort and undo")
    await page.keyboard.press("Enter")  # without a reason the browser itself asks for one
    assert await standing(site, proposal) is None
    assert await page.evaluate("document.activeElement.id") == "steer-comment"
    await page.keyboard.type(WHY)
    await press_until(page, "Abort and undo")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("A person has aborted it.")).to_be_visible()
    await expect(page.get_by_text(WHY).first).to_be_visible()
    assert await standing(site, proposal) is Order.ABORT


async def test_steps_and_orders_show_without_a_reload_and_leave_what_is_typed(site: World, page: Page) -> None:
    proposal, lease = await open_applying(page, site)
    await page.evaluate("window.stayed = true")
    await page.get_by_text("Pause or abort").click()
    await page.locator("#steer-comment").fill("I am still writing")
    await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
    await expect(page.locator(".steps").get_by_text("started")).to_be_visible()
    rita = make_caller("rita", "responder")
    await site.steering.steer(proposal.id, Command.PAUSE, rita, "I look at it.")
    await expect(page.get_by_text("Paused by a person.")).to_be_visible()
    assert await page.locator("#steer-comment").input_value() == "I am still writing"
    await page.locator("#steer-comment").fill("")
    await site.steering.steer(proposal.id, Command.RESUME, rita)
    await expect(page.get_by_text("Paused by a person.")).to_have_count(0)
    await site.book.step(proposal.id, 0, Step(state=StepState.HEALTHY), lease)
    await site.book.finish(proposal.id, ProposalState.APPLIED, "", lease)
    await expect(page.get_by_text("Applied. Its change is in place and healthy.")).to_be_visible()
    await expect(page.locator('[data-live="state"]')).to_have_text("applied")
    await expect(page.get_by_text("Pause or abort")).to_have_count(0)
    assert await page.evaluate("window.stayed")
    assert (await page.title()).startswith("Applied")


async def test_a_screen_reader_is_told_politely_and_only_what_is_new(site: World, page: Page) -> None:
    proposal, lease = await open_applying(page, site)
    await page.evaluate(
        """() => {
          window.told = [];
          const name = (one) => one.target.closest("[data-live]").dataset.live;
          new MutationObserver((all) => window.told.push(...all.map(name)))
            .observe(document.body, {childList: true, characterData: true, subtree: true});
        }"""
    )
    await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
    await expect(page.locator(".steps").get_by_text("started")).to_be_visible()
    await site.steering.steer(proposal.id, Command.PAUSE, make_caller("rita", "responder"))
    await expect(page.get_by_text("Paused by a person.")).to_be_visible()
    told = await page.evaluate("window.told")
    assert told == ["steps", "status", "hold", "steering"], told
    assert await page.locator('[data-live="status"]').get_attribute("role") == "status"
    assert await page.locator('[data-live="steps"] [role], [data-live="steps"][aria-live]').count() == 0


async def test_a_page_looks_again_by_itself_where_events_do_not_come(site: World, page: Page) -> None:
    await page.route("**/events*", lambda route: route.fulfill(status=503))
    proposal, lease = await open_applying(page, site)
    await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
    await expect(page.locator(".steps").get_by_text("started")).to_be_visible()


async def test_a_page_whose_session_ends_leads_to_the_login(site: World, page: Page) -> None:
    proposal, lease = await open_applying(page, site)
    await page.context.clear_cookies()
    await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
    await page.reload()
    await expect(page.get_by_role("link", name="Log in")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_progress_fits_a_narrow_screen(site: World, page: Page, scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": 320, "height": 640})
    proposal, _ = await open_applying(page, site)
    await site.steering.steer(
        proposal.id, Command.PAUSE, make_caller("rita", "responder"), "a-word-without-a-break-" * 9
    )
    await expect(page.get_by_text("Paused by a person.")).to_be_visible()
    await page.get_by_text("Abort", exact=True).click()
    assert await page.evaluate("document.documentElement.scrollWidth") == 320


async def test_axe_finds_nothing_on_what_moves(site: World, page: Page) -> None:
    proposal, lease = await open_applying(page, site)
    await page.get_by_text("Pause or abort").click()
    assert await find_faults(page) == []
    rita = make_caller("rita", "responder")
    await site.steering.steer(proposal.id, Command.PAUSE, rita, "I look at it.")
    await expect(page.get_by_text("Paused by a person.")).to_be_visible()
    assert await find_faults(page) == []
    await site.steering.steer(proposal.id, Command.ABORT, rita, WHY)
    await expect(page.get_by_text("A person has aborted it.")).to_be_visible()
    assert await find_faults(page) == []
    await site.book.finish(proposal.id, ProposalState.FAILED, "Rita aborted it.", lease)
    await site.book.step(proposal.id, 0, Step(state=StepState.STUCK, message="somebody has changed it since"), lease)
    await expect(page.get_by_text("Stopped: this needs a person.")).to_be_visible()
    assert await find_faults(page) == []
