"""The tools about proposals that were made: look at one, wait for one, list them, take one back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ...policies.errors import NotThere
from ...policies.model import INSTALLATION, Action, Resource
from ..argocd.find import find_app
from ..budget import ANSWER, Page
from ..paging import SHORT_PAGE, Paged, Sized, open_cursor, seal_cursor
from ..proposal import Proposal, ProposalQuery, ProposalState, proposal_resources, touched
from ..tool import AnyTool, Context, Effect, Params, Tool
from .rendering import render_proposal, render_rows, render_withdrawal
from .results import ProposalDetail, ProposalRows, Withdrawal, say_next, show_proposal, show_row
from .waiting import LONGEST, ProposalWaitParams, Standing, render_standing, wait

_ROUNDS = 10
"""How often a list reads on to fill its page, past proposals that the caller may not see."""


Id = Annotated[str, Field(min_length=1, max_length=100, description="its id")]


class ProposalGetParams(Sized):
    proposal: Id


class ProposalParams(Params):
    proposal: Id


class ProposalListParams(Paged):
    state: ProposalState | None = None
    mine: bool = False
    app: str = ""


async def _named(ctx: Context, params: ProposalGetParams | ProposalParams | ProposalWaitParams) -> Sequence[Resource]:
    return _resources(ctx, await ctx.proposals.get(params.proposal))


async def _named_and_readable(ctx: Context, params: ProposalParams) -> Sequence[Resource]:
    """For an action whose denial tells that the proposal exists: first the caller must be allowed to know."""
    resources = await _named(ctx, params)
    if not all(ctx.policy.visible(Action.PROPOSAL_READ, resources)):
        raise NotThere("There is no such proposal.", field="proposal", detail="hidden from the caller")
    return resources


async def _installation(_: Context, __: ProposalListParams) -> Sequence[Resource]:
    return (INSTALLATION,)


def _resources(ctx: Context, proposal: Proposal) -> Sequence[Resource]:
    return proposal_resources(proposal, [ctx.tree.resource(app) for app in touched(proposal)])


async def _get(ctx: Context, params: ProposalGetParams) -> ProposalDetail:
    return show_proposal(ctx, await ctx.proposals.get(params.proposal), room=ANSWER.of(params))


async def _list(ctx: Context, params: ProposalListParams) -> ProposalRows:
    position = open_cursor(ctx, "proposal_list", params)
    app = str(find_app(ctx, params.app).app.id) if params.app else ""
    found: list[Proposal] = []
    for _ in range(_ROUNDS):
        page = await ctx.proposals.list(
            ProposalQuery(
                states=(params.state,) if params.state else (),
                requester=ctx.caller.key if params.mine else "",
                app=app,
                before=position,
                limit=params.limit - len(found),
            )
        )
        found += _keep_visible(ctx, page.proposals)
        position = page.next
        if not position or len(found) == params.limit:
            break
    return ProposalRows(
        proposals=[show_row(proposal) for proposal in found],
        cursor=seal_cursor(ctx, "proposal_list", params, position) or None,
        cut=SHORT_PAGE if position and len(found) < params.limit else None,
    )


def _keep_visible(ctx: Context, proposals: Sequence[Proposal]) -> list[Proposal]:
    """Those of which every app's part may be read, as the gate asks of `proposal_get`; decided in one go."""
    parts = [_resources(ctx, proposal) for proposal in proposals]
    answers = iter(ctx.policy.visible(Action.PROPOSAL_READ, [part for each in parts for part in each]))
    kept = []
    for proposal, each in zip(proposals, parts, strict=True):
        seen = [next(answers) for _ in each]
        if seen and all(seen):
            kept.append(proposal)
    return kept


async def _withdraw(ctx: Context, params: ProposalParams) -> Withdrawal:
    proposal = await ctx.proposals.withdraw(params.proposal, ctx.caller)
    return Withdrawal(proposal=proposal.id, state=proposal.state, next=say_next(proposal))


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        name="proposal_get",
        description=(
            "One proposal: state, risk, digest, each change with its diff and dry run, approvals, how far it is "
            "applied, and what has to happen next."
        ),
        params=ProposalGetParams,
        result=ProposalDetail,
        action=Action.PROPOSAL_READ,
        resources=_named,
        run=_get,
        render=render_proposal,
        target="proposal",
    ),
    Tool(
        name="proposal_list",
        description="Proposals, newest first, by state, app, or only those of the person you act for.",
        params=ProposalListParams,
        result=ProposalRows,
        action=Action.PROPOSAL_LIST,
        resources=_installation,
        run=_list,
        render=render_rows,
        target="app",
        page=Page("proposals"),
        narrower="a state or an app",
    ),
    Tool(
        name="proposal_wait",
        description="Wait until a proposal is decided on, is over, or changes in any way.",
        params=ProposalWaitParams,
        result=Standing,
        action=Action.PROPOSAL_READ,
        resources=_named,
        run=wait,
        render=render_standing,
        target="proposal",
        waits=LONGEST,
    ),
    Tool(
        name="proposal_withdraw",
        description="Take back a proposal that is not being applied yet, when it is wrong or no longer wanted.",
        params=ProposalParams,
        result=Withdrawal,
        action=Action.PROPOSAL_WITHDRAW,
        resources=_named_and_readable,
        run=_withdraw,
        render=render_withdrawal,
        effect=Effect.PROPOSES,
        target="proposal",
    ),
)
