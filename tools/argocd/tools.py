"""The tools that read the app tree: find an app, see where it stands, know all about it, know why it fails."""

from __future__ import annotations

from collections.abc import Sequence

from ...policies.model import INSTALLATION, Action, Resource
from ..budget import Page
from ..tool import AnyTool, Context, Tool
from .detail import AppGetParams, get_app
from .diagnosis import AppDiagnoseParams, diagnose_app
from .find import name_app
from .listing import NARROWER, AppListParams, AppTreeParams, list_apps, show_tree
from .rendering import render_detail, render_diagnosis, render_list, render_tree
from .results import AppDetail, AppList, Diagnosis, TreeRows


async def _everything(_: Context, __: AppListParams) -> Sequence[Resource]:
    return (INSTALLATION,)


async def _root(ctx: Context, params: AppTreeParams) -> Sequence[Resource]:
    return (name_app(ctx, params.root, field="root") if params.root else INSTALLATION,)


async def _app(ctx: Context, params: AppGetParams | AppDiagnoseParams) -> Sequence[Resource]:
    return (name_app(ctx, params.app),)


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        name="app_diagnose",
        description=(
            "Why an app is failing: its deepest failing descendants with messages and events, what changed last, "
            "known traps, and which calls to make next."
        ),
        params=AppDiagnoseParams,
        result=Diagnosis,
        action=Action.APP_READ,
        resources=_app,
        run=diagnose_app,
        render=render_diagnosis,
        target="app",
    ),
    Tool(
        name="app_get",
        description=(
            "One app in full: source, revision, images, conditions, deploy history, unhealthy resources, parent, "
            "children, and what it owns in other systems."
        ),
        params=AppGetParams,
        result=AppDetail,
        action=Action.APP_READ,
        resources=_app,
        run=get_app,
        render=render_detail,
        target="app",
    ),
    Tool(
        name="app_list",
        description="Find apps by filter, worst health first, in pages, with counts. Start here.",
        params=AppListParams,
        result=AppList,
        action=Action.APP_LIST,
        resources=_everything,
        run=list_apps,
        render=render_list,
        page=Page("apps"),
        narrower="a filter",
    ),
    Tool(
        name="app_tree",
        description="Which apps are under which (app of apps), with health, as rows with a depth.",
        params=AppTreeParams,
        result=TreeRows,
        action=Action.APP_LIST,
        resources=_root,
        run=show_tree,
        render=render_tree,
        target="root",
        narrower=NARROWER,
    ),
)
