"""What ran where, and who approved it: an app's place on the ladder, as far as the caller may see it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from ...policies.errors import NotThere, Refused, Unavailable
from ...policies.model import Action
from ..app import App, Health
from ..proposal import Proposal, Verdict, proposal_resources, touched
from ..text import quote_name
from ..tool import Context, Untrusted
from ..tree import Node
from .labels import FROM, PROPOSAL, REVISION
from .ladder import find_counterparts


class Rung(BaseModel):
    """The same component in another environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    environment: str
    app: str
    revision: Untrusted
    health: Health
    same: bool = Field(description="runs what this app runs")


def list_rungs(ctx: Context, node: Node) -> Iterator[Node]:
    """What the app is in each other environment of the path, in its order, seen by the caller or not."""
    for environment in ctx.ladder.path if node.app.environment in ctx.ladder.path else ():
        if environment != node.app.environment:
            yield from find_counterparts(node, environment, ctx.tree, ctx.ladder)


def show_rung(node: Node, beside: App) -> Rung:
    """One of them, compared with the app `beside` it."""
    app = node.app
    same = (app.revision, app.images) == (beside.revision, beside.images)
    return Rung(environment=app.environment, app=str(app.id), revision=app.revision, health=app.health, same=same)


async def tell_promotion(ctx: Context, app: App) -> str | None:
    """How the app was promoted last: from where, what, by which proposal, and who approved that; None where it was not.

    The proposal is told to those who may read it, and left out where it can't be looked up."""
    origin, number = app.labels.get(FROM, ""), app.labels.get(PROPOSAL, "")
    if not origin:
        return None
    told = f"from {quote_name(origin)}: {quote_name(app.labels.get(REVISION, ''))}"
    try:
        proposal = await ctx.proposals.get(number)
    except (NotThere, Refused, Unavailable):
        return told
    if not _may_read(ctx, proposal) or str(app.id) not in {one.target.app for one in proposal.content.changes}:
        return told
    approvers = dict.fromkeys(one.approver.name for one in proposal.approvals if one.verdict is not Verdict.REJECT)
    names = ", ".join(map(quote_name, approvers)) or "nobody"
    return f"{told}, by proposal {proposal.id} ({proposal.state}), approved by {names}"


def _may_read(ctx: Context, proposal: Proposal) -> bool:
    apps = [ctx.tree.resource(each) for each in touched(proposal)]
    return all(ctx.policy.visible(Action.PROPOSAL_READ, proposal_resources(proposal, apps)))
