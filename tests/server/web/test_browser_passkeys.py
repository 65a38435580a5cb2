"""Passkeys in a real browser, from enrolment to the change: Chromium with a virtual authenticator, a real provider."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import CDPSession, Page, expect
from typer.testing import CliRunner

from arborgate.server.approvers import Pinned, read_approvers
from arborgate.server.cli_approvers import commands
from arborgate.server.passkeys import RelyingParty
from arborgate.server.proposals import ProposalBook
from arborgate.server.settings import PasskeyUse, ProposalSettings
from arborgate.server.uses import Uses
from arborgate.tools.proposal import ProposalState
from arborgate.tools.risk import Risk
from tests.parts.axe import find_faults
from tests.parts.oidc import OidcProvider, describe_pages
from tests.parts.process import find_free_ports
from tests.server.web.serving import serve
from tests.server.web.test_browser import log_in, press_until
from tests.server.web.world import World, open_world

pytestmark = pytest.mark.anyio


@dataclass
class Device:
    """The authenticator that Chromium believes to have."""

    session: CDPSession
    id: str

    @classmethod
    async def plug_in(cls, page: Page) -> "Device":
        session = await page.context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return cls(session, made["authenticatorId"])

    async def verify_user(self, verified: bool) -> None:
        """Whether its owner shows the right finger."""
        told = {"authenticatorId": self.id, "isUserVerified": verified}
        await self.session.send("WebAuthn.setUserVerified", told)

    async def list_credentials(self) -> list[dict[str, Any]]:
        told = await self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})
        found: list[dict[str, Any]] = told["credentials"]
        return found

    async def turn_back(self) -> None:
        """As a copy that was made before the last use would count."""
        (credential,) = await self.list_credentials()
        told = {"authenticatorId": self.id, "credentialId": credential["credentialId"]}
        await self.session.send("WebAuthn.removeCredential", told)
        again = {**credential, "signCount": credential["signCount"] - 1}
        await self.session.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": again})


@pytest.fixture
async def site(tmp_path: Path, redis_url: str, oidc_provider: OidcProvider) -> AsyncIterator[World]:
    """The pages served under a host name, where everybody has to sign."""
    (port,) = find_free_ports(1)
    url = f"http://localhost:{port}"
    (tmp_path / "secret").write_text("a client secret")
    oidc_provider.add_client(describe_pages("arborgate-pages", "a client secret", f"{url}/login/callback"))
    async with open_world(
        tmp_path / "record",
        redis_url,
        url=url,
        issuer=oidc_provider.issuer,
        client_secret_file=tmp_path / "secret",
    ) as world:
        world.clock.now = time.time()
        world.change(passkeys=PasskeyUse.REQUIRED)
        async with serve(world):
            yield world


async def add_passkey(page: Page, world: World, name: str = "My laptop") -> None:
    await page.goto(f"{world.url}/passkeys")
    await page.get_by_label("Its name").fill(name)
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()


async def approve(page: Page, world: World, proposal_id: str, button: str = "Approve") -> None:
    await page.goto(f"{world.url}/proposals/{proposal_id}")
    await page.get_by_role("button", name=button, exact=True).click()


async def test_what_a_person_signs_in_the_browser_the_applier_believes(
    site: World, page: Page, tmp_path: Path, redis_url: str
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    device, proposal = await Device.plug_in(page), await site.propose()
    await log_in(page, site, "april", f"/proposals/{proposal.id}")
    await expect(page.get_by_text("and you have none.")).to_be_visible()
    await add_passkey(page, site)
    await device.verify_user(False)
    await approve(page, site, proposal.id)
    await expect(page.get_by_text("did not confirm it, so nothing was sent (NotAllowedError)")).to_be_visible()
    await device.verify_user(True)
    await approve(page, site, proposal.id)
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()
    assert complaints == []

    (tmp_path / "arborgate.yaml").write_text(f"state: {{url: '{redis_url}', prefix: 'arborgate:'}}\n")
    config, pinned = ["--config", str(tmp_path / "arborgate.yaml")], tmp_path / "approvers.yaml"
    exported = await asyncio.to_thread(CliRunner().invoke, commands, ["export", *config])
    pinned.write_text(exported.output, encoding="utf-8")
    approved = await site.book.get(proposal.id)
    believed = Pinned(read_approvers(pinned), RelyingParty.of(site.url), Uses()).believe(
        approved.approvals[0], approved.content, approved.digest, Risk.HIGH
    )
    assert (believed.approver.name, believed.approver.groups) == ("April Approver", ("arborgate-approvers",))


async def test_a_copied_passkey_approves_nothing(site: World, page: Page) -> None:
    device, first, second = await Device.plug_in(page), await site.propose(), await site.propose()
    await log_in(page, site, "april")
    await add_passkey(page, site)
    await approve(page, site, first.id)
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()
    await device.turn_back()
    await approve(page, site, second.id)
    await expect(page.get_by_text("seems to have been copied")).to_be_visible()
    assert (await site.book.get(second.id)).state is ProposalState.PROPOSED


async def test_a_rejection_is_signed_in_the_browser_too(site: World, page: Page) -> None:
    await Device.plug_in(page)
    proposal = await site.propose()
    await log_in(page, site, "april")
    await add_passkey(page, site)
    await approve(page, site, proposal.id, "Reject")
    await expect(page.get_by_text("so there is nothing to reject any more")).to_be_visible()
    rejected = await site.book.get(proposal.id)
    assert (rejected.state, rejected.approvals[0].assertion is not None) == (ProposalState.REJECTED, True)


async def test_another_persons_passkey_on_the_same_device_is_not_asked_for(site: World, page: Page) -> None:
    await Device.plug_in(page)
    proposal = await site.propose()
    await log_in(page, site, "april")
    await add_passkey(page, site)
    await page.context.clear_cookies()
    await log_in(page, site, "rita", f"/proposals/{proposal.id}")
    assert await page.locator("form[data-sign]").count() == 0
    assert (await site.book.get(proposal.id)).state is ProposalState.PROPOSED


async def test_a_second_approver_signs_with_a_passkey_of_their_own(site: World, page: Page) -> None:
    device = await Device.plug_in(page)
    book = ProposalBook(site.state, site.audit, ProposalSettings(approvals_high=2), site.clock)
    proposal = await replace(site, book=book).propose()
    for person in ("april", "abel"):
        await page.context.clear_cookies()
        await log_in(page, site, person)
        await add_passkey(page, site, f"The laptop of {person}")
        await approve(page, site, proposal.id)
        await expect(page.locator(".votes li")).to_have_count(1 if person == "april" else 2)
    decided = await site.book.get(proposal.id)
    signed = [one.assertion.credential for one in decided.approvals if one.assertion]
    assert (decided.state, len(set(signed))) == (ProposalState.APPROVED, 2)
    assert len(await device.list_credentials()) == 2


async def test_a_passkey_is_added_and_used_with_the_keyboard_alone(site: World, page: Page) -> None:
    await Device.plug_in(page)
    proposal = await site.propose()
    await log_in(page, site, "april")
    await page.goto(f"{site.url}/passkeys")
    await press_until(page, "passkey-name")
    await page.keyboard.type("My laptop")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="My laptop")).to_be_visible()
    await page.goto(f"{site.url}/proposals/{proposal.id}")
    await press_until(page, "Approve")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()


async def test_axe_finds_nothing_wrong_with_what_is_signed(site: World, page: Page) -> None:
    device, proposal = await Device.plug_in(page), await site.propose()
    await log_in(page, site, "april", f"/proposals/{proposal.id}")
    assert await find_faults(page) == [], "somebody without a passkey"
    await page.goto(f"{site.url}/passkeys")
    assert await find_faults(page) == []
    await add_passkey(page, site)
    assert await find_faults(page) == []
    await page.goto(f"{site.url}/proposals/{proposal.id}")
    await expect(page.locator("[data-computed]").first).to_contain_text("Computed on this device")
    assert await find_faults(page) == []
    await device.verify_user(False)
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("so nothing was sent")).to_be_visible()
    assert await find_faults(page) == []
    await page.evaluate("document.querySelector('h1').textContent = 'Nothing much'")
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("This page does not show what would be signed").first).to_be_visible()
    assert await find_faults(page) == []
