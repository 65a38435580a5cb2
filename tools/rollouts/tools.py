"""The tool that proposes a rollout: it plans every change, keeps them as one proposal, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from ...policies.errors import ArborgateError, Invalid, Refused
from ...policies.model import Action, Resource, ResourceType
from ..argocd.changes import (
    app_target,
    combine_images,
    find_keeper,
    plan_rollback,
    plan_set_image,
    plan_set_revision,
    plan_sync,
)
from ..argocd.find import find_app, keep_visible
from ..change import ChangeKind, JsonObject, Target
from ..evidence import MOST
from ..kubernetes.source import Clusters
from ..plan import Plan, follow, leave, write_title
from ..proposal import Draft, Proposal, ProposalState
from ..proposals.results import say_reach
from ..records.evidence import Cited, find_evidence
from ..risk import Factor, Risk, RiskFactor, find_factors, rate
from ..text import margin, quote
from ..tool import AnyTool, Context, Effect, Params, Result, Tool, Untrusted, join_lines
from ..tree import Node
from .changes import ignores_replicas, plan_restart, plan_scale, workload_target
from .commits import find_files, finish_commits, plan_commit

_DIFF_LINES = 60

_NEEDED: Mapping[ChangeKind, tuple[str, ...]] = {
    ChangeKind.RESTART: ("workload",),
    ChangeKind.ROLLBACK: ("history_id",),
    ChangeKind.SCALE: ("workload", "replicas"),
    ChangeKind.SET_IMAGE: ("image",),
    ChangeKind.SET_REVISION: ("revision",),
    ChangeKind.SYNC: (),
}
_TAKEN: Mapping[ChangeKind, tuple[str, ...]] = {
    ChangeKind.SET_IMAGE: ("parameter", "source"),
    ChangeKind.SET_REVISION: ("source",),
    ChangeKind.SYNC: ("revision", "source"),
}


AskedKind = Literal[
    ChangeKind.RESTART,
    ChangeKind.ROLLBACK,
    ChangeKind.SCALE,
    ChangeKind.SET_IMAGE,
    ChangeKind.SET_REVISION,
    ChangeKind.SYNC,
]
"""What can be asked for one by one; a promotion is planned as a whole."""

Text = Annotated[str, Field(max_length=512), WithJsonSchema({"type": "string"})]
"""Bounded, without every caller paying for the bound in the schema."""


class AskedChange(BaseModel):
    """One change as an agent asks for it; `kind` says which of the fields it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app: Text
    kind: AskedKind
    revision: Text = ""
    image: Text = ""
    parameter: Text = ""
    source: int = 0
    history_id: int | SkipJsonSchema[None] = None
    workload: Text = ""
    replicas: int | SkipJsonSchema[None] = None


class ProposeParams(Params):
    reason: Annotated[str, Field(min_length=10, max_length=1_000)]
    changes: Annotated[tuple[AskedChange, ...], Field(min_length=1, max_length=10)]
    evidence: Annotated[
        tuple[Cited, ...], Field(max_length=MOST, description="calls that show why: lines of record_search")
    ] = ()


