"""One app in full: what it is, how it is, what it manages and owns, and its place in the tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ..budget import ANSWER, ASKED
from ..paging import Sized
from ..promotion.story import list_rungs, show_rung, tell_promotion
from ..tool import Context
from ..tree import App, Deployed, Health, Managed, Node, Sync
from .find import find_app
from .results import (
    AppDetail,
    Automation,
    Children,
    Owns,
    Resources,
    count_health,
    fresh,
    shorten,
    show_conditions,
    show_deploy,
    show_findings,
    show_managed,
    show_moment,
    show_operation,
    show_source,
)
from .sight import HEALTHS, Sight

_HISTORY = 5
_IMAGES = 20
_INSTANCE = "/instance"
"""The end of the labels that name the parent; `parent` says it, to those who may see it."""

_RESOURCES = 20
_ALL_RESOURCES = 60
_FAILING_CHILDREN = 10

_UNWELL = HEALTHS[:-1]

AppName = Annotated[str, Field(min_length=1, description="name, namespace/name or cluster/namespace/name")]


class AppGetParams(Sized):
    app: AppName
    all_resources: Annotated[bool, Field(description="also those that are well")] = False


async def get_app(ctx: Context, params: AppGetParams) -> AppDetail:
    node = find_app(ctx, params.app)
    app = node.app
    sight = Sight(ctx)
    parent = sight.parent(node)
    deepest = sight.deepest_failing(node)
    managed = sight.managed(node)
    shown = managed if params.all_resources else failing_resources(managed)
    times = ANSWER.times(params)
    limit = (_ALL_RESOURCES if params.all_resources else _RESOURCES) * times
    return AppDetail(
        app=str(app.id),
        environment=app.environment,
        project=app.project,
        labels={key: value for key, value in app.labels.items() if not key.endswith(_INSTANCE)},
        health=app.health,
        message=shorten(sight.quote(node, app.health_message)),
        sync=app.sync,
        revision=app.revision,
        automated=_automation(app),
        wave=app.wave,
        destination=f"{app.destination_cluster}/{app.destination_namespace}",
        sources=[show_source(source) for source in app.sources],
        images=list(app.images[: _IMAGES * times]),
        conditions=show_conditions(sight, node),
        operation=show_operation(sight, node),
        history=[show_deploy(deployed) for deployed in newest_first(app)[: _HISTORY * times]],
        resources=_summarise_resources(managed, shown[:limit]),
        owns=Owns(
            redis=list(app.owned.redis),
            routes=list(app.owned.routes),
            entity=app.owned.entity or None,
            documents=list(app.owned.documents),
        ),
        parent=str(parent.app.id) if parent else None,
        parent_by=node.parent_by if parent else None,
        children=_summarise_children(sight.children(node)),
        deepest_failing=str(deepest.app.id) if deepest else None,
        findings=show_findings(sight, node),
        deleting_since=show_moment(app.deleting_since) or None,
        promoted=await tell_promotion(ctx, app),
        elsewhere=[show_rung(each, app) for each in sight.keep(list(list_rungs(ctx, node)))],
        fresh=fresh(ctx.tree.freshness(app.id.cluster)),
        cut=_say_cut(app, params, len(shown) - limit),
    )


def newest_first(app: App) -> list[Deployed]:
    """The history, the last deploy first."""
    return sorted(app.history, key=lambda deployed: deployed.id, reverse=True)


def failing_resources(managed: Sequence[Managed]) -> list[Managed]:
    """The managed objects that are unhealthy or out of sync: unhealthy before out of sync, worst first."""
    ranked = [(badness, each.kind, each.name, each) for each in managed if (badness := _badness(each)) <= len(_UNWELL)]
    return [each for *_, each in sorted(ranked, key=lambda row: row[:3])]


def _badness(managed: Managed) -> int:
    """A place in the order from worst to well. What has no health of its own (a ConfigMap) is well."""
    if managed.health in _UNWELL:
        return _UNWELL.index(Health(managed.health))
    return len(_UNWELL) if managed.sync == Sync.OUT_OF_SYNC else len(_UNWELL) + 1


def _automation(app: App) -> list[Automation]:
    switches: tuple[tuple[bool, Automation], ...] = (
        (app.automated, "sync"),
        (app.self_heal, "self_heal"),
        (app.prune, "prune"),
    )
    return [name for on, name in switches if on]


def _summarise_resources(managed: Sequence[Managed], shown: Sequence[Managed]) -> Resources:
    counts = Counter(each.health for each in managed)
    return Resources(
        total=len(managed),
        health={health: counts[health] for health in HEALTHS if counts[health]},
        out_of_sync=[each.sync for each in managed].count(Sync.OUT_OF_SYNC),
        shown=[show_managed(each) for each in shown],
    )


def _summarise_children(children: Sequence[Node]) -> Children:
    failing = [str(child.app.id) for child in children if child.app.failing]
    return Children(total=len(children), health=count_health(children), failing=failing[:_FAILING_CHILDREN])


def _say_cut(app: App, params: AppGetParams, resources: int) -> str | None:
    times = ANSWER.times(params)
    missing = {
        "resources": resources,
        "images": len(app.images) - _IMAGES * times,
        "older deploys": len(app.history) - _HISTORY * times,
    }
    told = ", ".join(f"{count} {what}" for what, count in missing.items() if count > 0)
    more = f" Ask with {ASKED} up to {ANSWER.most} for more of them." if ANSWER.leaves_room(params) else ""
    return f"Left out: {told}.{more}" if told else None
