"""Pausing, resuming and aborting on the pages: who may, what stands in the way, and what is on record of it."""

from pathlib import Path

import pytest

from arborgate.policies.model import Action
from arborgate.server.leases import Lease, Leases
from arborgate.tools.all import TOOLS
from arborgate.tools.proposal import Order, Proposal, ProposalState, Step, StepState
from arborgate.tools.record import Event
from tests.server.web.world import Visitor, World

pytestmark = pytest.mark.anyio

WHY = "The error rate of checkout doubles."


async def begin(world: World) -> tuple[Proposal, Lease]:
    """A proposal that is being applied."""
    proposal = await world.propose()
    approver = await world.enter("abel", "approver")
    assert (await approver.decide(proposal)).status_code == 303
    targets = [change.target for change in proposal.content.changes]
    lease = await Leases(world.state, "applier-1", 30.0).acquire(proposal.id, targets)
    return await world.book.begin(proposal.id, lease, await world.book.counts(proposal)), lease


async def steer(visitor: Visitor, proposal: Proposal, command: str, **fields: str) -> int:
    """Sends the form of the proposal's page; the status."""
    form = await visitor.read_form(f"/proposals/{proposal.id}")
    return (await visitor.post(f"/proposals/{proposal.id}/{command}", {**form, **fields})).status_code


async def standing(world: World, proposal: Proposal) -> Order | None:
    seen = await world.book.get(proposal.id)
    hold = await world.steering.standing(seen)
    return hold.order if hold else None


