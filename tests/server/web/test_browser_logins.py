"""Logins in a real browser at a certified provider: stepping up for one decision, and being logged out over there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from arborgate.tools.proposal import ProposalState
from arborgate.tools.record import Event
from tests.parts.oidc import ONE_FACTOR, TWO_FACTORS, OidcProvider, describe_pages
from tests.parts.process import find_free_ports
from tests.server.web.serving import serve
from tests.server.web.test_browser import press_until
from tests.server.web.world import World, open_world

pytestmark = pytest.mark.anyio

STRONG = f"""
@id("production-needs-two-factors")
forbid (principal, action == Action::"proposal:approve", resource)
when {{ context.strict }} unless {{ context.acr == "{TWO_FACTORS}" }};
"""


@pytest.fixture
async def site(tmp_path: Path, redis_url: str, oidc_provider: OidcProvider) -> AsyncIterator[World]:
    """The pages served for real, registered at the real provider as docs/approving.md says."""
    (port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "secret").write_text("a client secret")
    client = describe_pages(
        "arborgate-pages", "a client secret", f"{url}/login/callback", logout_uri=f"{url}/logout/back-channel"
    )
    oidc_provider.add_client({**client, "post_logout_redirect_uris": [f"{url}/logout/done"]})
    async with open_world(
        tmp_path / "record",
        redis_url,
        url=url,
        issuer=oidc_provider.issuer,
        client_secret_file=tmp_path / "secret",
    ) as world:
        world.demand(STRONG, tmp_path / "policies")
        world.change(acr_values=(ONE_FACTOR, TWO_FACTORS))
        async with serve(world):
            yield world


async def log_in(page: Page, world: World, path: str) -> None:
    await page.goto(world.url + path)
    await page.get_by_role("link", name="Log in").click()
    await page.get_by_label("User name").fill("april")
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(world.url + path)


async def read_cookie(page: Page, world: World) -> str:
    cookies = await page.context.cookies(world.url)
    return next(str(one.get("value")) for one in cookies if one.get("name") == "arborgate")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_stronger_login_leads_back_to_the_decision_with_what_was_typed(
    site: World, browser: Browser, scripts: bool
) -> None:
    proposal = await site.propose()
    path = f"/proposals/{proposal.id}"
    context = await browser.new_context(java_script_enabled=scripts)
    context.set_default_timeout(10_000)
    page = await context.new_page()
    await log_in(page, site, path)
    before = await read_cookie(page, site)
    await expect(page.get_by_text("policy asks for a stronger login than yours")).to_be_visible()
    await expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)

    await page.get_by_label("Comment").fill("Read it twice.")
    await page.get_by_role("button", name="Log in again to approve").click()
    await page.get_by_label("User name").fill("april")
    await page.get_by_label("With a second factor").uncheck()
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(site.url + path)
    await expect(page.get_by_role("alert")).to_contain_text("does not say that it was in that way")
    await expect(page.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
    await expect(page.get_by_label("Comment")).to_have_value("Read it twice.")

    await page.get_by_role("button", name="Log in again to approve").click()
    await page.get_by_label("User name").fill("april")
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(site.url + path)
    await expect(page.get_by_role("alert")).to_have_count(0)
    await expect(page.get_by_label("Comment")).to_have_value("Read it twice.")
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()

    decided = await site.book.get(proposal.id)
    assert (decided.state, decided.approvals[0].comment) == (ProposalState.APPROVED, "Read it twice.")
    assert await site.sessions.find(before, site.browser) is None
    assert len(site.records(Event.SESSION_STARTED)) == 3
    assert len(site.records(Event.SESSION_ENDED)) == 2
    await context.close()


async def test_a_step_up_needs_the_keyboard_alone(site: World, page: Page) -> None:
    proposal = await site.propose()
    await log_in(page, site, f"/proposals/{proposal.id}")
    await press_until(page, "comment")
    await page.keyboard.type("So far.")
    await press_until(page, "Log in again to approve")
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await page.get_by_label("User name").wait_for()


async def test_a_logout_at_the_provider_ends_the_session_here(
    site: World, page: Page, oidc_provider: OidcProvider
) -> None:
    await log_in(page, site, "/proposals")
    await page.goto(f"{oidc_provider.issuer}/session/end")
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("heading", name="Logged out").wait_for()
    async with asyncio.timeout(10):
        while not site.records(Event.SESSION_ENDED):
            await asyncio.sleep(0.02)
    (ended,) = site.records(Event.SESSION_ENDED)
    assert ended.detail.endswith("logged out at the provider")
    await page.goto(f"{site.url}/proposals")
    await expect(page.get_by_role("heading", name="Log in to approve")).to_be_visible()


async def test_the_logout_here_leads_on_to_the_one_at_the_provider_and_back(site: World, page: Page) -> None:
    await log_in(page, site, "/proposals")
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("link", name="Log out there too").click()
    assert "id_token_hint" not in page.url
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url(f"{site.url}/logout/done")
    await expect(page.get_by_role("status")).to_contain_text("your identity provider has led you back here")


async def test_a_session_elsewhere_is_ended_from_here(site: World, page: Page, browser: Browser) -> None:
    elsewhere = await browser.new_context()
    other = await elsewhere.new_page()
    await log_in(page, site, "/proposals")
    await log_in(other, site, "/proposals")
    await page.get_by_role("link", name="Sessions").click()
    await expect(page.get_by_role("heading", name="Chrome on Linux")).to_have_count(2)
    await page.get_by_role("button", name="End the session in Chrome on Linux").click()
    await expect(page.get_by_role("heading", name="Chrome on Linux")).to_have_count(1)
    await other.goto(f"{site.url}/proposals")
    await expect(other.get_by_role("heading", name="Log in to approve")).to_be_visible()
    await elsewhere.close()
