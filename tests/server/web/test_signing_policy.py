"""Who has to sign with a passkey, and how many it takes, where policy says so and not the settings."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Scope

from arborgate.policies.model import Caller, Channel
from arborgate.server import cli_proposals
from arborgate.server.proposals import ProposalBook
from arborgate.server.settings import PasskeyUse, ProposalSettings
from arborgate.server.thresholds import MOST, Thresholds
from arborgate.server.web.terminal import Shown
from arborgate.tools.proposal import Proposal, ProposalState
from arborgate.tools.record import Event
from arborgate.tools.risk import Risk
from tests.server.web.test_passkeys import URL, enrol, enter, make_device, sign
from tests.server.web.world import World, make_caller, make_change, open_world

pytestmark = pytest.mark.anyio

SIGNED = """
@id("high-risk-is-signed")
forbid (principal, action in [Action::"proposal:approve", Action::"proposal:break_glass"], resource)
when { resource.risk == "high" } unless { context.signed };
"""
MANY = """
@id("strict-takes-two")
forbid (principal, action == Action::"proposal:apply", resource)
when { context.strict && resource.breaker == "" } unless { context.approvals >= 2 };
@id("one-is-signed")
forbid (principal, action == Action::"proposal:apply", resource)
when { resource.risk == "high" } unless { context.signed_approvals >= 1 };
"""


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    async with open_world(tmp_path / "record", redis_url, url=URL) as world:
        world.change(passkeys=PasskeyUse.OPTIONAL)
        yield world


def count(world: World, *, low: int = 1, high: int = 1) -> Thresholds:
    settings = ProposalSettings(approvals_low=low, approvals_high=high)
    return Thresholds(world.pages.engine, world.tree.resource, settings)


async def test_what_policy_wants_signed_is_approved_with_a_passkey_alone(desk: World, tmp_path: Path) -> None:
    desk.demand(SIGNED, tmp_path / "policies")
    april, device, proposal = await enter(desk, "april"), make_device("april"), await desk.propose()
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "An approval of this has to be signed with a passkey, and you have none." in page
    answer = await april.decide(proposal)
    assert (answer.status_code, "This has to be signed with your passkey." in answer.text) == (409, True)
    await enrol(april, device)
    assert (await april.decide(proposal, credential=sign(device, proposal))).status_code == 303
    assert (await desk.book.get(proposal.id)).state is ProposalState.APPROVED
    denied, allowed = desk.records(Event.CALL_DENIED, Event.CALL_INTENDED)
    assert (denied.outcome, denied.policies, denied.context[0]["signed"]) == (
        "refused",
        ("high-risk-is-signed",),
        False,
    )
    assert (allowed.outcome, allowed.context[0]["signed"]) == ("intended", True)


async def test_what_policy_does_not_want_signed_is_approved_with_a_session(desk: World, tmp_path: Path) -> None:
    desk.demand(SIGNED, tmp_path / "policies")
    april, proposal = await enter(desk, "april"), await desk.propose(risk=Risk.LOW)
    assert "has to be signed" not in (await april.get(f"/proposals/{proposal.id}")).text
    assert (await april.decide(proposal)).status_code == 303


async def test_a_rejection_takes_no_signature(desk: World, tmp_path: Path) -> None:
    desk.demand(SIGNED, tmp_path / "policies")
    april, proposal = await enter(desk, "april"), await desk.propose()
    assert (await april.decide(proposal, "reject")).status_code == 303


async def test_an_assertion_that_does_not_hold_is_no_signature(desk: World, tmp_path: Path) -> None:
    desk.demand(SIGNED, tmp_path / "policies")
    april, device, proposal = await enter(desk, "april"), make_device("april"), await desk.propose()
    assert (await april.decide(proposal, credential=sign(device, proposal))).status_code == 409
    assert (await desk.book.get(proposal.id)).approvals == ()


async def test_where_there_are_no_passkeys_what_has_to_be_signed_is_denied_with_the_reason(
    desk: World, tmp_path: Path
) -> None:
    desk.demand(SIGNED, tmp_path / "policies")
    desk.change(passkeys=PasskeyUse.OFF)
    april, proposal = await enter(desk, "april"), await desk.propose()
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert ("It has to be signed with a passkey." in page, "high-risk-is-signed" in page) == (True, True)
    assert (await april.decide(proposal)).status_code == 403


async def test_how_many_it_takes_is_found_by_asking_policy(desk: World, tmp_path: Path) -> None:
    strict, mild = await desk.propose(), await desk.propose(make_change("orders-api-staging"), risk=Risk.LOW)
    assert [count(desk).find_needed(one.content) for one in (strict, mild)] == [1, 1]
    desk.demand(MANY, tmp_path / "policies")
    thresholds = count(desk)
    assert [thresholds.find_needed(one.content) for one in (strict, mild)] == [2, 1]
    assert [thresholds.find_signed(one.content) for one in (strict, mild)] == [1, 0]
    assert count(desk, high=3).find_needed(strict.content) == 3, "the settings are the least"


async def test_what_wants_more_than_is_asked_for_needs_the_most_and_is_never_applied(
    desk: World, tmp_path: Path
) -> None:
    desk.demand(MANY.replace("approvals >= 2", "approvals >= 9"), tmp_path / "policies")
    proposal = await desk.propose()
    assert count(desk).find_needed(proposal.content) == 1, "nothing that is asked for makes a difference"
    desk.demand(MANY.replace("approvals >= 2", f"approvals >= {MOST}"), tmp_path / "more")
    assert count(desk).find_needed(proposal.content) == MOST


async def test_the_last_approval_has_to_be_signed_where_too_few_others_are(desk: World, tmp_path: Path) -> None:
    desk.demand(MANY, tmp_path / "policies")
    thresholds = count(desk)
    desk.change(must_sign=thresholds.must_sign)
    desk.book = ProposalBook(desk.state, desk.audit, ProposalSettings(), desk.clock, quorum=thresholds.find_needed)
    desk.change(book=desk.book)
    april, bob, proposal = await enter(desk, "april"), await enter(desk, "bob"), await desk.propose()
    assert proposal.content.approvals_needed == 2
    assert not thresholds.must_sign(proposal), "the other one may sign"
    assert (await april.decide(proposal)).status_code == 303
    proposal = await desk.book.get(proposal.id)
    assert (proposal.state, thresholds.must_sign(proposal)) == (ProposalState.PROPOSED, True)
    assert (await bob.decide(proposal)).status_code == 409
    device = make_device("bob")
    await enrol(bob, device)
    assert (await bob.decide(proposal, credential=sign(device, proposal))).status_code == 303
    assert (await desk.book.get(proposal.id)).state is ProposalState.APPROVED


async def show_in_terminal(desk: World, proposal: Proposal) -> dict[str, Any]:
    april = make_caller("april", "approver", agent="arborgate-terminal", channel=Channel.TERMINAL, at=int(desk.clock()))

    async def authenticate(_scope: Scope) -> Caller:
        return april

    desk.change(terminal=authenticate)
    shown: dict[str, Any] = (await desk.visit().get(f"/approvals/{proposal.id}")).json()
    return shown


async def test_the_terminal_leads_to_the_page_what_policy_or_the_settings_want_signed(
    desk: World, tmp_path: Path
) -> None:
    proposal = await desk.propose()
    assert (await show_in_terminal(desk, proposal))["approve"]["allowed"] is True
    desk.change(passkeys=PasskeyUse.REQUIRED)
    by_settings = (await show_in_terminal(desk, proposal))["approve"]
    desk.change(passkeys=PasskeyUse.OPTIONAL)
    desk.demand(SIGNED, tmp_path / "policies")
    by_policy = (await show_in_terminal(desk, proposal))["approve"]
    for one in (by_settings, by_policy):
        assert (one["allowed"], one["signs"], one["login_helps"]) == (False, True, False)
        assert one["why"].startswith("This has to be signed with your passkey. Decide on its page in the browser")


async def test_the_page_opens_from_the_terminal_where_there_is_a_browser(
    desk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(cli_proposals, "open_browser", opened.append)
    desk.change(passkeys=PasskeyUse.REQUIRED)
    proposal = await desk.propose()
    shown = Shown.model_validate(await show_in_terminal(desk, proposal))
    session = SimpleNamespace(slot=SimpleNamespace(origin="https://arborgate.example"))
    server = cli_proposals._Server(session, None, None)  # type: ignore[arg-type]
    page = f"https://arborgate.example/proposals/{proposal.id}"
    for browser in (False, True):
        monkeypatch.setattr(cli_proposals, "has_browser", lambda browser=browser: browser)
        denied = server.deny(shown, shown.approve)
        assert (denied.hint, opened) == (f"Its page: {page}", [page] if browser else [])
