"""What the proposal tools answer, and how a proposal is put into words."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from ..argocd.find import keep_visible
from ..change import Change, ChangeKind
from ..proposal import Approval, Proposal, ProposalState, StepState, Verdict, count_votes, touched
from ..reach import find_reach
from ..risk import Risk
from ..times import write_time
from ..tool import Context, Identity, Result, Untrusted

_DIFFS = 0.5
"""The share of an answer that diffs may have, in characters for bytes."""

_DIGEST = 12

_NEXT = {
    ProposalState.DRAFTED: "The applier rehearses it now; ask again in a few seconds.",
    ProposalState.APPROVED: "The applier applies it next, in the order of the sync waves.",
    ProposalState.APPLYING: "The applier is at work: the steps of the changes say how far. Ask again.",
    ProposalState.APPLIED: "Nothing: it is done. app_get shows the apps as they are now.",
    ProposalState.FAILED: "The applier undoes what was changed, in reverse. Ask again.",
    ProposalState.ROLLED_BACK: "It failed and was undone: see the steps and app_diagnose, then propose another way.",
    ProposalState.REJECTED: "An approver said no: see the comment before proposing anything else.",
    ProposalState.WITHDRAWN: "Nothing: it was withdrawn.",
    ProposalState.EXPIRED: "Nobody decided in time: propose again if it is still wanted.",
    ProposalState.STALE: "The target moved after the plan was made: look at it again, and propose again.",
    ProposalState.REFUSED: "The rehearsal failed: see the refusal, mend the plan, and propose again.",
}
"""What has to happen in every state but `proposed`."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Glass(StrEnum):
    """What is known of broken glass."""

    JUSTIFIED = "justified"
    NOT_JUSTIFIED = "not_justified"
    UNREVIEWED = "unreviewed"


class ProposalRow(_Part):
    proposal: str
    title: Untrusted
    state: ProposalState
    risk: Risk
    requester: Identity
    agent: str
    apps: list[str]
    environments: list[str]
    created_at: str
    approvals: str = Field(description="given/needed")
    glass: Glass | None = Field(default=None, description="approved alone in an emergency: what its review found")


class ProposalRows(Result):
    proposals: list[ProposalRow] = Field(description="newest first")
    cursor: str | None = Field(default=None, description="of the next page")


class Vote(_Part):
    verdict: Verdict
    approver: Identity
    comment: Untrusted
    at: str


class ChangeRow(_Part):
    kind: ChangeKind
    app: str
    target: str
    summary: Untrusted
    wave: int
    diff: Untrusted
    undo: str
    rehearsed: bool | None = Field(default=None, description="whether the dry run passed")
    warnings: list[Untrusted]
    refusal: Untrusted | None = None
    last: list[Untrusted] = Field(default=[], description="who changed the target before")
    step: StepState | None = None
    step_message: Untrusted | None = None


class ProposalDetail(Result):
    proposal: str
    title: Untrusted
    reason: Untrusted
    state: ProposalState
    state_at: str
    note: Untrusted | None = None
    next: str
    page: str | None = None
    risk: Risk
    risk_reasons: list[Untrusted]
    reach: Untrusted | None = None
    requester: Identity
    agent: str
    environments: list[str]
    created_at: str
    expires_at: str
    short_digest: str
    digest: str
    approvals_needed: int
    approvals: list[Vote]
    glass: Glass | None = Field(default=None, description="as in proposal_list")
    changes: list[ChangeRow]


class Withdrawal(Result):
    proposal: str
    state: ProposalState
    next: str


def show_row(proposal: Proposal) -> ProposalRow:
    content = proposal.content
    return ProposalRow(
        proposal=proposal.id,
        title=content.title,
        state=proposal.state,
        risk=content.risk,
        requester=content.requester.name,
        agent=content.requester.agent,
        apps=[str(app) for app in touched(proposal)],
        environments=list(content.environments),
        created_at=write_time(content.created_at),
        approvals=f"{_count_approvals(proposal)}/{content.approvals_needed}",
        glass=_say_glass(proposal),
    )