class PlannedChange(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: Untrusted
    diff: Untrusted
    no_undo: str | None = Field(default=None, description="why it can't be undone")
    warnings: list[Untrusted] = []
    refusal: Untrusted | None = None


class Proposed(Result):
    proposal: str = Field(description="its id")
    state: ProposalState
    note: Untrusted | None = None
    digest: str | None = Field(default=None, description="what an approval is of; none before the rehearsal")
    title: Untrusted
    risk: Risk
    risk_reasons: list[Untrusted]
    reach: Untrusted | None = None
    approvals_needed: int
    changes: list[PlannedChange]
    page: str | None = Field(default=None, description="where a person approves it")
    next: str


async def _name_targets(ctx: Context, params: ProposeParams) -> Sequence[Resource]:
    for index, asked in enumerate(params.changes):
        _check_fields(asked, index)
    nodes = {node.app.id: node for node in _find_apps(ctx, params)}
    return [node.resource for node in nodes.values()]


async def _propose(ctx: Context, params: ProposeParams) -> Proposed:
    nodes = _find_apps(ctx, params)
    plans = await _plan_all(ctx, params.changes, nodes)
    evidence = await find_evidence(ctx, params.evidence)
    factors = await find_risks(ctx, nodes, plans)
    changes = tuple(plan.change for plan in plans)
    kept = await ctx.proposals.draft(
        ctx.caller,
        Draft(
            title=write_title(changes),
            reason=params.reason,
            changes=changes,
            environments=tuple(sorted({node.app.environment for node in nodes})),
            risk=rate(factors),
            factors=factors,
            evidence=evidence,
        ),
    )
    return answer_proposed(ctx, await ctx.proposals.settle(kept.id, ctx.rehearsal_wait))


def _find_apps(ctx: Context, params: ProposeParams) -> list[Node]:
    """The app of each change, in their order."""
    return [find_app(ctx, asked.app, field=f"changes.{index}.app") for index, asked in enumerate(params.changes)]


def _check_fields(asked: AskedChange, index: int) -> None:
    needed = _NEEDED[asked.kind]
    taken = (*needed, *_TAKEN.get(asked.kind, ()))
    given = {name for name, value in asked if name not in ("app", "kind") and value not in ("", None)}
    given -= {"source"} if asked.source == 0 else set()
    for name in needed:
        if name not in given:
            raise Invalid(f"{asked.kind} needs {name}.", field=f"changes.{index}.{name}", hint=_takes(asked.kind))
    for name in sorted(given.difference(taken)):
        raise Invalid(f"{asked.kind} takes no {name}.", field=f"changes.{index}.{name}", hint=_takes(asked.kind))


def _takes(kind: ChangeKind) -> str:
    taken = (*_NEEDED[kind], *(f"{name} (optional)" for name in _TAKEN.get(kind, ())))
    return f"{kind} takes app, {', '.join(taken)}." if taken else f"{kind} takes app alone."


async def _plan_all(ctx: Context, asked: Sequence[AskedChange], nodes: Sequence[Node]) -> list[Plan]:
    """The plans, each made on its object as those before it leave it; images of one app that follow each other are one
    change. Any refusal ends all."""
    clusters = ctx.source(Clusters)
    targets = [_target(clusters, one, node, index) for index, (one, node) in enumerate(zip(asked, nodes, strict=True))]
    files = await find_files(ctx, asked, nodes)
    wanted = {str(target): target for target in (*targets, *(app_target(node.app) for node in nodes))}
    live = dict(zip(wanted, await asyncio.gather(*map(clusters.read, wanted.values())), strict=True))
    live |= {str(file.place): file.as_object() for file in files if file}
    targets = [file.place if file else target for file, target in zip(files, targets, strict=True)]
    planned: dict[str, list[int]] = {}
    plans: list[Plan] = []
    for index, (one, node, target) in enumerate(zip(asked, nodes, targets, strict=True)):
        places, owner = planned.setdefault(str(target), []), app_target(node.app)
        before = [plans[place].change for place in places]
        try:
            found, application = _require(live[str(target)], target), _require(live[str(owner)], owner)
            left, file = leave(found, before), files[index]
            if file is not None:
                plan = plan_commit(ctx, one, node, file, left)
            else:
                plan = _plan_one(ctx, one, node, target, left, application)
            if before and before[-1].kind is plan.change.kind is ChangeKind.SET_IMAGE:
                plan = combine_images(node, found, plans[places[-1]], plan)
                plans[places[-1]] = Plan(follow(plan.change, found, before[:-1]), plan.risks)
                continue
            plans.append(Plan(follow(plan.change, found, before), plan.risks))
        except ArborgateError as error:
            raise _locate(error, index) from error
        places.append(len(plans) - 1)
    finish_commits(plans, planned, files, nodes)
    return plans


def _target(clusters: Clusters, asked: AskedChange, node: Node, index: int) -> Target:
    if not asked.workload:
        return app_target(node.app)
    try:
        return workload_target(node, asked.workload, clusters.names)
    except ArborgateError as error:
        raise _locate(error, index) from error


def _plan_one(
    ctx: Context, asked: AskedChange, node: Node, target: Target, live: JsonObject, application: JsonObject
) -> Plan:
    match asked.kind:
        case ChangeKind.SYNC:
            return plan_sync(node, live, revision=asked.revision, source=asked.source)
        case ChangeKind.ROLLBACK:
            return plan_rollback(node, live, history_id=asked.history_id or 0)
        case ChangeKind.SET_REVISION:
            keeper = find_keeper(node.app, find_undoing_parent(ctx, node))
            return plan_set_revision(node, live, revision=asked.revision, source=asked.source, kept_by=keeper)
        case ChangeKind.SET_IMAGE:
            keeper = find_keeper(node.app, find_undoing_parent(ctx, node))
            return plan_set_image(
                node, live, image=asked.image, parameter=asked.parameter, source=asked.source, kept_by=keeper
            )
        case ChangeKind.RESTART:
            return plan_restart(node, target, live, now=ctx.now)
        case ChangeKind.SCALE:
            ignored = ignores_replicas(application, target)
            return plan_scale(node, target, live, replicas=asked.replicas or 0, ignored=ignored)


def find_undoing_parent(ctx: Context, node: Node) -> str:
    """The parent that would undo a change of the app's spec, by its name only where the caller may see it."""
    parent = ctx.tree.undone_by(node)
    if parent is None:
        return ""
    above = ctx.tree.get(parent)
    return parent.name if above is not None and keep_visible(ctx, [above]) else "its parent app"


def _require(live: JsonObject | None, target: Target) -> JsonObject:
    if live is None:
        raise Refused(f"{target.kind} {target.name} is not there any more.", field="app", hint="Look again: app_get.")
    return live


def _locate(error: ArborgateError, index: int) -> ArborgateError:
    """The same error, naming the field of the change that it is about."""
    error.field = f"changes.{index}.{error.field}" if error.field else f"changes.{index}"
    return error


async def find_risks(ctx: Context, nodes: Sequence[Node], plans: Sequence[Plan]) -> tuple[RiskFactor, ...]:
    found = [*find_factors([plan.change for plan in plans], ctx.tree, ctx.environments)]
    found += [risk for plan in plans for risk in plan.risks]
    if any(_is_off_hours(ctx, node) for node in nodes):
        found.append(RiskFactor.of(Factor.OFF_HOURS, "It is proposed outside the working hours."))
    if not await ctx.proposals.has_applied(ctx.caller.key):
        found.append(RiskFactor.of(Factor.NEW_REQUESTER, "Nothing that this person proposed was applied before."))
    return tuple(dict.fromkeys(found))


def _is_off_hours(ctx: Context, node: Node) -> bool:
    apps = frozenset(each.id for each in _list_above(node.resource) if each.type is ResourceType.APP)
    return ctx.calendar.season(node.app.environment, apps, ctx.now).off_hours


def _list_above(resource: Resource) -> Iterator[Resource]:
    yield resource
    for parent in resource.parents:
        yield from _list_above(parent)


def answer_proposed(ctx: Context, proposal: Proposal) -> Proposed:
    content = proposal.content
    return Proposed(
        proposal=proposal.id,
        state=proposal.state,
        note=proposal.state_note or None,
        digest=proposal.digest or None,
        title=content.title,
        risk=content.risk,
        risk_reasons=list(content.risk_reasons),
        reach=say_reach(ctx, proposal) or None,
        approvals_needed=content.approvals_needed,
        changes=[_show(proposal, index) for index in range(len(content.changes))],
        page=f"{ctx.pages}/proposals/{proposal.id}" if ctx.pages else None,
        next=_say_next(proposal),
    )


def _show(proposal: Proposal, index: int) -> PlannedChange:
    change = proposal.content.changes[index]
    rehearsal = proposal.content.rehearsal
    said = rehearsal.changes[index] if rehearsal and index < len(rehearsal.changes) else None
    return PlannedChange(
        summary=change.summary,
        diff=_cut_diff(change.diff),
        no_undo=change.undo_note or None if change.undo is None else None,
        warnings=list(said.warnings) if said else [],
        refusal=said.refusal or None if said else None,
    )


def _cut_diff(diff: str) -> str:
    lines = diff.split("\n")
    if len(lines) <= _DIFF_LINES:
        return diff
    return "\n".join((*lines[:_DIFF_LINES], f"… and {len(lines) - _DIFF_LINES} more lines: proposal_get"))


def _say_next(proposal: Proposal) -> str:
    match proposal.state:
        case ProposalState.DRAFTED:
            return "The applier has not rehearsed it yet: proposal_get says when it has. Nothing is changed."
        case ProposalState.PROPOSED:
            needed = proposal.content.approvals_needed
            who = "one person" if needed == 1 else f"{needed} people"
            return (
                f"Nothing is changed until {who} other than the requester, entitled to approve on these apps, "
                "approve on the page. Show them the page; proposal_get follows it, proposal_withdraw takes it back."
            )
        case ProposalState.REFUSED:
            return "The rehearsal refused it, so it can't be approved. Fix what it names and propose again."
        case _:
            return "proposal_get shows how it went on."


def render_proposed(result: Proposed) -> str:
    return join_lines(
        (
            f"Proposal {result.proposal}: {result.state}: {quote(result.title)}",
            f"Note: {quote(result.note)}" if result.note else None,
            f"Risk {result.risk}{': ' if result.risk_reasons else ''}{' '.join(map(quote, result.risk_reasons))}",
            f"Reaches {quote(result.reach)}" if result.reach else None,
            *(_render_change(number, change) for number, change in enumerate(result.changes, 1)),
            f"Approvals needed: {result.approvals_needed}" + (f", of digest {result.digest}" if result.digest else ""),
            f"Page: {result.page}" if result.page else None,
            result.next,
            result.cut,
        )
    )


def _render_change(number: int, change: PlannedChange) -> str:
    return join_lines(
        (
            f"{number}. {quote(change.summary)}",
            *margin(change.diff, "  "),
            f"No undo: {change.no_undo}" if change.no_undo else None,
            *(f"Warning: {quote(warning)}" for warning in change.warnings),
            f"Refused: {quote(change.refusal)}" if change.refusal else None,
        )
    )


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        name="rollout_propose",
        description=(
            "Propose changes for a person to approve; changes nothing itself. Kinds: sync (revision?), "
            "set_image (image, Helm parameter?), set_revision (revision), rollback (history_id), "
            "restart (workload Kind/name), scale (workload, replicas). source: from 1, if an app has several."
        ),
        params=ProposeParams,
        result=Proposed,
        action=Action.ROLLOUT_PROPOSE,
        resources=_name_targets,
        run=_propose,
        render=render_proposed,
        effect=Effect.PROPOSES,
        narrower="its id to proposal_get",
    ),
)
