"""The tool that proposes to bring what runs in one environment to the next; it plans, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ...policies.errors import ArborgateError, Invalid, NotThere, Refused
from ...policies.model import Action, Resource
from ..argocd.changes import app_target, find_keeper
from ..argocd.find import find_app, keep_visible
from ..change import ChangeKind, JsonObject
from ..git.changes import as_application, make_commit
from ..kubernetes.source import Clusters
from ..plan import Plan
from ..proposal import Draft
from ..risk import rate
from ..rollouts.commits import find_file
from ..rollouts.tools import Proposed, Text, answer_proposed, find_risks, find_undoing_parent, render_proposed
from ..tool import AnyTool, Context, Effect, Params, Tool
from ..tree import Node
from .carrying import Move
from .ladder import find_counterparts
from .plan import brings_spec, plan_promotion, plan_promotion_commit
from .retelling import write_promotion_title

_SHOWN = 5


class PromoteParams(Params):
    reason: Annotated[str, Field(min_length=10, max_length=1_000)]
    apps: Annotated[tuple[Text, ...], Field(min_length=1, max_length=10, description="as they run below")]
    leave: Annotated[tuple[Text, ...], Field(max_length=20, description="Helm parameters to leave as they are")] = ()


async def _name_targets(ctx: Context, params: PromoteParams) -> Sequence[Resource]:
    nodes = {target.app.id: target for _, target in _find_pairs(ctx, params)}
    return [node.resource for node in nodes.values()]


async def _propose(ctx: Context, params: PromoteParams) -> Proposed:
    pairs = _find_pairs(ctx, params)
    proposal = ctx.proposals.new_id()
    plans = await _plan_all(ctx, params, pairs, proposal)
    nodes = [target for _, target in pairs]
    factors = await find_risks(ctx, nodes, plans)
    changes = tuple(plan.change for plan in plans)
    kept = await ctx.proposals.draft(
        ctx.caller,
        Draft(
            id=proposal,
            title=write_promotion_title(changes),
            reason=params.reason,
            changes=changes,
            environments=(nodes[0].app.environment,),
            risk=rate(factors),
            factors=factors,
        ),
    )
    return answer_proposed(ctx, await ctx.proposals.settle(kept.id, ctx.rehearsal_wait))


def _find_pairs(ctx: Context, params: PromoteParams) -> list[tuple[Node, Node]]:
    """Each app as it runs below, and what it is in the environment above: the same two environments for all."""
    pairs = [_find_pair(ctx, text, f"apps.{index}") for index, text in enumerate(params.apps)]
    for index, (origin, target) in enumerate(pairs):
        if origin.app.environment != pairs[0][0].app.environment:
            raise Invalid("A promotion has one environment to come from.", field=f"apps.{index}", hint="Make it two.")
        if target in [each for _, each in pairs[:index]]:
            raise Invalid(f"{target.app.id.name} is the target of two of them.", field=f"apps.{index}")
    return pairs


def _find_pair(ctx: Context, text: str, field: str) -> tuple[Node, Node]:
    origin = find_app(ctx, text, field=field)
    app = origin.app
    if not ctx.ladder.path:
        raise Refused(
            "This Arborgate has no path of environments.",
            hint="Ask the platform team to set promotion.path.",
            field="apps",
        )
    above = ctx.ladder.above(app.environment)
    if not above:
        raise Invalid(
            f"{app.id.name} is in {app.environment}, from which nothing is promoted.",
            field=field,
            hint=f"The path is {' > '.join(ctx.ladder.path)}: name the app as it runs below.",
        )
    found = keep_visible(ctx, find_counterparts(origin, above, ctx.tree, ctx.ladder))
    if len(found) == 1:
        return origin, found[0]
    way = "promotion.components in the settings says which app is which."
    if not found:
        raise NotThere(f"{app.id.name} has no counterpart in {above} that you may see.", field=field, hint=way)
    names = ", ".join(str(each.app.id) for each in found[:_SHOWN])
    raise Invalid(f"{app.id.name} could be several apps in {above}: {names}.", field=field, hint=way)


async def _plan_all(
    ctx: Context, params: PromoteParams, pairs: Sequence[tuple[Node, Node]], proposal: str
) -> list[Plan]:
    clusters = ctx.source(Clusters)
    targets = [app_target(node.app) for pair in pairs for node in pair]
    live = dict(zip(map(str, targets), await asyncio.gather(*map(clusters.read, targets)), strict=True))
    plans: list[Plan] = []
    for index, (origin, target) in enumerate(pairs):
        move = Move(origin.app, target.app, ctx.ladder, params.leave)
        try:
            ran, now = (_require(live[str(app_target(node.app))], node) for node in (origin, target))
            plans += await _plan(ctx, move, target, ran, now, proposal)
        except ArborgateError as error:
            error.field = f"apps.{index}" if error.field in (None, "", "app", "apps") else error.field
            raise
    return plans


async def _plan(
    ctx: Context, move: Move, node: Node, origin: JsonObject, target: JsonObject, proposal: str
) -> list[Plan]:
    """Of one app: live, or by a commit where a live change of its spec would be undone, or settings want one."""
    file = await find_file(ctx, node, ChangeKind.PROMOTE) if brings_spec(move, origin, target) else None
    if file is None:
        keeper = find_keeper(move.target, find_undoing_parent(ctx, node))
        return plan_promotion(node, move, origin, target, proposal=proposal, kept_by=keeper)
    document = file.as_object()
    plan = plan_promotion_commit(node, move, origin, as_application(node, document), proposal=proposal)
    return [make_commit(plan, node, file.place, document)]


def _require(live: JsonObject | None, node: Node) -> JsonObject:
    if live is None:
        raise Refused(f"{node.app.id.name} is not there any more.", field="app", hint="Look again: app_get.")
    return live


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        name="promotion_propose",
        description=(
            "Propose, for a person to approve, to bring what runs well in one environment to the next: revisions, "
            "images and shared Helm parameters. What belongs to an environment stays. Changes nothing itself."
        ),
        params=PromoteParams,
        result=Proposed,
        action=Action.ROLLOUT_PROPOSE,
        resources=_name_targets,
        run=_propose,
        render=render_proposed,
        effect=Effect.PROPOSES,
    ),
)
