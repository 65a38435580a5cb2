"""Finding the calls that an agent cites: only those made for the same person, as if there were no others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from ...policies.errors import Invalid, Reason
from ..evidence import Evidence
from ..record import Event, Record, RecordQuery
from ..tool import Context

_SINCE = 24 * 3_600.0
"""Seconds: evidence that is older shows how things were, not how they are."""

_PAGE = 200
_ROUNDS = 25
_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[1-9][0-9]{0,15}")
_CALLS = frozenset({Event.CALL_ANSWERED, Event.CALL_DENIED, Event.CALL_FAILED})


class Cited(BaseModel):
    """A call on record as an agent cites it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: Annotated[str, Field(max_length=128), WithJsonSchema({"type": "string"})]
    note: Annotated[str, Field(max_length=200), WithJsonSchema({"type": "string"})] = ""


async def find_evidence(ctx: Context, cited: Sequence[Cited]) -> tuple[Evidence, ...]:
    """The cited calls, in their order, each once.

    Raises `Invalid` naming the field for what is no line of the record, and in the same words for one that is not a call of
    the caller's person in the last day, whether it is somebody else's, older or not there."""
    for index, one in enumerate(cited):
        if not _LINE.fullmatch(one.line):
            raise Invalid(
                "is not a line of the record",
                field=f"evidence.{index}.line",
                hint="record_search tells it: serve-1/42.",
            )
    found = await _find_own(ctx, {one.line for one in cited}) if cited else {}
    for index, one in enumerate(cited):
        if one.line not in found:
            raise Invalid(
                "is not a call that was made for you in the last 24 hours",
                field=f"evidence.{index}.line",
                hint="record_search with person=me lists them.",
            )
    notes = {one.line: one.note for one in cited}
    return tuple(_cite(found[line], line, note) for line, note in notes.items())


async def _find_own(ctx: Context, wanted: set[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    position = ""
    for _ in range(_ROUNDS):
        page = await ctx.records.search(
            RecordQuery(caller=ctx.caller.key, since=ctx.now - _SINCE, before=position, limit=_PAGE)
        )
        for record in page.records:
            line = f"{record.replica}/{record.seq}"
            # A search finds people by their names too.
            if line in wanted and record.caller == ctx.caller.key and record.event in _CALLS and record.tool:
                found[line] = record
        position = page.next
        if not position or len(found) == len(wanted):
            break
    return found


def _cite(record: Record, line: str, note: str) -> Evidence:
    hides = record.outcome == Reason.NOT_THERE  # hidden or missing: the caller was told the same
    return Evidence(
        line=line,
        at=record.time,
        tool=record.tool,
        resource="" if hides else record.resource,
        outcome=record.outcome,
        arguments_digest=record.arguments_digest,
        note=note,
    )
