"""Who may see and decide a proposal, and what is on record of it."""

import re
from pathlib import Path

import pytest

from arborgate.policies.errors import Unrecorded
from arborgate.policies.model import Action
from arborgate.server.settings import ProposalSettings
from arborgate.tools.proposal import ProposalState
from arborgate.tools.record import Entry, Event, Record
from arborgate.tools.risk import Risk
from tests.server.pasts import decide_again
from tests.server.web.world import DEV, World, make_caller, make_change, open_world

pytestmark = pytest.mark.anyio


async def test_an_approver_approves_what_they_saw(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    answer = await april.decide(proposal, comment="Looks right.\r\nGo.")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/proposals/{proposal.id}")
    decided = await world.book.get(proposal.id)
    assert decided.state is ProposalState.APPROVED
    (approval,) = decided.approvals
    assert (approval.digest, approval.approver.key) == (proposal.digest, "https://issuer.test#april")
    assert approval.comment == "Looks right.\nGo."
    assert approval.authenticated_at == world.clock()
    world.check_signature(approval)
    (intended,) = world.records(Event.CALL_INTENDED)
    assert (intended.action, intended.decision, intended.channel) == ("proposal:approve", "allow", "pages")
    assert intended.policies == ("approvers-decide",)
    assert [record.outcome for record in world.records(Event.PROPOSAL_APPROVED)] == ["intended", "ok"]


async def test_an_approver_rejects_with_a_comment(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    await april.decide(proposal, "reject", comment="Not during the sale.")
    decided = await world.book.get(proposal.id)
    assert (decided.state, decided.approvals[0].comment) == (ProposalState.REJECTED, "Not during the sale.")
    assert "Not during the sale." in (await april.get(f"/proposals/{proposal.id}")).text


async def test_an_approved_proposal_can_still_be_stopped(world: World) -> None:
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    proposal = await world.propose()
    await april.decide(proposal)
    await abel.decide(proposal, "reject")
    assert (await world.book.get(proposal.id)).state is ProposalState.REJECTED


@pytest.mark.parametrize("digest", ["", "0" * 64, "ü"])
async def test_another_digest_than_the_one_shown_decides_nothing(world: World, digest: str) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    for verdict in ("approve", "reject"):
        answer = await april.decide(proposal, verdict, digest=digest)
        assert answer.status_code == 409
        assert "What you saw is not what this proposal says now" in answer.text
    assert (await world.book.get(proposal.id)).state is ProposalState.PROPOSED


async def test_the_requester_never_decides_on_their_own(world: World) -> None:
    proposal = await world.propose(caller=make_caller("april", "approver", agent="ide-copilot"))
    april = await world.enter("april", "approver")
    page = await april.get(f"/proposals/{proposal.id}")
    assert "You asked for this yourself" in page.text
    assert f"/proposals/{proposal.id}/approve" not in page.text
    form = {**await april.read_form("/proposals"), "digest": proposal.digest}
    assert (await april.post(f"/proposals/{proposal.id}/approve", form)).status_code == 409
    assert (await april.post(f"/proposals/{proposal.id}/reject", form)).status_code == 403
    assert (await world.book.get(proposal.id)).state is ProposalState.PROPOSED
    denied = world.records(Event.CALL_DENIED)
    assert [record.action for record in denied] == [Action.PROPOSAL_APPROVE, Action.PROPOSAL_REJECT]
    assert denied[0].policies == ("nobody-decides-on-their-own",)


@pytest.mark.parametrize("role", ["developer", "viewer", "auditor"])
async def test_whoever_is_no_approver_reads_and_cannot_decide(world: World, role: str) -> None:
    proposal = await world.propose()
    somebody = await world.enter("somebody", role)
    page = await somebody.get(f"/proposals/{proposal.id}")
    assert page.status_code == 200
    assert "No policy allows you to." in page.text
    form = {**await somebody.read_form("/proposals"), "digest": proposal.digest}
    assert (await somebody.post(f"/proposals/{proposal.id}/approve", form)).status_code == 403
    assert (await world.book.get(proposal.id)).state is ProposalState.PROPOSED


async def test_what_may_not_be_seen_looks_like_what_is_not_there(world: World) -> None:
    proposal = await world.propose()
    nobody = await world.enter("nora")
    hidden = await nobody.get(f"/proposals/{proposal.id}")
    missing = await nobody.get("/proposals/p-0000000000000000")
    assert (hidden.status_code, hidden.text) == (missing.status_code, missing.text)
    assert hidden.status_code == 404
    form = {**await nobody.read_form("/proposals"), "digest": proposal.digest}
    assert (await nobody.post(f"/proposals/{proposal.id}/approve", form)).status_code == 404
    assert (await nobody.get("/proposals")).status_code == 403
    (denied, *_) = world.records(Event.CALL_DENIED)
    assert (denied.action, denied.resource) == ("proposal:read", f"Proposal::{proposal.id}")


async def test_production_needs_a_recent_login_and_the_page_offers_one(world: World) -> None:
    april = await world.enter("april", "approver", age=901)
    proposal = await world.propose()
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "Your login is too old for this." in page
    assert f'formaction="/proposals/{proposal.id}/login"' in page
    assert (await april.decide(proposal)).status_code == 403
    assert f"/proposals/{proposal.id}" in (await april.get("/proposals")).text.partition("All others")[0]


async def test_a_provider_that_does_not_say_when_approves_nothing_in_production(world: World) -> None:
    april = await world.enter("april", "approver", age=None)
    assert (await april.decide(await world.propose())).status_code == 403


async def test_staging_takes_an_older_login(world: World) -> None:
    april = await world.enter("april", "approver", age=901)
    proposal = await world.propose(make_change("orders-api-staging"), environments=("staging",), risk=Risk.LOW)
    assert (await april.decide(proposal)).status_code == 303


async def test_a_proposal_that_reaches_into_production_is_judged_by_it(world: World) -> None:
    april = await world.enter("april", "approver", age=901)
    proposal = await world.propose(make_change("orders-api-staging"), make_change("orders-api"))
    assert (await april.decide(proposal)).status_code == 403


async def test_an_expired_proposal_is_not_decided(world: World) -> None:
    proposal = await world.propose()
    world.clock.now = proposal.content.expires_at
    april = await world.enter("april", "approver")
    assert "It has expired" in (await april.get(f"/proposals/{proposal.id}")).text
    form = {**await april.read_form("/proposals"), "digest": proposal.digest}
    assert (await april.post(f"/proposals/{proposal.id}/approve", form)).status_code == 409
    assert (await world.book.get(proposal.id)).state is not ProposalState.APPROVED


async def test_who_comes_second_is_told_so(world: World) -> None:
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    proposal = await world.propose()
    form = await abel.read_form(f"/proposals/{proposal.id}")
    await april.decide(proposal)
    answer = await abel.post(f"/proposals/{proposal.id}/approve", form)
    assert (answer.status_code, "It is approved" in answer.text) == (409, True)
    assert len((await world.book.get(proposal.id)).approvals) == 1


async def test_high_risk_takes_as_many_people_as_the_settings_say(tmp_path: Path, redis_url: str) -> None:
    two = ProposalSettings(approvals_high=2)
    async with open_world(tmp_path, redis_url, proposals=two) as world:
        april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
        proposal = await world.propose()
        form = await april.read_form(f"/proposals/{proposal.id}")
        assert (await april.decide(proposal)).status_code == 303
        page = (await april.get(f"/proposals/{proposal.id}")).text
        assert "1 of 2 approvals" in re.sub(r"<[^>]+>", "", page)
        assert "You have approved it already." in page
        assert f"/proposals/{proposal.id}" not in (await april.get("/proposals")).text.partition("All others")[0]
        assert (await april.post(f"/proposals/{proposal.id}/approve", form)).status_code == 409
        assert (await world.book.get(proposal.id)).state is ProposalState.PROPOSED
        await abel.decide(proposal)
        assert (await world.book.get(proposal.id)).state is ProposalState.APPROVED


async def test_nothing_is_shown_or_decided_off_the_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    form = await april.read_form(f"/proposals/{proposal.id}")

    async def refuse(_entry: Entry) -> Record:
        raise Unrecorded("The audit log can't be written, so nothing may be answered.")

    monkeypatch.setattr(world.audit, "write", refuse)
    for path in ("/proposals", f"/proposals/{proposal.id}", "/apps"):
        answer = await april.get(path)
        assert (answer.status_code, proposal.content.title in answer.text) == (503, False)
    assert (await april.post(f"/proposals/{proposal.id}/approve", form)).status_code == 503
    monkeypatch.undo()
    assert (await world.book.get(proposal.id)).state is ProposalState.PROPOSED


async def test_every_look_is_on_record(world: World) -> None:
    april = await world.enter("april", "approver")
    proposal = await world.propose()
    for path in ("/proposals", f"/proposals/{proposal.id}", "/apps"):
        await april.get(path)
    looks = world.records(Event.CALL_ANSWERED)
    assert [look.action for look in looks] == ["proposal:list", "proposal:list", "proposal:read", "app:list"]
    assert {(look.caller_name, look.channel, look.outcome) for look in looks} == {("April", "pages", "ok")}


async def test_the_record_on_the_page_shows_only_what_the_reader_may_search(world: World) -> None:
    proposal = await world.propose()
    developer, auditor = await world.enter("dev", "developer"), await world.enter("olga", "auditor")
    path = f"/proposals/{proposal.id}"
    await world.wait_searchable(proposal)
    own = (await developer.get(path)).text.partition("On record so far")[2]
    everything = (await auditor.get(path)).text.partition("On record so far")[2]
    assert "proposal:drafted" in own
    assert "proposal:proposed" not in own
    assert "proposal:proposed" in everything
    assert DEV.name in everything


async def test_what_people_decide_on_can_be_decided_again_from_the_log_alone(world: World) -> None:
    april, viewer = await world.enter("april", "approver", age=60), await world.enter("vera", "viewer")
    proposal = await world.propose()
    await april.get(f"/proposals/{proposal.id}")
    await april.decide(proposal)
    await viewer.decide(proposal)
    await april.get("/proposals/p-nowhere")

    found = decide_again(world.audit.path, world.pages.engine())

    assert {(record.action, record.decision) for record, _ in found} >= {
        ("proposal:read", "allow"),
        ("proposal:approve", "allow"),
        ("proposal:approve", "deny"),
    }
    for record, again in found:
        assert (again.allowed, again.policies) == (record.decision == "allow", record.policies)
    (approved,) = [record for record, _ in found if record.event is Event.CALL_INTENDED]
    assert approved.decided_at == world.clock()
    assert approved.context == ({"applied_today": 0, "signed": False},)
