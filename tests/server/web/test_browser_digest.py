"""The digest that a browser computes from what a page shows: the same as ours for all content, and never for a lie."""

import asyncio
import secrets
import unicodedata
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.async_api import Page, expect

from arborgate.server.passkeys import write_statement
from arborgate.server.web.words import reveal
from arborgate.tools.change import Change
from arborgate.tools.diff import diff_objects
from arborgate.tools.proposal import Proposal, Verdict, digest_content
from arborgate.tools.risk import Factor
from tests.server.web.test_browser import log_in
from tests.server.web.test_browser_passkeys import Device, add_passkey, approve, site
from tests.server.web.world import World, make_change, make_factor

pytestmark = pytest.mark.anyio
__all__ = ["site"]

HOSTILE: list[Any] = [
    {},
    [],
    "",
    {"": "", "a": None, "A": True, "\u00e9": False, "e\u0301": 1},
    {
        "\U0001f600": "beyond the BMP",
        "\ufb33": "before it by UTF-16, after it by code points",
        "\u20ac": 2,
        "\r": 3,
        "1": 4,
    },
    {"10": 1, "9": 2, "01": 3, "1": 4, "-1": 5, "1.5": 6},
    {"__proto__": 1, "constructor": 2, "toString": 3, "hasOwnProperty": 4},
    '\u0000\u0001\b\t\n\f\r\u001f\u007f\u0080\u2028\u2029"\\/\ufeff\u202e\U000e0041',
    [0, -0.0, 1, -1, 2**53 - 1, -(2**53) + 1],
    [
        1e21,
        1e20,
        1e-6,
        1e-7,
        123456789012345680000.0,
        5e-324,
        1.7976931348623157e308,
        0.1 + 0.2,
        1795275668.8,
        1.0,
        3.0,
    ],
    [1_800_000_000.001, 1_800_000_000.999, 1_795_189_268.125, 9_007_199_254_740_991.0, 0.000001, 100.0],
    {"a": {"z": [1, {"b": 2, "a": [{}]}], "y": {"x": None}}, "A": []},
]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
async def script(page: Page, site: World) -> Page:
    """A page of ours with the scripts on it, and nothing for them to do."""
    await page.goto(f"{site.url}/login")
    for name in ("digest.js", "passkeys.js"):
        await page.add_script_tag(url=f"{site.url}/static/{name}")
    return page


async def test_canonical_json_is_the_same_in_the_browser_and_here(script: Page) -> None:
    samples: list[Any] = [*HOSTILE]

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=(HealthCheck.too_slow,))
    @given(JSON)
    def collect(value: Any) -> None:
        samples.append(value)

    await asyncio.to_thread(collect)
    texts = [orjson.dumps(one).decode() for one in samples]
    written = await script.evaluate("(texts) => texts.map((text) => canonicalise(JSON.parse(text)))", texts)
    assert written == [rfc8785.dumps(one).decode() for one in samples]


async def test_what_is_not_drawn_is_told_from_what_is_written_out_for_it(script: Page) -> None:
    """Characters that Python's Unicode does not know yet aside: they are drawn as something."""
    every = [*range(0xD800), *range(0xE000, 0xE100), *range(0xF900, 0x10000), *range(0x1F300, 0x1F700)]
    known = [one for one in map(chr, (*every, *range(0xE0000, 0xE0200))) if unicodedata.category(one) != "Cn"]
    shown = list(map(reveal, known))
    assert await script.evaluate("(texts) => texts.map(restore)", shown) == known
    hidden = await script.evaluate("(texts) => texts.map((text) => HIDDEN.test(text))", [*shown, *known])
    assert hidden == [False] * len(shown) + [reveal(one) != one for one in known]
    assert await script.evaluate("restore('⟨U+FFFFFF⟩⟨U+00⟩')") == "⟨U+FFFFFF⟩⟨U+00⟩"


async def test_the_statement_is_the_same_in_the_browser_and_here(script: Page, site: World) -> None:
    proposal = await site.propose()
    content = rfc8785.dumps(proposal.content.model_dump(mode="json")).decode()
    told = {"content": content, "approver": "https://issuer.test#\u00e9va", "type": "arborgate-approval/1"}
    until = 1_795_275_668.875
    for verdict, end in ((Verdict.APPROVE, 0.0), (Verdict.REJECT, 0.0), (Verdict.BREAK_GLASS, until)):
        written = await script.evaluate(
            "([told, verdict, until]) => writeStatement(told, verdict, until)", [told, verdict, until]
        )
        assert written == write_statement(
            proposal.content, digest_content(proposal.content), verdict, told["approver"], end
        )


