"""The tool that tells a caller who they are here, and what they may do."""

from __future__ import annotations

from collections.abc import Sequence

from ...policies.model import INSTALLATION, Action, ActionGroup, Channel, Resource
from ..tables import quote
from ..tool import AnyTool, Context, Params, Result, Tool, Untrusted, join_lines

_BY_PEOPLE = "No tool approves or applies."


class WhoAmIParams(Params):
    pass


class WhoAmI(Result):
    person: Untrusted
    key: str
    agent: str
    actors: list[str]
    channel: Channel
    groups: list[Untrusted]
    roles: list[str]
    may: dict[ActionGroup, list[Action]]
    tools: list[str]
    changes: str


def build_whoami(others: Sequence[AnyTool]) -> AnyTool:
    """The tool `whoami`; `others` are all the other tools, of which it names those that the caller can use."""

    async def tell(ctx: Context, _: WhoAmIParams) -> WhoAmI:
        caller = ctx.caller
        may = [action for action in Action if ctx.policy.could(action)]
        return WhoAmI(
            person=caller.name,
            key=caller.key,
            agent=caller.agent,
            actors=list(caller.actors),
            channel=caller.channel,
            groups=sorted(caller.groups),
            roles=sorted(caller.roles),
            may={group: held for group in ActionGroup if (held := [each for each in may if each.group is group])},
            tools=sorted(["whoami", *(tool.name for tool in others if tool.action in may)]),
            changes=_say_changes(ctx, may),
        )

    return Tool(
        name="whoami",
        description="Who you act for and as which agent, what you may do here, and who has to approve changes.",
        params=WhoAmIParams,
        result=WhoAmI,
        action=Action.CALLER_READ,
        resources=_installation,
        run=tell,
        render=_render,
    )


async def _installation(_: Context, __: WhoAmIParams) -> Sequence[Resource]:
    return (INSTALLATION,)


def _say_changes(ctx: Context, may: Sequence[Action]) -> str:
    if Action.ROLLOUT_PROPOSE not in may:
        return f"You may not propose changes. {_BY_PEOPLE}"
    where = f"on {ctx.pages}/proposals" if ctx.pages else "on the approval pages or in the terminal"
    return f"You may propose changes; a person other than the one you act for approves them {where}. {_BY_PEOPLE}"


def _render(result: WhoAmI) -> str:
    agent = f"acted for by {result.agent}" if result.agent else "without an agent"
    via = f" via {', '.join(result.actors)}" if result.actors else ""
    return join_lines(
        [
            f"{quote(result.person)} ({result.key}), {agent}{via}, over {result.channel}",
            f"Roles: {', '.join(result.roles) or 'none'}; groups: {', '.join(map(quote, result.groups)) or 'none'}",
            *(f"May {group}: {', '.join(actions)}" for group, actions in result.may.items()),
            f"Tools: {', '.join(result.tools)}",
            result.changes,
        ]
    )
