"""The pages in a real browser: a login at a certified provider, an approval by keyboard alone, progress that moves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from arborgate.server.leases import Leases
from arborgate.tools.proposal import ProposalState, Step, StepState
from tests.parts.oidc import OidcProvider, describe_pages
from tests.parts.process import find_free_ports
from tests.server.web.serving import serve
from tests.server.web.world import World, make_change, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(tmp_path: Path, redis_url: str, oidc_provider: OidcProvider) -> AsyncIterator[World]:
    """The pages served for real, their people logging in at the real provider."""
    (port,) = find_free_ports(1)
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "secret").write_text("a client secret")
    oidc_provider.add_client(describe_pages("arborgate-pages", "a client secret", f"{url}/login/callback"))
    async with (
        open_world(
            tmp_path / "record",
            redis_url,
            url=url,
            issuer=oidc_provider.issuer,
            client_secret_file=tmp_path / "secret",
        ) as world,
        serve(world),
    ):
        yield world


async def log_in(page: Page, world: World, person: str, path: str = "/proposals") -> None:
    await page.goto(world.url + path)
    await page.get_by_role("link", name="Log in").click()
    await page.get_by_label("User name").fill(person)
    await page.keyboard.press("Enter")
    await page.wait_for_url(world.url + path)


async def press_until(page: Page, name: str) -> None:
    """Presses Tab until the control of that name has the focus."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if name == await page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"):
            return
    raise AssertionError(f"the keyboard does not reach {name!r}")


async def test_an_approver_approves_with_the_keyboard_alone(site: World, page: Page) -> None:
    proposal = await site.propose()
    path = f"/proposals/{proposal.id}"
    await page.goto(site.url + path)
    await press_until(page, "Log in")
    await page.keyboard.press("Enter")
    await page.get_by_label("User name").wait_for()
    await page.keyboard.type("april")
    await page.keyboard.press("Enter")
    await page.wait_for_url(site.url + path)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await press_until(page, "comment")
    await page.keyboard.type("Read it twice.")
    await press_until(page, "Approve")
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()
    decided = await site.book.get(proposal.id)
    assert decided.state is ProposalState.APPROVED
    assert (decided.approvals[0].approver.name, decided.approvals[0].comment) == ("April Approver", "Read it twice.")


async def test_the_browser_keeps_the_session_from_scripts_and_forgets_it_on_logout(site: World, page: Page) -> None:
    await log_in(page, site, "april")
    (cookie,) = [one for one in await page.context.cookies(site.url) if one.get("name") == "arborgate"]
    assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("path")) == (True, "Lax", "/")
    assert "arborgate" not in str(await page.evaluate("document.cookie"))
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="You are logged out")).to_be_visible()
    assert "arborgate" not in {one.get("name") for one in await page.context.cookies(site.url)}


async def test_a_developer_sees_the_proposal_and_no_button(site: World, page: Page) -> None:
    proposal = await site.propose()
    await log_in(page, site, "dev", f"/proposals/{proposal.id}")
    await expect(page.get_by_text("No policy allows you to.")).to_have_count(2)
    await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    await expect(page.get_by_role("button", name="Reject")).to_have_count(0)


async def test_no_script_of_an_agent_runs(site: World, page: Page) -> None:
    attack = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    change = make_change(summary=attack, diff=f"@@\n+{attack}")
    proposal = await site.propose(change, title=attack, reason=attack)
    await log_in(page, site, "april", f"/proposals/{proposal.id}")
    assert await page.title() != "owned"
    await expect(page.locator("h1")).to_have_text(attack)
    assert complaints == []


async def test_progress_moves_while_the_page_is_open(site: World, page: Page) -> None:
    proposal = await site.propose()
    await log_in(page, site, "april", f"/proposals/{proposal.id}")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()
    lease = await Leases(site.state, "applier-1", 30.0).acquire(
        proposal.id, [change.target for change in proposal.content.changes]
    )
    await site.book.begin(proposal.id, lease, await site.book.counts(proposal))
    await expect(page.get_by_text("Applying: 0 of 1 change")).to_be_visible()
    await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
    await expect(page.locator(".steps").get_by_text("started")).to_be_visible()
    await site.book.step(proposal.id, 0, Step(state=StepState.HEALTHY), lease)
    await site.book.finish(proposal.id, ProposalState.APPLIED, "", lease)
    await expect(page.get_by_text("Applied. Its change is in place and healthy.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_fit_a_narrow_screen_and_can_be_read(site: World, page: Page, scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await page.set_viewport_size({"width": 320, "height": 640})
    word = "a-name-without-any-place-to-break-it-" * 4
    proposal = await site.propose(make_change(summary=word, diff=f"@@\n+{word}"), title=word)
    await log_in(page, site, "april")
    for path in ("/proposals", f"/proposals/{proposal.id}", "/apps"):
        await page.goto(site.url + path)
        assert await page.evaluate("document.documentElement.scrollWidth") == 320, path
        assert await page.evaluate(FAINT_TEXT) == [], path


FAINT_TEXT = """
() => {
  const parse = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [parts[0] * scale, parts[1] * scale, parts[2] * scale, parts[3] ?? 1];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".skip, .hidden")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${element.className} ${element.textContent.trim().slice(0, 30)}`);
  }
  return faint;
}
"""
"""Text whose contrast with what is behind it is under 4.5:1 (WCAG 2.2, 1.4.3)."""
