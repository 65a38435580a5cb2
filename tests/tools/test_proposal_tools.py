"""The tools `proposal_get`, `proposal_list` and `proposal_withdraw`."""

from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import Reason
from arborgate.policies.model import Caller
from arborgate.tools.change import Change, ChangeKind, Check, Precondition, Rehearsal, Rehearsed, Target
from arborgate.tools.proposal import (
    Approval,
    Content,
    Proposal,
    ProposalState,
    Requester,
    Step,
    StepState,
    Verdict,
)
from arborgate.tools.risk import Risk
from tests.tools.world import ADA, AUDITOR, NOW, World, make_app, make_caller

pytestmark = pytest.mark.anyio

DIGEST = "0123456789abcdef" * 4


def make_change(app: str, *, diff: str = "- replicas: 2\n+ replicas: 3\n") -> Change:
    return Change(
        kind=ChangeKind.SCALE,
        target=Target(
            app=f"main/argocd/{app}",
            cluster="main",
            api="apps/v1",
            kind="Deployment",
            namespace=app,
            name=app,
        ),
        summary=f"Scale {app} from 2 to 3",
        precondition=Precondition(uid="uid", resource_version="1", fields=("/spec/replicas",), digest=DIGEST),
        patch={"spec": {"replicas": 3}},
        diff=diff,
        undo={"spec": {"replicas": 2}},
        check=Check(app=f"main/argocd/{app}"),
    )


def make_proposal(
    number: int,
    *apps: str,
    by: Caller = ADA,
    state: ProposalState = ProposalState.PROPOSED,
    needed: int = 1,
    **fields: Any,
) -> Proposal:
    changes = fields.pop("changes", tuple(make_change(app) for app in apps))
    content = Content(
        id=f"p{number}",
        title=f"Scale {', '.join(apps)}",
        reason="the queue grows",
        requester=Requester.of(by),
        created_at=NOW - 60,
        expires_at=NOW + 3_600,
        environments=("staging",),
        risk=Risk.LOW,
        approvals_needed=needed,
        changes=changes,
        rehearsal=Rehearsal(changes=tuple(Rehearsed(ok=True, warnings=("slow",)) for _ in changes), at=NOW),
    )
    return Proposal(content=content, digest=DIGEST, state=state, state_at=NOW, **fields)


def make_approval(proposal: str, comment: str, digest: str = DIGEST) -> Approval:
    return Approval(
        proposal=proposal,
        digest=digest,
        verdict=Verdict.APPROVE,
        approver=Requester.of(make_caller("bob", "approver")),
        comment=comment,
        at=NOW,
        authenticated_at=NOW,
        session="s",
    )


def make_world(tmp_path: Path, *proposals: Proposal) -> World:
    world = World(tmp_path, make_app("api"), make_app("web"), make_app("vault", hidden=True))
    world.proposals.kept.extend(proposals)
    return world


async def test_a_proposal_is_told_with_what_has_to_happen_next_and_where(tmp_path: Path) -> None:
    approvals = (make_approval("p1", "go ahead"), make_approval("p1", "of another digest", digest="0" * 64))
    proposal = make_proposal(1, "api", "web", needed=2, approvals=approvals)
    answer = await make_world(tmp_path, proposal).call("proposal_get", proposal="p1")
    told = answer.structured
    assert told is not None
    assert (told["state"], told["risk"], told["requester"], told["agent"]) == (
        "proposed",
        "low",
        "Ada",
        "ide-copilot",
    )
    assert (told["short_digest"], told["digest"]) == (DIGEST[:12], DIGEST)
    assert told["page"] == "https://gate.test/proposals/p1"
    assert told["next"] == (
        "1 approval(s) by others than the requester, on the approval page, until 2025-11-22T09:26:40Z. "
        "No tool approves."
    )
    assert told["approvals"][0]["comment"] == "go ahead"
    change = told["changes"][0]
    assert (change["app"], change["kind"], change["rehearsed"]) == ("main/argocd/api", "scale", True)
    assert (change["warnings"], change["undo"]) == (["slow"], "on failure, by itself")
    assert change["diff"] == "- replicas: 2\n+ replicas: 3\n"
    assert "    | + replicas: 3" in answer.text.splitlines()
    assert "Page: https://gate.test/proposals/p1" in answer.text


@pytest.mark.parametrize("state", list(ProposalState))
async def test_every_state_says_what_comes_next(tmp_path: Path, state: ProposalState) -> None:
    steps = (Step(state=StepState.FAILED, message="timed out"),)
    world = make_world(tmp_path, make_proposal(1, "api", state=state, steps=steps))
    told = await world.ask("proposal_get", proposal="p1")
    assert told["next"]
    assert (told["changes"][0]["step"], told["changes"][0]["step_message"]) == ("failed", "timed out")