def show_proposal(ctx: Context, proposal: Proposal, *, room: int) -> ProposalDetail:
    """The proposal in about `room` bytes."""
    content = proposal.content
    changes = [_show_change(proposal, index, int(room * _DIFFS)) for index in range(len(content.changes))]
    cut = any(len(row.diff) < len(change.diff) for row, change in zip(changes, content.changes, strict=True))
    return ProposalDetail(
        proposal=proposal.id,
        title=content.title,
        reason=content.reason,
        state=proposal.state,
        state_at=write_time(proposal.state_at),
        note=proposal.state_note or None,
        next=say_next(proposal),
        page=f"{ctx.pages}/proposals/{proposal.id}" if ctx.pages else None,
        risk=content.risk,
        risk_reasons=list(content.risk_reasons),
        reach=say_reach(ctx, proposal) or None,
        requester=content.requester.name,
        agent=content.requester.agent,
        environments=list(content.environments),
        created_at=write_time(content.created_at),
        expires_at=write_time(content.expires_at),
        short_digest=proposal.digest[:_DIGEST],
        digest=proposal.digest,
        approvals_needed=content.approvals_needed,
        approvals=[_show_vote(approval) for approval in proposal.approvals],
        glass=_say_glass(proposal),
        changes=changes,
        cut="Diffs are shortened: ask with a greater max_bytes; the approval page shows them whole." if cut else None,
    )


def say_reach(ctx: Context, proposal: Proposal) -> str:
    """What it reaches, as far as the caller may see; `""` for nothing."""
    targets = [change.target for change in proposal.content.changes]
    return find_reach(ctx.tree, targets, lambda nodes: keep_visible(ctx, nodes)).say()


def say_next(proposal: Proposal) -> str:
    """What has to happen now, and by whom, in our words."""
    if proposal.state is not ProposalState.PROPOSED:
        return _NEXT[proposal.state]
    # A person's may be missing still, beside a parent app's.
    missing = max(proposal.content.approvals_needed - _count_approvals(proposal), 1)
    until = write_time(proposal.content.expires_at)
    return f"{missing} approval(s) by others than the requester, on the approval page, until {until}. No tool approves."


def _say_glass(proposal: Proposal) -> Glass | None:
    if proposal.glass is None:
        return None
    return Glass(proposal.review.finding) if proposal.review else Glass.UNREVIEWED


def _count_approvals(proposal: Proposal) -> int:
    return count_votes(
        approval
        for approval in proposal.approvals
        if approval.verdict is Verdict.APPROVE and approval.digest == proposal.digest
    )


def _show_vote(approval: Approval) -> Vote:
    return Vote(
        verdict=approval.verdict,
        approver=approval.who,
        comment=approval.comment,
        at=write_time(approval.at),
    )


def _show_change(proposal: Proposal, index: int, room: int) -> ChangeRow:
    content = proposal.content
    change = content.changes[index]
    rehearsals = content.rehearsal.changes if content.rehearsal else ()
    rehearsed = rehearsals[index] if index < len(rehearsals) else None
    step = proposal.steps[index] if index < len(proposal.steps) else None
    return ChangeRow(
        kind=change.kind,
        app=change.target.app,
        target=str(change.target),
        summary=change.summary,
        wave=change.wave,
        diff=change.diff[: room // len(content.changes)],
        undo=_say_undo(change),
        rehearsed=rehearsed.ok if rehearsed else None,
        warnings=list(rehearsed.warnings) if rehearsed else [],
        refusal=rehearsed.refusal or None if rehearsed else None,
        last=[one.say() for one in change.last],
        step=step.state if step else None,
        step_message=step.message or None if step else None,
    )


def _say_undo(change: Change) -> str:
    return "on failure, by itself" if change.undo is not None else change.undo_note or "not possible"
