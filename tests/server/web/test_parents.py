"""The vote of a parent app on the pages: shown as the app's, with its reason, and as no person's."""

import pytest

from arborgate.server.parent_statements import ParentVerdict, Statement
from arborgate.server.parents import make_approval
from arborgate.tools.proposal import Proposal
from arborgate.tools.risk import Risk
from tests.server.web.world import World

pytestmark = pytest.mark.anyio

ATTACK = "<script>approved by the CISO</script>"


async def vote(world: World, proposal: Proposal, reason: str) -> Proposal:
    """The applier has counted what the parent app signed, which the pages take from the state."""
    statement = Statement(
        proposal=proposal.id,
        digest=proposal.digest,
        verdict=ParentVerdict.APPROVE,
        reason=reason,
        app="main/argocd/orders",
        iat=world.clock(),
        exp=world.clock() + 600,
        jti="a" * 22,
    )
    return await world.book.decide(make_approval(statement, "signed"), alone=True)


async def test_the_vote_of_a_parent_app_is_shown_as_the_apps_with_its_reason(world: World) -> None:
    proposal = await world.propose(risk=Risk.LOW)
    approved = await vote(world, proposal, f"Inside the budget. {ATTACK}")
    visitor = await world.enter("april", "approver")

    html = (await visitor.get(f"/proposals/{proposal.id}")).text

    assert approved.state == "approved"
    assert "the parent app main/argocd/orders, inside its budget" in html
    assert "Inside the budget." in html
    assert ATTACK not in html


async def test_at_a_high_risk_the_page_says_that_a_person_is_waited_for(world: World) -> None:
    proposal = await world.propose(risk=Risk.HIGH)
    waiting = await vote(world, proposal, "Inside the budget.")
    visitor = await world.enter("april", "approver")

    html = (await visitor.get(f"/proposals/{proposal.id}")).text

    assert waiting.state == "proposed"
    assert "waits for a person as well" in html
    assert (await visitor.decide(proposal)).status_code == 303
    assert (await world.book.get(proposal.id)).state == "approved"
