"""Pages: cursors bound to the caller, the tool and the filters, and rows that end where the budget does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, WithJsonSchema

from ..policies.errors import Invalid
from .budget import ASKED, Budget
from .tool import Context, Params

Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str, Field(description="from the page before")]

SHORT_PAGE = "This page is not full: the search stopped early. Go on with the cursor."
"""What the field `cut` of a page says when much was passed over to fill it, and not enough was found."""


class Sized(Params):
    """The parameters of a tool whose answer can be large: `max_bytes` asks for more than its default, or for less."""

    max_bytes: Annotated[int, WithJsonSchema({"type": "integer"})] = 0


class Paged(Sized):
    """The parameters of a tool that answers in pages; every other parameter is a filter that the cursor binds."""

    limit: Limit = 20
    cursor: Cursor = ""


def open_cursor(ctx: Context, tool: str, params: Paged) -> str:
    """The position to go on from, `""` for the first page.

    Raises `Invalid` (field `cursor`) for a cursor that is broken, another caller's or another search's."""
    if not params.cursor:
        return ""
    filters, _, position = ctx.seal.open(ctx.caller, tool, params.cursor).partition(" ")
    if filters != _digest_filters(params):
        raise Invalid(
            "This cursor belongs to a search with other filters.",
            field="cursor",
            hint="Repeat the filters of the page before, or leave the cursor out to start again.",
        )
    return position


def seal_cursor(ctx: Context, tool: str, params: Paged, position: str) -> str:
    """The cursor of the page that starts at this position; `""` where there is none."""
    return ctx.seal.seal(ctx.caller, tool, f"{_digest_filters(params)} {position}") if position else ""


def _digest_filters(params: Paged) -> str:
    filters = params.model_dump_json(exclude={"cursor", "limit", "max_bytes"})
    return hashlib.sha256(filters.encode()).hexdigest()[:16]


def say_short_page(shown: int, asked: int, params: BaseModel, budget: Budget) -> str:
    """What the field `cut` of a page says that ends early, since the rows asked for do not all fit."""
    more = f", or ask with {ASKED} up to {budget.most}" if budget.leaves_room(params) else ""
    return f"{shown} of {asked} rows asked for fit into {budget.of(params)} bytes: go on from here{more}."


T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


def fill(items: Iterable[T], build: Callable[[T], M], *, budget: int) -> list[M]:
    """Builds rows until their JSON would pass the budget (bytes); at least one, so that paging always moves on."""
    rows: list[M] = []
    for item in items:
        row = build(item)
        budget -= len(row.model_dump_json().encode()) + 1
        if budget < 0 and rows:
            break
        rows.append(row)
    return rows