async def test_what_is_applied_is_paused_resumed_and_aborted(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal, _ = await begin(world)
    assert await steer(april, proposal, "pause") == 303
    assert await standing(world, proposal) is Order.PAUSE
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "Paused by a person." in page
    assert await steer(april, proposal, "resume") == 303
    assert await standing(world, proposal) is None
    assert await steer(april, proposal, "abort", comment=WHY) == 303
    assert await standing(world, proposal) is Order.ABORT
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "A person has aborted it." in page
    assert WHY in page
    assert "/abort" not in page
    told = world.records(Event.PROPOSAL_PAUSED, Event.PROPOSAL_RESUMED, Event.PROPOSAL_ABORTED)
    assert [(one.event, one.outcome, one.caller, one.channel) for one in told] == [
        (event, outcome, "https://issuer.test#april", "pages")
        for event in (Event.PROPOSAL_PAUSED, Event.PROPOSAL_RESUMED, Event.PROPOSAL_ABORTED)
        for outcome in ("intended", "ok")
    ]
    assert (told[-1].detail, told[-1].proposal) == (WHY, proposal.id)
    decided = [one for one in world.records(Event.CALL_INTENDED) if one.action == Action.PROPOSAL_STEER]
    assert [one.policies for one in decided] == [("approvers-steer",)] * 3


async def test_what_is_stuck_is_released_by_a_person_who_says_what_they_did(world: World) -> None:
    april, viewer = await world.enter("april", "approver"), await world.enter("vera", "viewer")
    proposal, lease = await begin(world)
    assert await steer(april, proposal, "release", comment=WHY) == 409, "there is nothing to release"
    await world.book.finish(proposal.id, ProposalState.FAILED, "It broke.", lease)
    stuck = await world.book.step(proposal.id, 0, Step(state=StepState.STUCK, message="No undo."), lease)
    assert stuck.stuck
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "Release the targets" in page
    assert "/abort" not in page
    assert "Release the targets" not in (await viewer.get(f"/proposals/{proposal.id}")).text
    form = await april.read_form(f"/proposals/{proposal.id}")
    denied = await viewer.post(
        f"/proposals/{proposal.id}/release", {**await viewer.read_form("/proposals"), "comment": WHY}
    )
    assert denied.status_code == 403
    assert await steer(april, proposal, "release", comment=" ") == 400
    assert await steer(april, proposal, "abort", comment=WHY) == 409
    assert await steer(april, proposal, "release", comment=WHY) == 303
    released = await world.book.get(proposal.id)
    assert released.release is not None
    assert (released.release.by.name, released.release.comment, released.stuck) == ("April", WHY, False)
    told = world.records(Event.PROPOSAL_RELEASED)
    assert [(one.outcome, one.detail) for one in told] == [("intended", WHY), ("ok", WHY)]
    again = await april.post(f"/proposals/{proposal.id}/release", {**form, "comment": WHY})
    assert again.status_code in (409, 422)


async def test_an_abort_is_not_taken_back_and_needs_a_reason(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal, _ = await begin(world)
    assert await steer(april, proposal, "resume") == 409
    assert await steer(april, proposal, "abort", comment=" ") == 400
    assert await standing(world, proposal) is None
    assert await steer(april, proposal, "abort", comment=WHY) == 303
    form = await april.read_form("/proposals")
    for command in ("resume", "pause", "abort"):
        answer = await april.post(f"/proposals/{proposal.id}/{command}", {**form, "comment": "Rather not."})
        assert answer.status_code == 409, command
    assert await standing(world, proposal) is Order.ABORT


async def test_what_is_paused_already_is_not_paused_again(world: World) -> None:
    april, rita = await world.enter("april", "approver"), await world.enter("rita", "responder")
    proposal, _ = await begin(world)
    assert await steer(rita, proposal, "pause", comment="I look at it.") == 303
    form = await april.read_form("/proposals")
    assert (await april.post(f"/proposals/{proposal.id}/pause", form)).status_code == 409
    assert "I look at it." in (await april.get(f"/proposals/{proposal.id}")).text


@pytest.mark.parametrize(
    ("subject", "role", "may"),
    [
        ("dev", "developer", True),
        ("dora", "developer", False),
        ("april", "approver", True),
        ("rita", "responder", True),
        ("otto", "auditor", False),
        ("vera", "viewer", False),
    ],
)
async def test_who_asked_approvers_and_who_is_on_call_may(world: World, subject: str, role: str, may: bool) -> None:
    proposal, _ = await begin(world)
    somebody = await world.enter(subject, role, age=3_000)
    page = (await somebody.get(f"/proposals/{proposal.id}")).text
    assert (f"/proposals/{proposal.id}/abort" in page) is may
    form = await somebody.read_form("/proposals")
    answer = await somebody.post(f"/proposals/{proposal.id}/abort", {**form, "comment": WHY})
    assert answer.status_code == (303 if may else 403)
    assert (await standing(world, proposal) is Order.ABORT) is may
    if not may:
        (denied,) = world.records(Event.CALL_DENIED)
        assert (denied.action, denied.resource) == (Action.PROPOSAL_STEER, f"Proposal::{proposal.id}")


async def test_a_form_that_our_page_did_not_send_steers_nothing(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal, _ = await begin(world)
    form = await april.read_form(f"/proposals/{proposal.id}")
    path = f"/proposals/{proposal.id}/pause"
    for sent, headers in (
        ({**form, "csrf": "x"}, {}),
        ({"comment": WHY}, {}),
        (form, {"Origin": "https://evil.example"}),
        (form, {"Sec_Fetch_Site": "cross-site"}),
        (form, {"Origin": "", "Sec_Fetch_Site": ""}),
    ):
        assert (await april.post(path, sent, **headers)).status_code == 403
    assert (await april.get(path)).status_code == 405
    assert (await world.visit().post(path, form)).status_code == 401
    assert await standing(world, proposal) is None


async def test_what_may_not_be_seen_is_not_steered_and_looks_like_what_is_not_there(world: World) -> None:
    proposal, _ = await begin(world)
    nora = await world.enter("nora")
    form = {**await nora.read_form("/proposals"), "comment": WHY}
    hidden = await nora.post(f"/proposals/{proposal.id}/abort", form)
    missing = await nora.post("/proposals/p-0000000000000000/abort", form)
    assert (hidden.status_code, hidden.text) == (missing.status_code, missing.text) == (404, missing.text)
    assert await standing(world, proposal) is None


async def test_only_what_is_approved_or_being_applied_is_steered(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    form = {**await april.read_form("/proposals"), "comment": WHY}
    assert (await april.post(f"/proposals/{proposal.id}/pause", form)).status_code == 409
    assert (await april.decide(proposal)).status_code == 303
    assert await steer(april, proposal, "pause") == 303
    assert "Approved. Paused by a person." in (await april.get(f"/proposals/{proposal.id}")).text
    await world.book.close(proposal.id, ProposalState.STALE, "it moved")
    assert (await april.post(f"/proposals/{proposal.id}/abort", form)).status_code == 409
    assert "Pause or abort" not in (await april.get(f"/proposals/{proposal.id}")).text


def test_no_tool_steers() -> None:
    assert Action.PROPOSAL_STEER not in {tool.action for tool in TOOLS}


async def test_a_comment_carries_no_secret(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal, _ = await begin(world)
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    assert await steer(april, proposal, "pause", comment=f"With {token} it works.") == 303
    assert token not in (await april.get(f"/proposals/{proposal.id}")).text
    assert token not in str(world.records())
    assert token not in str(await world.state.redis.get(world.state.key("hold", proposal.id)))


async def test_where_policy_asks_for_another_login_it_is_offered(world: World, tmp_path: Path) -> None:
    rule = (
        '@id("fresh") forbid (principal, action == Action::"proposal:steer", resource) when { context.login_age > 60 };'
    )
    proposal, _ = await begin(world)
    world.demand(rule, tmp_path / "policies")
    april = await world.enter("april", "approver", age=61)
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "Log in again to steer" in page
    assert f"/proposals/{proposal.id}/login" in page
    assert await steer(april, proposal, "pause") == 403
