"""The proposal tools' results as text."""

from __future__ import annotations

from ..tables import align
from ..text import margin, quote, quote_name
from ..tool import join_lines
from .results import ChangeRow, ProposalDetail, ProposalRows, Vote, Withdrawal


def render_rows(result: ProposalRows) -> str:
    return join_lines(
        [
            *(
                align(
                    (
                        row.proposal,
                        row.state,
                        f"{row.risk} risk",
                        row.approvals + (f", glass broken ({row.glass})" if row.glass else ""),
                        row.created_at,
                        f"by {quote(row.requester)} with {quote_name(row.agent) or 'no agent'}",
                        ", ".join(row.apps),
                        ", ".join(row.environments),
                        quote(row.title),
                    )
                    for row in result.proposals
                )
                if result.proposals
                else ["No proposals."]
            ),
            f"Next page: cursor {result.cursor}" if result.cursor else None,
            result.cut,
        ]
    )


def render_proposal(result: ProposalDetail) -> str:
    return join_lines(
        [
            f"{result.proposal} is {result.state} since {result.state_at}: {quote(result.title)}",
            f"Note: {quote(result.note)}" if result.note else None,
            f"Next: {result.next}",
            f"Page: {result.page}" if result.page else None,
            f"Asked by {quote(result.requester)} with {quote_name(result.agent) or 'no agent'} at {result.created_at}",
            f"Expires: {result.expires_at}",
            f"Reason, in the agent's words: {quote(result.reason)}",
            f"In {', '.join(result.environments)}; risk {result.risk}"
            + "".join(f"; {quote(reason)}" for reason in result.risk_reasons),
            f"Reaches {quote(result.reach)}" if result.reach else None,
            f"Digest {result.short_digest} ({result.digest})",
            f"Approvals: {len(result.approvals)} said, {result.approvals_needed} needed",
            f"The glass was broken: one person approved alone in an emergency ({result.glass})"
            if result.glass
            else None,
            *map(_render_vote, result.approvals),
            *map(_render_change, result.changes),
            result.cut,
        ]
    )


def render_withdrawal(result: Withdrawal) -> str:
    return f"{result.proposal} is {result.state}. {result.next}"


def _render_vote(vote: Vote) -> str:
    return f"  {vote.verdict} by {quote(vote.approver)} at {vote.at} {quote(vote.comment)}".rstrip()


def _render_change(change: ChangeRow) -> str:
    rehearsal = {True: "dry run passed", False: "dry run refused", None: "not rehearsed yet"}[change.rehearsed]
    step = f"; step {change.step} {quote(change.step_message)}".rstrip() if change.step else ""
    return join_lines(
        [
            f"Change {change.kind} of {change.app}, {change.target}, wave {change.wave}: {quote(change.summary)}",
            f"  {rehearsal} {quote(change.refusal)}".rstrip() + f"; undone {change.undo}{step}",
            *(f"  warning {quote(warning)}" for warning in change.warnings),
            *(f"  before: {quote(before)}" for before in change.last),
            *margin(change.diff, "    "),
        ]
    )
