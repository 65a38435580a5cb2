"""A newer or stronger login for one decision: what the page says, what the provider is asked, and what comes of it."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from arborgate.tools.proposal import ProposalState
from tests.server.issuing import ISSUER
from tests.server.web.hostile import Hostile
from tests.server.web.world import Visitor, World, open_world

pytestmark = pytest.mark.anyio

STRONG = """
@id("production-needs-a-key")
forbid (principal, action == Action::"proposal:approve", resource)
when { context.strict } unless { context.acr == "key" };
"""


async def press(visitor: Visitor, proposal_id: str, comment: str = "") -> dict[str, str]:
    """Presses the button of the notice; returns what the provider is asked."""
    form = await visitor.read_form(f"/proposals/{proposal_id}")
    answer = await visitor.post(f"/proposals/{proposal_id}/login", {**form, "comment": comment})
    assert answer.status_code == 200
    (url,) = re.findall(r'content="0; url=([^"]+)"', answer.text)
    assert f'href="{url}"' in answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(url.replace("&amp;", "&")).query).items()}


async def test_the_page_says_what_policy_asks_for_and_what_the_login_was(world: World) -> None:
    april = await world.enter("april", "approver", age=901)
    page = (await april.get(f"/proposals/{(await world.propose()).id}")).text
    assert "policy asks for a login that is at most 15 minutes old. You logged in 15m ago." in page
    untold = await world.enter("april", "approver", age=None)
    page = (await untold.get(f"/proposals/{(await world.propose()).id}")).text
    assert "your identity provider does not tell when you logged in" in page


async def test_the_provider_is_asked_for_what_policy_asks_for(tmp_path: Path, redis_url: str, hostile: Hostile) -> None:
    async with open_world(tmp_path / "record", redis_url, issuer=ISSUER) as world:
        world.demand(STRONG, tmp_path / "policies")
        world.change(acr_values=("pwd", "key"), client=hostile.client)
        april = await world.enter("april", "approver", age=60, acr="pwd")
        proposal = await world.propose()
        page = (await april.get(f"/proposals/{proposal.id}")).text
        assert "policy asks for a stronger login than yours: <code>key</code>, not <code>pwd</code>" in page
        assert "needs a stronger login" in (await april.get("/proposals")).text
        asked = await press(april, proposal.id, "So far.")
        assert (asked["prompt"], asked["max_age"], asked["acr_values"]) == ("login", "900", "key")
        assert "So far.</textarea>" in (await april.get(f"/proposals/{proposal.id}")).text


async def test_a_login_that_is_good_enough_needs_no_other(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    form = await april.read_form(f"/proposals/{proposal.id}")
    answer = await april.post(f"/proposals/{proposal.id}/login", {**form, "comment": "x"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/proposals/{proposal.id}")


async def test_what_was_typed_survives_a_decision_that_failed(world: World) -> None:
    april = await world.enter("april", "approver", age=899)
    proposal = await world.propose()
    path = f"/proposals/{proposal.id}"
    form = await april.read_form(path)
    world.clock.forward(2)
    answer = await april.post(f"{path}/approve", {**form, "comment": "Typed <b>slowly</b>."})
    assert answer.status_code == 403
    assert "Typed &lt;b&gt;slowly&lt;/b&gt;.</textarea>" in (await april.get(path)).text
    other = await world.propose()
    assert "slowly" not in (await april.get(f"/proposals/{other.id}")).text
    await april.decide(proposal, "reject", comment="Typed again.")
    assert (await world.book.get(proposal.id)).state is ProposalState.REJECTED
    session = await world.sessions.find(april.client.cookies["arborgate"], world.browser)
    assert session is not None
    assert session.draft is None


async def test_only_a_form_of_ours_sends_anybody_to_the_provider(world: World) -> None:
    april = await world.enter("april", "approver", age=901)
    proposal = await world.propose()
    form = await april.read_form(f"/proposals/{proposal.id}")
    path = f"/proposals/{proposal.id}/login"
    assert (await april.post(path, form, Origin="https://evil.test")).status_code == 403
    assert (await april.post(path, {**form, "csrf": "x"})).status_code == 403
    assert (await april.get(path)).status_code == 405
