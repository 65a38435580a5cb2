"""A gate whose one tool really proposes, in the world of the pages; as a program, an MCP server of it over a pipe:
`python proposing.py FOLDER`, with the URL of a Redis in $REDIS_URL."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from arborgate.policies.model import Action, Caller, Resource
from arborgate.server.gate import CallerPolicy, Gate
from arborgate.server.mcp import build_server
from arborgate.server.metrics import Metrics
from arborgate.server.redaction import Redactor
from arborgate.server.showing import Showing
from arborgate.tools.proposal import ProposalState
from arborgate.tools.record import Records
from arborgate.tools.tool import AnyTool, Context, Effect, Params, Result, Sealer, Tool
from tests.server.test_gate import app_named, make_caller
from tests.server.web.world import World, open_world
from tests.tools.world import ENVIRONMENTS


class Wanted(Params):
    app: str
    refused: bool = False


class Offered(Result):
    proposal: str
    state: ProposalState
    page: str | None = None


def make_proposing(world: World) -> AnyTool:
    """Its proposals wait for approval, or are refused when that is asked for."""

    async def name_app(_ctx: Context, params: Wanted) -> Sequence[Resource]:
        return [app_named(params.app)]

    async def propose(ctx: Context, params: Wanted) -> Offered:
        proposal = await world.propose(caller=ctx.caller)
        if params.refused:
            proposal = await world.book.withdraw(proposal.id, ctx.caller)
        page = f"{world.url}/proposals/{proposal.id}"
        return Offered(proposal=proposal.id, state=proposal.state, page=page)

    return Tool(
        name="rollout_propose",
        description="Proposes.",
        params=Wanted,
        result=Offered,
        action=Action.ROLLOUT_PROPOSE,
        resources=name_app,
        run=propose,
        render=lambda told: f"{told.proposal}: {told.state}: {told.page}",
        effect=Effect.PROPOSES,
    )


def make_gate(world: World, tool: AnyTool, recorder: Any = None) -> Gate:
    async def enter(caller: Caller, policy: CallerPolicy) -> Context:
        return Context(
            caller=caller,
            policy=policy,
            tree=world.tree,
            environments=ENVIRONMENTS,
            proposals=world.book,
            records=cast("Records", None),
            sources={},
            seal=cast("Sealer", None),
            now=0.0,
        )

    return Gate(
        [tool],
        engine=world.pages.engine,
        context=enter,
        recorder=recorder or world.audit,
        cleaner=Redactor(),
        metrics=Metrics(),
        timeout=10.0,
    )


async def main(folder: Path) -> None:
    from mcp.server.stdio import stdio_server

    async with open_world(folder, os.environ["REDIS_URL"]) as world:
        tool = make_proposing(world)
        showing = Showing(world.state, world.book, world.audit, patience=float(os.environ.get("PATIENCE", "3")))
        gate, caller = make_gate(world, tool), make_caller("developer")
        server = build_server(gate, [tool], lambda _ctx: caller, showing)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
        await showing.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
