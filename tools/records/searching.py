"""Searching the record as one caller may: everyone's records, or one's own as they were answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...policies.errors import Invalid, Reason
from ...policies.model import Caller
from ..record import Event, Record, RecordPage, RecordQuery, Records, is_of

_ROUNDS = 25
"""How often a search reads on to fill its page, past records that the caller may not see."""

_ENDINGS = frozenset({Event.CALL_DENIED, Event.CALL_FAILED})


async def search_as(caller: Caller, records: Records, asked: RecordQuery, *, everyone: bool) -> RecordPage:
    """A page of what the query asks for, newest first; a page that is not full may still have more behind it.

    `everyone` is whether policy lets the caller see what others did. Raises `Invalid` and `Unavailable` as the search
    itself does."""
    query = asked if everyone else _narrow(caller, asked)
    position, found = asked.before, list[Record]()
    for _ in range(_ROUNDS):
        page = await records.search(replace(query, before=position, limit=asked.limit - len(found)))
        found += page.records if everyone else _keep_own(caller, asked, page.records)
        position = page.next
        if not position or len(found) == asked.limit:
            break
    return RecordPage(found, position)


def check_event(asked: str) -> str:
    """The event, or the thing of events, that is asked for; raises `Invalid` (field `event`) for what is not recorded."""
    if not any(is_of(event, asked) for event in Event):
        raise Invalid("is not recorded", field="event", hint=f"Things with events: {', '.join(list_things())}.")
    return asked


def list_things() -> list[str]:
    """What there are events of."""
    return sorted({event.partition(":")[0] for event in Event})


def _narrow(caller: Caller, asked: RecordQuery) -> RecordQuery:
    """The query for one's own records. What a veil changes is left for `_keep_own` to compare, after veiling: were the
    store asked for it, then which records come back would tell a denied call from one about nothing."""
    event = "" if any(is_of(ending, asked.event) for ending in _ENDINGS) else asked.event
    return replace(asked, caller=caller.key, event=event, resource="", proposal="", decision="")


def _keep_own(caller: Caller, asked: RecordQuery, records: Sequence[Record]) -> list[Record]:
    own = [_veil(record) for record in records if record.caller == caller.key]
    return [
        record
        for record in own
        if asked.caller in ("", record.caller, record.caller_name)
        and is_of(record.event, asked.event)
        and asked.resource in record.resource
        and asked.decision in ("", record.decision)
        and (not asked.proposal or asked.proposal == record.proposal or asked.proposal in record.resource)
    ]


def _veil(record: Record) -> Record:
    """The record as the caller may see it: a call that was answered "not there" looks the same whether the thing is
    hidden or missing, since the answer did."""
    if record.event not in _ENDINGS or record.outcome != Reason.NOT_THERE:
        return record
    return replace(record, event=Event.CALL_FAILED, resource="", policies=(), proposal="", decision="")
