"""The tool that searches the record: who did, proposed and approved what, when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ...policies.errors import Invalid, Reason
from ...policies.model import INSTALLATION, Action, Resource
from ..budget import Page
from ..paging import SHORT_PAGE, Paged, open_cursor, seal_cursor
from ..record import Event, Record, RecordQuery, is_of
from ..tables import align
from ..text import quote, quote_name
from ..times import read_moment
from ..tool import AnyTool, Context, Result, Tool, Untrusted, join_lines

_ROUNDS = 25
"""How often a search reads on to fill its page, past records that the caller may not see."""

_ENDINGS = frozenset({Event.CALL_DENIED, Event.CALL_FAILED})


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
    event: Event
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
    position = open_cursor(ctx, "record_search", params)
    asked = _read_query(ctx, params)
    query = asked if everyone else _narrow(ctx, asked)
    found: list[Record] = []
    for _ in range(_ROUNDS):
        page = await ctx.records.search(replace(query, before=position, limit=params.limit - len(found)))
        found += page.records if everyone else _keep_own(ctx, asked, page.records)
        position = page.next
        if not position or len(found) == params.limit:
            break
    return RecordRows(
        everyone=everyone,
        records=[_show(record) for record in found],
        cursor=seal_cursor(ctx, "record_search", params, position) or None,
        cut=SHORT_PAGE if position and len(found) < params.limit else None,
    )


def _read_query(ctx: Context, params: RecordSearchParams) -> RecordQuery:
    return RecordQuery(
        caller=ctx.caller.key if params.person == "me" else params.person,
        agent=params.agent,
        event=_read_event(params.event),
        tool=params.tool,
        resource=params.resource,
        proposal=params.proposal,
        since=read_moment(params.since, ctx.now, field="since"),
        until=read_moment(params.until, ctx.now, field="until"),
    )


def _read_event(asked: str) -> str:
    if not any(is_of(event, asked) for event in Event):
        things = sorted({event.partition(":")[0] for event in Event})
        raise Invalid("is not recorded", field="event", hint=f"Things with events: {', '.join(things)}.")
    return asked


def _narrow(ctx: Context, asked: RecordQuery) -> RecordQuery:
    """The query for one's own records. What a veil changes is left for `_keep_own` to compare, after veiling: were the
    store asked for it, then which records come back would tell a denied call from one about nothing."""
    event = "" if any(is_of(ending, asked.event) for ending in _ENDINGS) else asked.event
    return replace(asked, caller=ctx.caller.key, event=event, resource="", proposal="")


def _keep_own(ctx: Context, asked: RecordQuery, records: Sequence[Record]) -> list[Record]:
    own = [_veil(record) for record in records if record.caller == ctx.caller.key]
    return [
        record
        for record in own
        if asked.caller in ("", record.caller, record.caller_name)
        and is_of(record.event, asked.event)
        and asked.resource in record.resource
        and (not asked.proposal or asked.proposal == record.proposal or asked.proposal in record.resource)
    ]


def _veil(record: Record) -> Record:
    """The record as the caller may see it: a call that was answered "not there" looks the same whether the thing is
    hidden or missing, since the answer did."""
    if record.event not in _ENDINGS or record.outcome != Reason.NOT_THERE:
        return record
    return replace(record, event=Event.CALL_FAILED, resource="", policies=(), proposal="")


def _show(record: Record) -> RecordRow:
    return RecordRow(
        time=record.time,
        event=record.event,
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
