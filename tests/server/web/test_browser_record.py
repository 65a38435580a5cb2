"""The record in a real browser: filtered and proven by keyboard alone, and nothing in the way of assistive technology."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.parts.axe import find_faults
from tests.parts.process import find_free_ports
from tests.server.web.serving import serve
from tests.server.web.world import World, open_world

pytestmark = pytest.mark.anyio

IMAGE = Path(__file__).parents[3] / "docs" / "images" / "record.png"


@pytest.fixture
async def site(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    (port,) = find_free_ports(1)
    async with open_world(tmp_path / "record", redis_url, url=f"http://127.0.0.1:{port}") as world, serve(world):
        yield world


async def test_an_auditor_filters_the_record_and_proves_it_with_the_keyboard(site: World, page: Page) -> None:
    proposal = await site.propose()
    april = await site.enter("april", "approver")
    await april.decide(proposal)
    await site.wait_searchable(proposal)
    session = await site.start_session("otto", "auditor", agent=str(await page.evaluate("navigator.userAgent")))
    await page.context.add_cookies([{"name": "arborgate", "value": session, "url": site.url}])

    await page.goto(f"{site.url}/record")
    await expect(page.get_by_role("link", name="Record", exact=True)).to_have_attribute("aria-current", "page")
    await page.get_by_label("Proposal").focus()
    await page.keyboard.type(proposal.id)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("row").filter(has_text="proposal:approved").first).to_contain_text("April")
    assert await find_faults(page) == []
    if os.environ.get("ARBORGATE_IMAGES") == "write":
        await page.screenshot(path=IMAGE, full_page=True)

    await page.get_by_role("button", name="Verify the logs").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Proof of the logs")).to_be_visible()
    await expect(page.get_by_text("whole", exact=True)).to_be_visible()
    assert await find_faults(page) == []
