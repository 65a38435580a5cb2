"""From what a tool found to what leaves: cleaned, and within its budget as data and as text alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..policies.errors import Invalid
from ..tools.budget import ASKED
from ..tools.fields import find_fields
from ..tools.paging import say_short_page
from ..tools.tool import AnyTool, Params, Result
from .budget import cut_to_budget, measure

Json = dict[str, Any]

_ROUNDS = 6
"""How often a page is asked for anew, each time with fewer rows, until it fits."""

_ROOM_FOR_WORDS = 400
"""Bytes kept free for saying what was left out."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What leaves: `data` fits the tool's result model, `text` says the same; `size` is that of the data's JSON."""

    data: Json
    text: str
    size: int
    redactions: int


async def prepare(
    tool: AnyTool,
    params: Params,
    result: Result,
    *,
    clean: Callable[[Json], tuple[Json, int]],
    again: Callable[[Params], Awaitable[Result]],
) -> Prepared:
    """The answer within the budget that the call asks for. A page that does not fit is asked for `again` with fewer rows,
    so that its cursor goes on behind the last one shown; anything else is cut. Raises `Invalid` where it can't be."""
    room, asked, rounds = tool.budget.of(params), params, 0
    while True:
        dumped = result.model_dump(mode="json", exclude_none=True)
        data, redactions = clean(dumped)
        untouched = data is dumped
        if rounds and tool.page:
            told = say_short_page(len(data[tool.page.rows]), getattr(params, tool.page.count), params, tool.budget)
            data["cut"] = " ".join(filter(None, (result.cut, told)))
            untouched = False
        size = largest = measure(data)
        if size <= room:
            text = tool.render(result if untouched else tool.result.model_validate(data))
            largest = _count_bytes(text)
            if largest <= room:
                return Prepared(data, text, size, redactions)
        fewer = _ask_fewer(tool, asked, data, (room - _ROOM_FOR_WORDS) / largest)
        if fewer is None or rounds == _ROUNDS:
            text, size = _cut(tool, params, data, room)
            return Prepared(data, text, size, redactions)
        asked, result, rounds = fewer, await again(fewer), rounds + 1


def say_way_out(tool: AnyTool, params: Params) -> str:
    """How to ask for what was left out of an answer; `""` where there is no way."""
    more = f"ask with {ASKED} up to {tool.budget.most}" if tool.budget.leaves_room(params) else ""
    told = ", or ".join(filter(None, (more, tool.narrower and f"give {tool.narrower}")))
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def _ask_fewer(tool: AnyTool, asked: Params, data: Json, share: float) -> Params | None:
    """The call with as many rows as will fit; None where there is no row that could be left for the next page."""
    rows = len(data[tool.page.rows]) if tool.page else 0
    if tool.page is None or rows < 2:
        return None
    return asked.model_copy(update={tool.page.count: max(1, min(rows - 1, int(rows * share)))})


def _cut(tool: AnyTool, params: Params, data: Json, room: int) -> tuple[str, int]:
    """Cuts the data, in place, until it and its text fit; gives the text and the size of the data."""
    fields, way_out = find_fields(tool.result), say_way_out(tool, params)
    keep = tool.page.rows if tool.page else ""
    size = cut_to_budget(data, room, fields, keep=keep, way_out=way_out)
    text = tool.render(tool.result.model_validate(data))
    while (excess := _count_bytes(text) - room) > 0:
        try:
            size = cut_to_budget(data, size - max(excess, 64), fields, keep=keep, way_out=way_out)
        except Invalid:  # nothing is left to leave out, but the data fits
            return _end_early(tool.render(tool.result.model_validate(data)), room), measure(data)
        text = tool.render(tool.result.model_validate(data))
    return text, size


def _end_early(text: str, room: int) -> str:
    """The last resort, for a text that cannot be made smaller by leaving out of the data: its first lines."""
    shown = text.encode()[: room - _ROOM_FOR_WORDS].decode(errors="ignore").rpartition("\n")[0]
    return f"{shown}\nThis text ends here, to stay within {room} bytes; the structured result has the rest."


def _count_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
