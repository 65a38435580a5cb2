"""The tool that tells a caller who they are here, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from ...policies.model import INSTALLATION, Action, ActionGroup, AgentTrust, Binding, Channel, Resource
from ..text import quote, quote_name
from ..tool import AnyTool, Context, Identity, Mark, Params, Result, Tool, join_lines

_BY_PEOPLE = "No tool approves or applies."


class WhoAmIParams(Params):
    pass


class WhoAmI(Result):
    person: Identity
    key: Annotated[str, Mark.IDENTITY]
    itself: bool = Field(description="true: an app or agent for itself, no person")
    agent: str
    actors: list[str]
    trust: AgentTrust = Field(description="of the worst of these")
    channel: Channel
    binding: Binding = Field(description="bearer: no key")
    groups: list[Identity]
    roles: list[str]
    roles_at: dict[str, list[str]] | None = Field(default=None, description="by app, and below it")
    within: str | None = Field(default=None, description="the only app")
    scopes: list[str] | None = Field(default=None, description="that the token lacks")
    may: dict[ActionGroup, list[Action]]
    may_not: dict[ActionGroup, list[str]] | None = Field(default=None, description="but the person may")
    tools: list[str]
    changes: str


def build_whoami(others: Sequence[AnyTool]) -> AnyTool:
    """The tool `whoami`; `others` are all the other tools, of which it names those that the caller can use."""

    async def tell(ctx: Context, _: WhoAmIParams) -> WhoAmI:
        caller = ctx.caller
        may = [action for action in Action if ctx.policy.could(action)]
        only_alone = {action: _say_where(action, reach) for action, reach in ctx.policy.only_alone().items()}
        return WhoAmI(
            person=caller.name,
            key=caller.key,
            itself=caller.itself,
            agent=caller.agent,
            actors=list(caller.actors),
            trust=ctx.policy.trust,
            channel=caller.channel,
            binding=caller.binding,
            groups=sorted(caller.groups),
            roles=sorted(caller.roles),
            roles_at=_by_app(caller.grants) or None,
            within=caller.within or None,
            scopes=sorted({scope for _, scope in caller.withheld}) or None,
            may={group: held for group in ActionGroup if (held := [each for each in may if each.group is group])},
            may_not={
                group: kept
                for group in ActionGroup
                if (kept := [said for action, said in only_alone.items() if action.group is group])
            }
            or None,
            tools=sorted(["whoami", *(tool.name for tool in others if tool.action in may)]),
            changes=_say_changes(ctx, may),
        )

    return Tool(
        name="whoami",
        description="Who you act for and as which agent, what you may do here and they could without you, and who has to "
        "approve changes.",
        params=WhoAmIParams,
        result=WhoAmI,
        action=Action.CALLER_READ,
        resources=_installation,
        run=tell,
        render=_render,
    )


async def _installation(_: Context, __: WhoAmIParams) -> Sequence[Resource]:
    return (INSTALLATION,)


def _by_app(grants: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for role, app in sorted(grants):
        found.setdefault(app, []).append(role)
    return found


def _say_where(action: Action, reach: frozenset[bool]) -> str:
    """The action, with the environments that it is about where those are not all."""
    if len(reach) > 1:
        return action
    return f"{action} in strict environments" if True in reach else f"{action} outside strict environments"


def _say_changes(ctx: Context, may: Sequence[Action]) -> str:
    if Action.ROLLOUT_PROPOSE not in may:
        unknown = ctx.policy.trust is AgentTrust.UNKNOWN
        why = ": the platform team has not said that it trusts this agent" if unknown else ""
        return f"You may not propose changes{why}. {_BY_PEOPLE}"
    where = f"on {ctx.pages}/proposals" if ctx.pages else "on the approval pages or in the terminal"
    who = "a person" if ctx.caller.itself else "a person other than the one you act for"
    return f"You may propose changes; {who} approves them {where}. {_BY_PEOPLE}"


def _render(result: WhoAmI) -> str:
    agent = f"acted for by {quote_name(result.agent)}" if result.agent else "without an agent"
    agent = "acting for itself" if result.itself else agent
    agent += " (not trusted here)" if result.trust is AgentTrust.UNKNOWN else ""
    via = f" via {', '.join(map(quote_name, result.actors))}" if result.actors else ""
    bound = f"bound by {result.binding}" if result.binding.bound else "not bound"
    roles_at = (result.roles_at or {}).items()
    may_not = (result.may_not or {}).items()
    return join_lines(
        [
            f"{quote(result.person)} ({quote_name(result.key)}), {agent}{via}, over {result.channel}, {bound}",
            f"Roles: {', '.join(result.roles) or 'none'}; groups: {', '.join(map(quote_name, result.groups)) or 'none'}",
            *(f"At {app} and below: {', '.join(roles)}" for app, roles in roles_at),
            f"The token is good for {result.within} and what is below it alone." if result.within else None,
            f"The token lacks the scopes {', '.join(result.scopes)}" if result.scopes else None,
            *(f"May {group}: {', '.join(actions)}" for group, actions in result.may.items()),
            *(f"May not, though the person alone may, {group}: {', '.join(kept)}" for group, kept in may_not),
            f"Tools: {', '.join(result.tools)}",
            result.changes,
        ]
    )