def rich() -> tuple[Change, ...]:
    """What a page can be made to show: many lines, hidden characters, right to left, no diff, no undo."""
    before = {"spec": {f"field{number}": number for number in range(60)}}
    after = {"spec": {**before["spec"], "field7": "\u05e9\u05dc\u05d5\u05dd", "field30": "<b>x</b>", "field59": True}}
    long = diff_objects(
        before, after, [f"/spec/field{number}" for number in range(60)], name="Application argocd/orders-api"
    )
    return (
        make_change(diff=long, summary="Set \u05e9\u05dc\u05d5\u05dd\u202e to <i>1</i>"),
        make_change("payments-api", diff="", undo=None, undo_note="Nothing is left to undo.", wave=3),
    )


async def open_page(site: World, page: Page, *changes: Change) -> Proposal:
    await Device.plug_in(page)
    factors = (make_factor("production is strict"), make_factor("At night.", Factor.OFF_HOURS))
    proposal = await site.propose(*changes, factors=factors, reason="It fails.\nSee the \u202egraph.")
    await log_in(page, site, "april")
    await add_passkey(page, site)
    await page.goto(f"{site.url}/proposals/{proposal.id}")
    return proposal


async def test_the_browser_computes_the_digest_of_what_it_shows(site: World, page: Page) -> None:
    proposal = await open_page(site, page, *rich())
    told = f"Computed on this device from what is shown here: {proposal.digest[:12]}."
    await expect(page.locator("[data-computed]").first).to_have_text(told)
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("Approved. The applier takes it up next.")).to_be_visible()


LIES = {
    "title": "document.querySelector('h1').textContent = 'Nothing much'",
    "reason": "document.querySelector('[data-shows=\"/reason\"]').append('!')",
    "diff of change 1": "document.querySelector('ins').textContent = 'replicas: 3'",
    "summary of change 1": "document.querySelector('[data-shows=\"/changes/0/summary\"]').remove()",
    "undo of change 1": "document.querySelector('[data-shows=\"/changes/0/undo\"]').textContent = 'Nobody knows'",
    "target of change 1": "document.querySelector('[data-shows=\"/changes/0/target\"]').hidden = true",
    "factors": "document.querySelector('[data-shows=\"/factors\"] [data-line]').remove()",
    "environments": "document.querySelector('[data-shows=\"/environments\"] [data-line]').textContent = 'staging'",
    "approvals needed": "document.querySelector('[data-shows=\"/approvals_needed\"]').textContent = '2'",
}


@pytest.mark.parametrize(("named", "lie"), LIES.items(), ids=LIES)
async def test_a_page_that_shows_something_else_is_not_signed(site: World, page: Page, named: str, lie: str) -> None:
    proposal = await open_page(site, page)
    await expect(page.locator("[data-computed]").first).to_contain_text("Computed on this device")
    await page.evaluate(lie)
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.locator("[data-said]").first).to_have_text(
        f"This page does not show what would be signed: {named}. Nothing was signed: tell the platform team."
    )
    assert (await site.book.get(proposal.id)).approvals == ()


async def test_a_digest_that_the_server_gives_for_other_content_is_not_signed(site: World, page: Page) -> None:
    proposal = await open_page(site, page)
    await page.evaluate(
        "(digest) => { document.querySelector('[name=digest]').value = digest; }", secrets.token_hex(32)
    )
    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.locator("[data-said]").first).to_contain_text("is another one than the server’s")
    assert (await site.book.get(proposal.id)).approvals == ()


async def test_what_is_withheld_can_not_be_signed_and_says_so(site: World, page: Page) -> None:
    secret = "ghp_" + "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2"
    proposal = await open_page(site, page, make_change(summary=f"Set the token {secret}"))
    await expect(page.locator("[data-computed]").first).to_contain_text("Some of this is withheld on this page")
    await approve(page, site, proposal.id)
    await expect(page.locator("[data-said]").first).to_contain_text("Nothing was signed.")
    assert (await site.book.get(proposal.id)).approvals == ()