async def test_a_missing_proposal_and_a_hidden_one_look_the_same(tmp_path: Path) -> None:
    world = make_world(tmp_path, make_proposal(1, "api", "vault"))
    for tool in ("proposal_get", "proposal_withdraw"):
        hidden = await world.fail(tool, proposal="p1")
        missing = await world.fail(tool, proposal="p2")
        assert hidden.reason is missing.reason is Reason.NOT_THERE
        assert hidden.message.replace("p1", "p2") == missing.message
    assert (await world.ask("proposal_get", AUDITOR, proposal="p1"))["proposal"] == "p1"
    assert world.proposals.kept[0].state is ProposalState.PROPOSED


async def test_a_proposal_about_an_app_that_is_gone_can_still_be_read(tmp_path: Path) -> None:
    world = make_world(tmp_path, make_proposal(1, "deleted-since"))
    assert (await world.ask("proposal_get", proposal="p1"))["changes"][0]["app"] == "main/argocd/deleted-since"


async def test_long_diffs_share_a_budget_and_say_that_they_are_cut(tmp_path: Path) -> None:
    changes = tuple(make_change("api", diff="+ a line of the diff\n" * 1_000) for _ in range(3))
    told = await make_world(tmp_path, make_proposal(1, changes=changes)).ask("proposal_get", proposal="p1")
    assert sum(len(change["diff"]) for change in told["changes"]) <= 9_000
    assert "approval page" in told["cut"]


async def test_the_list_leaves_hidden_proposals_out_and_fills_its_pages(tmp_path: Path) -> None:
    kept = [make_proposal(n, "api") if n % 3 == 0 else make_proposal(n, "api", "vault") for n in range(30)]
    world = make_world(tmp_path, *kept)
    first = await world.ask("proposal_list", limit=4)
    assert [row["proposal"] for row in first["proposals"]] == ["p0", "p3", "p6", "p9"]
    second = await world.ask("proposal_list", limit=20, cursor=first["cursor"])
    assert [row["proposal"] for row in second["proposals"]] == ["p12", "p15", "p18", "p21", "p24", "p27"]
    assert "cursor" not in second
    assert len((await world.ask("proposal_list", AUDITOR, limit=100))["proposals"]) == 30


async def test_the_list_narrows_by_state_app_and_requester(tmp_path: Path) -> None:
    world = make_world(
        tmp_path,
        make_proposal(1, "api"),
        make_proposal(2, "web", state=ProposalState.APPLIED),
        make_proposal(3, "web", by=make_caller("bob", "developer")),
    )

    async def ids(**filters: Any) -> list[str]:
        return [row["proposal"] for row in (await world.ask("proposal_list", **filters))["proposals"]]

    assert await ids(state="applied") == ["p2"]
    assert await ids(app="web") == ["p2", "p3"]
    assert await ids(app="web", mine=True) == ["p2"]
    assert (await world.fail("proposal_list", app="vault")).reason is Reason.NOT_THERE


async def test_a_cursor_of_another_caller_or_with_other_filters_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, *(make_proposal(n, "api") for n in range(5)))
    cursor = (await world.ask("proposal_list", limit=2))["cursor"]
    for caller, filters in ((AUDITOR, {}), (ADA, {"mine": True})):
        error = await world.fail("proposal_list", caller, limit=2, cursor=cursor, **filters)
        assert (error.reason, error.field) == (Reason.INVALID, "cursor")


async def test_a_withdrawal_is_intended_on_record_before_it_happens(tmp_path: Path) -> None:
    world = make_world(tmp_path, make_proposal(1, "api"))
    answer = await world.ask("proposal_withdraw", proposal="p1")
    assert answer == {"proposal": "p1", "state": "withdrawn", "next": "Nothing: it was withdrawn."}
    assert [(record.event, record.proposal) for record in world.records.written] == [
        ("call:intended", ""),
        ("call:answered", "p1"),
    ]
    assert (await world.fail("proposal_withdraw", proposal="p1")).reason is Reason.CONFLICT


async def test_who_may_read_but_not_withdraw_is_told_so(tmp_path: Path) -> None:
    world = make_world(tmp_path, make_proposal(1, "api"))
    error = await world.fail("proposal_withdraw", make_caller("vic", "viewer"), proposal="p1")
    assert error.reason is Reason.DENIED
    assert world.proposals.kept[0].state is ProposalState.PROPOSED
