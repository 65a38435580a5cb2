"""Breaking the glass on the pages: who is offered it, what it takes, how loud it is, and the review afterwards."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Scope

from arborgate.policies.errors import Denied
from arborgate.policies.model import Action, Binding, Caller, Channel
from arborgate.server.steering import Steering
from arborgate.server.web.review import Review
from arborgate.tools.all import TOOLS
from arborgate.tools.proposal import GLASS_REASON_LEAST, Finding, Proposal, ProposalState, Verdict
from arborgate.tools.record import Event
from arborgate.tools.risk import Factor
from tests.server.web.world import Visitor, World, make_caller, make_change, make_factor, open_world

pytestmark = pytest.mark.anyio

WHY = "Checkout is down for everybody, and nobody else answers."
TERMINAL = "arborgate-terminal"


async def break_glass(visitor: Visitor, proposal: Proposal, **changed: str) -> httpx2.Response:
    return await visitor.decide(proposal, "break-glass", **{"comment": WHY, "app": "orders-api", **changed})


async def apply(world: World, proposal: Proposal) -> None:
    """What the applier would do, as far as anybody here can tell."""
    await world.book.close(proposal.id, ProposalState.STALE, "it moved")


async def test_a_responder_breaks_the_glass_and_it_is_signed(world: World) -> None:
    proposal = await world.propose()
    rita = await world.enter("rita", "responder")
    page = (await rita.get(f"/proposals/{proposal.id}")).text
    assert "In an emergency: break the glass" in page
    assert (await break_glass(rita, proposal)).status_code == 303
    kept = await world.book.get(proposal.id)
    assert (kept.state, kept.breaker) == ("approved", "https://issuer.test#rita")
    assert kept.glass
    assert (kept.glass.comment, kept.glass.until) == (WHY, world.clock() + 900)
    world.check_signature(kept.glass)
    (intended,) = world.records(Event.CALL_INTENDED)
    assert (intended.action, intended.decision) == ("proposal:break_glass", "allow")
    assert [record.outcome for record in world.records(Event.GLASS_BROKEN)] == ["intended", "ok"]
    assert world.records(Event.PROPOSAL_APPROVED) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"comment": ""}, f"in at least {GLASS_REASON_LEAST} characters"),
        ({"comment": "hurry" + " " * 40}, f"in at least {GLASS_REASON_LEAST} characters"),
        ({"app": ""}, "type the name of the app: orders-api"),
        ({"app": "orders"}, "type the name of the app: orders-api"),
        ({"digest": "0" * 64}, "What you saw is not what this proposal says now"),
    ],
)
async def test_it_takes_a_reason_the_name_of_the_app_and_the_digest(
    world: World, changed: dict[str, str], told: str
) -> None:
    proposal = await world.propose()
    rita = await world.enter("rita", "responder")
    answer = await break_glass(rita, proposal, **changed)
    assert answer.status_code in (400, 409)
    assert told in answer.text
    assert (await world.book.get(proposal.id)).state == "proposed"
    assert world.records(Event.GLASS_BROKEN) == []


@pytest.mark.parametrize("role", ["viewer", "developer", "approver", "auditor"])
async def test_nobody_else_is_offered_it_or_can(world: World, role: str) -> None:
    proposal = await world.propose()
    visitor = await world.enter("somebody", role)
    assert "break the glass" not in (await visitor.get(f"/proposals/{proposal.id}")).text
    assert (await break_glass(visitor, proposal)).status_code == 403
    assert (await world.book.get(proposal.id)).state == "proposed"


@pytest.mark.parametrize("moment", [0.0, 0.0004, 0.0006, 0.9999])
async def test_it_can_be_broken_at_every_moment_of_a_second(world: World, moment: float) -> None:
    world.clock.forward(moment)
    rita = await world.enter("rita", "responder")
    assert (await break_glass(rita, await world.propose())).status_code == 303


async def test_a_responder_approves_nothing_in_the_ordinary_way(world: World) -> None:
    proposal = await world.propose()
    rita = await world.enter("rita", "responder")
    assert (await rita.decide(proposal)).status_code == 403
    assert (await world.book.get(proposal.id)).state == "proposed"


async def test_the_requester_never_breaks_it_for_their_own(world: World) -> None:
    rita = make_caller("rita", "responder", agent="ide-copilot")
    proposal = await world.propose(caller=rita)
    visitor = await world.enter("rita", "responder")
    assert "In an emergency" not in (await visitor.get(f"/proposals/{proposal.id}")).text
    answer = await break_glass(visitor, proposal)
    assert (answer.status_code, "You asked for this yourself" in answer.text) == (409, True)


async def test_a_login_older_than_five_minutes_has_to_be_renewed_first(world: World) -> None:
    proposal = await world.propose()
    rita = await world.enter("rita", "responder", age=301)
    page = (await rita.get(f"/proposals/{proposal.id}")).text
    assert "Log in again to break the glass" in page
    assert "policy asks for a login that is at most 5 minutes old" in page
    assert ">Break the glass</button>" not in page
    form = await rita.read_form(f"/proposals/{proposal.id}")
    assert form["for"] == "break_glass"
    answer = await rita.post(f"/proposals/{proposal.id}/login", {**form, "comment": WHY})
    assert answer.status_code != 303  # the provider is asked, and what was typed waits
    assert f"required>{WHY}</textarea>" in (await rita.get(f"/proposals/{proposal.id}")).text
    assert (await break_glass(rita, proposal)).status_code == 403
    assert (await world.book.get(proposal.id)).state == "proposed"


async def test_every_page_says_so_until_it_is_reviewed(world: World) -> None:
    proposal = await world.propose()
    rita, otto = await world.enter("rita", "responder"), await world.enter("otto", "auditor")
    banner = "The glass was broken</strong> for a change"
    assert banner not in (await otto.get("/proposals")).text
    await break_glass(rita, proposal)
    for visitor in (rita, otto):
        for path in ("/proposals", "/apps", "/sessions", "/glass", f"/proposals/{proposal.id}", "/proposals/p-none"):
            assert banner in (await visitor.get(path)).text, path
    assert WHY in (await otto.get("/glass")).text
    await apply(world, proposal)
    assert (await review(otto, proposal)).status_code == 303
    assert banner not in (await otto.get("/proposals")).text
    assert "has been reviewed" in (await otto.get("/glass")).text


async def test_who_may_not_see_the_proposal_is_not_told_of_it(world: World) -> None:
    proposal = await world.propose()
    await break_glass(await world.enter("rita", "responder"), proposal)
    nobody = await world.enter("nobody")
    assert "The glass was broken" not in (await nobody.get("/sessions")).text


async def review(
    visitor: Visitor, proposal: Proposal, finding: str = "justified", comment: str = "I saw it."
) -> httpx2.Response:
    form = await visitor.read_form(f"/proposals/{proposal.id}")
    return await visitor.post(f"/proposals/{proposal.id}/review", {**form, "finding": finding, "comment": comment})


async def broken(world: World) -> Proposal:
    proposal = await world.propose()
    await break_glass(await world.enter("rita", "responder"), proposal)
    await apply(world, proposal)
    return await world.book.get(proposal.id)


async def test_an_auditor_closes_the_review_with_a_verdict_and_a_comment(world: World) -> None:
    proposal = await broken(world)
    otto = await world.enter("otto", "auditor")
    assert "Close the review" in (await otto.get(f"/proposals/{proposal.id}")).text
    for finding, comment in (("", "I saw it."), ("maybe", "I saw it."), ("justified", " ")):
        assert (await review(otto, proposal, finding, comment)).status_code == 400
    assert (await review(otto, proposal, "not_justified", "It could wait.")).status_code == 303
    kept = await world.book.get(proposal.id)
    assert kept.review
    assert (kept.review.finding, kept.review.comment) == (Finding.NOT_JUSTIFIED, "It could wait.")
    (_, done) = world.records(Event.GLASS_REVIEWED)
    assert (done.outcome, done.detail, done.caller) == (
        "ok",
        "not justified: It could wait.",
        "https://issuer.test#otto",
    )
    page = (await otto.get(f"/proposals/{proposal.id}")).text
    assert "not justified" in page
    assert "It could wait." in page
    assert (await review(otto, proposal)).status_code == 409


@pytest.mark.parametrize(
    ("subject", "role"), [("rita", "auditor"), ("dev", "auditor"), ("vera", "viewer"), ("sam", "responder")]
)
async def test_who_had_a_part_in_it_or_does_not_answer_for_it_does_not_review(
    world: World, subject: str, role: str
) -> None:
    proposal = await broken(world)
    visitor = await world.enter(subject, role)
    page = (await visitor.get(f"/proposals/{proposal.id}")).text
    assert "Close the review" not in page
    assert "Nobody has reviewed that yet." in page
    assert (await review(visitor, proposal)).status_code in (403, 409)
    assert (await world.book.get(proposal.id)).unreviewed


async def test_who_left_one_unreviewed_for_three_days_is_told_why_there_is_no_other(world: World) -> None:
    await broken(world)
    world.clock.forward(259_201)
    proposal = await world.propose()
    rita = await world.enter("rita", "responder")
    page = (await rita.get(f"/proposals/{proposal.id}")).text
    assert "<code>old-broken-glass-is-reviewed-first</code>" in page
    assert (await break_glass(rita, proposal)).status_code == 403
    sam = await world.enter("sam", "responder")
    assert (await break_glass(sam, proposal)).status_code == 303


async def test_broken_glass_is_in_the_log_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await broken(world)
    assert len([record for record in caplog.records if "the glass was broken" in record.getMessage()]) == 1


async def test_the_page_tells_factors_with_their_weights_and_the_budget(world: World) -> None:
    factors = (make_factor("production is strict"), make_factor("At night.", Factor.OFF_HOURS))
    proposal = await world.propose(factors=factors)
    april = await world.enter("april", "approver")
    page = " ".join(re.sub(r"<[^>]+>", " ", (await april.get(f"/proposals/{proposal.id}")).text).split())
    assert "Why the risk is high 6" in page
    assert "Risk high 6; high from 4" in page
    assert "4 production is strict strict environment, weight 4." in page
    assert "2 At night. off hours, weight 2." in page
    assert "0 of 6 changes in the last 24 hours" in page


async def test_without_a_place_in_the_budget_nobody_approves_and_the_page_says_so(world: World) -> None:
    ledger = world.state.key("ledger", make_change().target.app)
    for number in range(6):
        await world.state.redis.zadd(ledger, {f"p-{number}/1": world.clock() - number})
    proposal = await world.propose()
    april = await world.enter("april", "approver")
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "6 of 6 changes in the last 24 hours" in page
    assert "none left" in page
    assert "<code>strict-apps-change-six-times-a-day</code>" in page
    assert (await april.decide(proposal)).status_code == 403
    assert (await april.decide(proposal, "reject")).status_code == 303


async def test_no_count_no_page(world: World) -> None:
    proposal = await world.propose()
    await world.state.redis.set(world.state.key("ledger", make_change().target.app), "nonsense")
    april = await world.enter("april", "approver")
    assert (await april.get(f"/proposals/{proposal.id}")).status_code == 503


def at_the_terminal(world: World, caller: Caller) -> httpx2.AsyncClient:
    async def authenticate(_scope: Scope) -> Caller:
        return caller

    app = Starlette(routes=replace(world.pages, terminal=authenticate).routes())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=world.url)


def responder(world: World, **fields: Any) -> Caller:
    rita = make_caller("rita", "responder", agent=TERMINAL, channel=Channel.TERMINAL, at=int(world.clock()))
    return replace(rita, **{"binding": Binding.DPOP, **fields})


async def test_at_the_terminal_it_takes_a_token_that_is_bound(world: World) -> None:
    proposal = await world.propose()
    body = {"digest": proposal.digest, "comment": WHY, "app": "orders-api"}
    path = f"/approvals/{proposal.id}/break_glass"
    for fields in ({"binding": Binding.BEARER}, {"itself": True}, {"authenticated_at": int(world.clock()) - 301}):
        async with at_the_terminal(world, responder(world, **fields)) as client:
            assert (await client.post(path, json=body)).status_code == 403, fields
    async with at_the_terminal(world, responder(world)) as client:
        for wrong in ({"comment": "short"}, {"app": "other"}, {"digest": "0" * 64}, {"more": "x"}):
            assert (await client.post(path, json={**body, **wrong})).status_code in (400, 409), wrong
        shown = (await client.get(f"/approvals/{proposal.id}")).json()
        assert shown["break_glass"]["allowed"]
        assert shown["budgets"] == [{"app": "orders-api", "applied": 0, "most": 6}]
        assert (await client.post(path, json=body)).json()["state"] == "approved"
        (listed,) = (await client.get("/approvals", params={"unreviewed": "1"})).json()["proposals"]
        assert listed["proposal"]["content"]["id"] == proposal.id


async def test_a_review_at_the_terminal(world: World) -> None:
    proposal = await broken(world)
    otto = make_caller("otto", "auditor", agent=TERMINAL, channel=Channel.TERMINAL, at=int(world.clock()))
    async with at_the_terminal(world, otto) as client:
        path = f"/approvals/{proposal.id}/review"
        assert (await client.post(path, json={"finding": "maybe", "comment": "x"})).status_code == 400
        answer = await client.post(path, json={"finding": "justified", "comment": "I saw it."})
    assert (answer.status_code, answer.json()["review"]["finding"]) == (200, "justified")


async def test_no_approval_path_takes_a_verdict_from_outside(world: World) -> None:
    """The verdict is in the path: what a form or a body says of it changes nothing."""
    proposal = await world.propose()
    april = await world.enter("april", "approver")
    answer = await april.decide(proposal, "break_glass", comment=WHY, app="orders-api")
    assert answer.status_code in (404, 405)
    form = await april.read_form(f"/proposals/{proposal.id}")
    await april.post(f"/proposals/{proposal.id}/approve", {**form, "verdict": "break_glass", "until": "9999999999"})
    (vote,) = (await world.book.get(proposal.id)).approvals
    assert (vote.verdict, vote.until) == (Verdict.APPROVE, 0.0)


async def test_how_long_it_lasts_is_for_the_settings(tmp_path: Path, redis_url: str) -> None:
    async with open_world(tmp_path / "record", redis_url) as world:
        world.change(glass_lasts=300.0)
        proposal = await world.propose()
        rita = await world.enter("rita", "responder")
        assert "has not begun within 5 minutes" in (await rita.get(f"/proposals/{proposal.id}")).text
        await break_glass(rita, proposal)
        kept = await world.book.get(proposal.id)
    assert kept.ends_at == world.clock() + 300


def test_no_tool_breaks_the_glass_or_reviews_it() -> None:
    assert {tool.action for tool in TOOLS}.isdisjoint({Action.PROPOSAL_BREAK_GLASS, Action.PROPOSAL_REVIEW})


@pytest.mark.parametrize("channel", [Channel.MCP, Channel.STDIO, Channel.APPLIER])
async def test_an_agent_of_a_responder_may_not_by_any_door(world: World, channel: Channel) -> None:
    proposal = await world.propose()
    pages = world.pages
    steering = Steering(world.state, pages.book, pages.audit, pages.clock)
    review = Review(pages.book, pages.records, pages.tree, pages.engine, pages.audit, pages.sign, steering, pages.clock)
    agent = responder(world, channel=channel, agent="copilot")
    assert not (await review.get(agent, proposal.id)).break_glass.open
    with pytest.raises(Denied):
        await review.decide(
            agent, proposal.id, Verdict.BREAK_GLASS, digest=proposal.digest, comment=WHY, app="orders-api"
        )
    assert (await world.book.get(proposal.id)).state == "proposed"
