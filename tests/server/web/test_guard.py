"""What protects the pages in a browser."""

import re

import pytest

from arborgate.policies.errors import BadConfiguration
from arborgate.server.web.guard import FORM_LIMIT, Origin
from arborgate.tools.proposal import ProposalState
from arborgate.tools.record import Event
from tests.server.web.world import World

pytestmark = pytest.mark.anyio

PAGES = (
    "/",
    "/login",
    "/login/callback",
    "/logout/done",
    "/proposals",
    "/proposals/p-none",
    "/apps",
    "/sessions",
    "/static/arborgate.css",
)


async def test_every_answer_has_the_headers_that_a_browser_needs(world: World) -> None:
    visitor = await world.enter("april", "approver")
    for path in PAGES:
        headers = (await visitor.get(path)).headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ), path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin", path
        assert headers["x-frame-options"] == "DENY", path


async def test_no_cache_keeps_a_page(world: World) -> None:
    visitor = await world.enter("april", "approver")
    for path in PAGES[:-1]:
        assert (await visitor.get(path)).headers["cache-control"] == "no-store", path


async def test_pages_hold_no_inline_script_or_style(world: World) -> None:
    visitor = await world.enter("april", "approver")
    proposal = await world.propose()
    await visitor.decide(proposal)
    for path in ("/login", "/proposals", f"/proposals/{proposal.id}", "/apps", "/sessions"):
        html = (await visitor.get(path)).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html), path
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", html)), path


@pytest.mark.parametrize(
    ("headers", "changed"),
    [
        ({"Origin": "https://evil.test", "Sec_Fetch_Site": "cross-site"}, {}),
        ({"Origin": "https://evil.test", "Sec_Fetch_Site": ""}, {}),
        ({"Origin": "http://127.0.0.1:8485"}, {}),
        ({"Origin": "null"}, {}),
        ({"Sec_Fetch_Site": "same-site"}, {}),
        ({"Origin": "", "Sec_Fetch_Site": "cross-site"}, {}),
        ({"Origin": "", "Sec_Fetch_Site": ""}, {}),
        ({}, {"csrf": ""}),
        ({}, {"csrf": "wrong"}),
        ({}, {"csrf": "ü"}),
    ],
)
async def test_a_form_that_our_page_did_not_send_decides_nothing(
    world: World, headers: dict[str, str], changed: dict[str, str]
) -> None:
    visitor = await world.enter("april", "approver")
    proposal = await world.propose()
    form = await visitor.read_form(f"/proposals/{proposal.id}")
    answer = await visitor.post(f"/proposals/{proposal.id}/approve", {**form, **changed}, **headers)
    assert answer.status_code == 403
    assert (await world.book.get(proposal.id)).state is ProposalState.PROPOSED
    (denied,) = world.records(Event.CALL_DENIED)
    assert (denied.caller, denied.resource) == ("https://issuer.test#april", f"/proposals/{proposal.id}/approve")


async def test_a_form_without_its_token_decides_nothing(world: World) -> None:
    visitor = await world.enter("april", "approver")
    proposal = await world.propose()
    answer = await visitor.post(f"/proposals/{proposal.id}/approve", {"digest": proposal.digest})
    assert answer.status_code == 403


async def test_the_token_of_another_session_decides_nothing(world: World) -> None:
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    proposal = await world.propose()
    form = await abel.read_form(f"/proposals/{proposal.id}")
    assert (await april.post(f"/proposals/{proposal.id}/approve", form)).status_code == 403


async def test_a_form_of_a_session_that_has_ended_says_so(world: World) -> None:
    visitor = await world.enter("april", "approver")
    proposal = await world.propose()
    form = await visitor.read_form(f"/proposals/{proposal.id}")
    world.clock.forward(world.pages.settings.session_limit)
    answer = await visitor.post(f"/proposals/{proposal.id}/approve", form)
    assert answer.status_code == 401
    assert f"next=/proposals/{proposal.id}" in answer.text


async def test_decisions_are_forms_of_limited_size(world: World) -> None:
    visitor = await world.enter("april", "approver")
    proposal = await world.propose()
    path = f"/proposals/{proposal.id}/approve"
    form = await visitor.read_form(f"/proposals/{proposal.id}")
    assert (await visitor.post(path, {**form, "comment": "x" * FORM_LIMIT})).status_code == 400
    assert (await visitor.post(path, {**form, "comment": "x" * 2_001})).status_code == 400
    as_json = {"Origin": world.url, "Content-Type": "application/json"}
    assert (await visitor.client.post(path, json=form, headers=as_json)).status_code == 400
    assert (await visitor.get(path)).status_code == 405


def test_cookies_are_host_bound_and_secure_wherever_there_is_https() -> None:
    cookie = Origin.of("https://arborgate.test").cookie("arborgate")
    assert (cookie.name, cookie.secure) == ("__Host-arborgate", True)
    plain = Origin.of("http://127.0.0.1:8484").cookie("arborgate")
    assert (plain.name, plain.secure) == ("arborgate", False)


@pytest.mark.parametrize("url", ["http://arborgate.test", "http://0.0.0.0:8484", "http://127.0.0.1.evil.test"])
def test_pages_without_https_beyond_this_machine_do_not_start(url: str) -> None:
    with pytest.raises(BadConfiguration, match=r"http\.public_url"):
        Origin.of(url)
