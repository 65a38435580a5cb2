"""The tool that searches the record: who did, proposed and approved what, when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ...policies.model import INSTALLATION, Action, Resource
from ..budget import Page
from ..paging import SHORT_PAGE, Paged, open_cursor, seal_cursor
from ..record import Record, RecordQuery
from ..tables import align
from ..text import quote, quote_name
from ..times import read_moment
from ..tool import AnyTool, Context, Result, Tool, Untrusted, join_lines
from .searching import check_event, search_as


class RecordSearchParams(Paged):
    person: Annotated[str, Field(description="name or key; `me`")] = ""
    agent: str = ""
    tool: str = ""
    event: Annotated[str, Field(description="`proposal:approved`; or `proposal`, all of its")] = ""
    resource: Annotated[str, Field(description="part of an id, such as an app's")] = ""
    proposal: str = ""
    since: Annotated[str, Field(description="RFC 3339, or ago: 30m, 24h, 7d")] = ""
    until: str = ""


class RecordRow(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str
    event: str
    person: Untrusted
    agent: str
    via: list[str] | None = None
    itself: bool | None = None
    tool: str | None = None
    resource: str | None = None
    outcome: str | None = None
    policies: list[str] | None = Field(default=None, description="that decided")
    proposal: str | None = None
    line: str = Field(description="replica/number in the audit log")


class RecordRows(Result):
    everyone: bool = Field(description="false: only records of the person you act for")
    records: list[RecordRow] = Field(description="newest first")
    cursor: str | None = Field(default=None, description="of the next page")


async def _search(ctx: Context, params: RecordSearchParams) -> RecordRows:
    everyone = ctx.policy.decide(Action.RECORD_SEARCH_ALL, INSTALLATION).allowed
    asked = _read_query(ctx, params)
    page = await search_as(ctx.caller, ctx.records, asked, everyone=everyone)
    return RecordRows(
        everyone=everyone,
        records=[_show(record) for record in page.records],
        cursor=seal_cursor(ctx, "record_search", params, page.next) or None,
        cut=SHORT_PAGE if page.next and len(page.records) < params.limit else None,
    )


def _read_query(ctx: Context, params: RecordSearchParams) -> RecordQuery:
    return RecordQuery(
        caller=ctx.caller.key if params.person == "me" else params.person,
        agent=params.agent,
        event=check_event(params.event),
        tool=params.tool,
        resource=params.resource,
        proposal=params.proposal,
        since=read_moment(params.since, ctx.now, field="since"),
        until=read_moment(params.until, ctx.now, field="until"),
        before=open_cursor(ctx, "record_search", params),
        limit=params.limit,
    )


def _show(record: Record) -> RecordRow:
    return RecordRow(
        time=record.time,
        event=str(record.event),
        person=record.caller_name or record.caller,
        agent=record.agent,
        via=list(record.actors) or None,
        itself=record.itself or None,
        tool=record.tool or None,
        resource=record.resource or None,
        outcome=record.outcome or None,
        policies=list(record.policies) or None,
        proposal=record.proposal or None,
        line=f"{record.replica}/{record.seq}",
    )


def _render(result: RecordRows) -> str:
    whose = "Records of everyone" if result.everyone else "Your own records"
    return join_lines(
        [
            f"{whose}, newest first:" if result.records else f"{whose}: none.",
            *align(
                (
                    row.time,
                    row.event,
                    _say_who(row),
                    quote_name(row.tool),
                    quote_name(row.resource),
                    row.outcome,
                    quote_name(row.proposal),
                    f"by {', '.join(row.policies)}" if row.policies else None,
                    f"[{row.line}]",
                )
                for row in result.records
            ),
            f"Next page: cursor {result.cursor}" if result.cursor else None,
            result.cut,
        ]
    )


def _say_who(row: RecordRow) -> str:
    if row.itself:
        return f"{quote(row.person)} for itself"
    via = f" via {', '.join(map(quote_name, row.via))}" if row.via else ""
    return f"{quote(row.person)} with {quote_name(row.agent) or 'no agent'}{via}"


async def _installation(_: Context, __: RecordSearchParams) -> Sequence[Resource]:
    return (INSTALLATION,)


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        name="record_search",
        description="The audit record, newest first: who did, proposed, approved or was denied what, when.",
        params=RecordSearchParams,
        result=RecordRows,
        action=Action.RECORD_SEARCH,
        resources=_installation,
        run=_search,
        render=_render,
        page=Page("records"),
        narrower="a filter",
    ),
)
