"""Lists of apps: one page of those that pass the filters, and the tree as rows."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from ...policies.errors import Invalid
from ..budget import ANSWER, ASKED
from ..environments import Environments
from ..paging import Paged, Sized, fill, open_cursor, say_short_page, seal_cursor
from ..tool import Context
from ..tree import AppId, Health, Node, Sync
from .find import find_app, keep_visible
from .results import AppList, AppRow, TreeRow, TreeRows, count_health, fresh, summarise
from .sight import HEALTHS, Sight

_ROW_BYTES = 370
"""What a row of `app_list` may cost on average: a page of 20 stays under 8 KB."""

_TREE_ROWS = 200
_AROUND = 1_000
"""Bytes of an answer beside its rows: counts, freshness, the cursor, what was cut."""

NARROWER = "a root, less depth, or only_unhealthy=true"

_SYNCS = tuple(Sync)


class AppListParams(Paged):
    environment: str = ""
    project: str = ""
    health: Health | None = None
    sync: Sync | None = None
    label: Annotated[str, Field(description="key=value")] = ""
    text: Annotated[str, Field(description="part of the name")] = ""


class AppTreeParams(Sized):
    root: Annotated[str, Field(description="an app; default: all")] = ""
    depth: Annotated[int, Field(ge=0, le=10)] = 2
    only_unhealthy: bool = False


async def list_apps(ctx: Context, params: AppListParams) -> AppList:
    position = open_cursor(ctx, "app_list", params)
    visible = keep_visible(ctx, _filter(ctx.tree.nodes(), params))
    if not visible:
        _check_environment(ctx, params.environment)
    rank = partial(_rank, ctx.environments)
    start = bisect.bisect_right(visible, json.loads(position), key=rank) if position else 0
    page = visible[start : start + params.limit]
    sight = Sight(ctx)
    most = ANSWER.of(params) if params.max_bytes else min(ANSWER.default, params.limit * _ROW_BYTES + _AROUND)
    rows = fill(page, lambda node: _row(sight, node), budget=most - _AROUND)
    more = start + len(rows) < len(visible)
    return AppList(
        total=len(visible),
        health=count_health(visible),
        apps=rows,
        fresh=[fresh(each) for each in sight.freshness(page[: len(rows)])],
        cursor=seal_cursor(ctx, "app_list", params, json.dumps(rank(page[len(rows) - 1]))) if more else None,
        cut=say_short_page(len(rows), params.limit, params, ANSWER) if len(rows) < len(page) else None,
    )


def _filter(nodes: Sequence[Node], params: AppListParams) -> Sequence[Node]:
    """Those that pass, in their order: the cheap questions, asked before policy is."""
    if environment := params.environment:
        nodes = [node for node in nodes if node.app.environment == environment]
    if project := params.project:
        nodes = [node for node in nodes if node.app.project == project]
    if health := params.health:
        nodes = [node for node in nodes if node.app.health is health]
    if sync := params.sync:
        nodes = [node for node in nodes if node.app.sync is sync]
    if params.label:
        key, equals, value = params.label.partition("=")
        if not equals or not key:
            raise Invalid("A label is written key=value.", field="label", hint="For example team=payments.")
        nodes = [node for node in nodes if node.app.labels.get(key) == value]
    if text := params.text.casefold():
        nodes = [node for node in nodes if text in node.app.id.name]
    return nodes


def _check_environment(ctx: Context, environment: str) -> None:
    """An environment in which the caller sees nothing at all is rather a wrong word than an answer."""
    names = sorted({node.app.environment for node in keep_visible(ctx, ctx.tree.nodes())})
    if environment and names and environment not in names:
        raise Invalid(
            "You see no app in an environment of this name.",
            field="environment",
            hint=f"Give one of: {', '.join(names)}.",
        )


def _rank(environments: Environments, node: Node) -> list[Any]:
    """Where an app stands in the order of the tree, so that a page goes on where the last one ended."""
    app = node.app
    lenient = not environments.strict(app.environment)
    return [HEALTHS.index(app.health), _SYNCS.index(app.sync), lenient, *app.id]


def _row(sight: Sight, node: Node) -> AppRow:
    app = node.app
    return AppRow(
        app=str(app.id),
        environment=app.environment,
        project=app.project,
        health=app.health,
        sync=app.sync,
        message=summarise(sight, node),
        failing_below=_failing_below(sight, node),
    )


def _failing_below(sight: Sight, node: Node) -> str | None:
    if not node.children:
        return None
    deepest = sight.deepest_failing(node)
    return str(deepest.app.id) if deepest and deepest is not node else None


async def show_tree(ctx: Context, params: AppTreeParams) -> TreeRows:
    sight = Sight(ctx)
    if params.root:
        tops = [find_app(ctx, params.root, field="root")]
        seen = [*tops, *sight.below(tops[0])]
    else:
        seen = sight.keep(ctx.tree.nodes())
        tops = sorted((node for node in seen if sight.parent(node) is None), key=lambda node: node.app.id)
    kept = _lead_to_unhealthy(sight, seen) if params.only_unhealthy else None
    most = _TREE_ROWS * ANSWER.times(params)
    found = list(islice(_walk(sight, tops, params.depth, kept), most + 1))
    rows = fill(found[:most], lambda row: row, budget=ANSWER.of(params) - _AROUND)
    return TreeRows(
        rows=rows,
        fresh=[fresh(each) for each in sight.freshness(seen)],
        cut=_say_cut(params) if len(rows) < len(found) else None,
    )


def _say_cut(params: AppTreeParams) -> str:
    more = f", or ask with {ASKED} up to {ANSWER.most}" if ANSWER.leaves_room(params) else ""
    return f"There are more rows than fit into {ANSWER.of(params)} bytes: give {NARROWER}{more}."


def _walk(sight: Sight, tops: Sequence[Node], depth: int, kept: set[AppId] | None) -> Iterator[TreeRow]:
    """Rows in the order of reading; what lies deeper than `depth` is counted, and its worst is named."""
    waiting = [(0, top) for top in reversed(tops) if kept is None or top.app.id in kept]
    while waiting:
        level, node = waiting.pop()
        children = [child for child in sight.children(node) if kept is None or child.app.id in kept]
        folded = level == depth and bool(children)
        yield TreeRow(
            depth=level,
            app=str(node.app.id),
            environment=node.app.environment,
            health=node.app.health,
            sync=node.app.sync,
            folded=len(children) if folded else None,
            failing_below=_failing_below(sight, node) if folded else None,
        )
        if not folded:
            waiting.extend((level + 1, child) for child in reversed(children))


def _lead_to_unhealthy(sight: Sight, nodes: Sequence[Node]) -> set[AppId]:
    """The unhealthy apps and all that is above them."""
    kept: set[AppId] = set()
    for node in nodes:
        above: Node | None = node if node.app.health is not Health.HEALTHY else None
        while above is not None and above.app.id not in kept:
            kept.add(above.app.id)
            above = sight.parent(above)
    return kept
