"""The tools that read Redis: how a source is, which keys an app owns, what one of them holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ...policies.errors import Invalid
from ...policies.model import INSTALLATION, Action, Resource
from ..budget import Page
from ..paging import Paged, Sized, open_cursor, seal_cursor
from ..text import margin, quote, quote_name
from ..tool import AnyTool, Context, Params, Result, Tool, Untrusted, join_lines
from .keyspaces import (
    Keyspace,
    choose_keyspace,
    find_key,
    find_keyspaces,
    match_prefix,
    narrow,
    show_key,
    show_value,
)
from .overview import SourceRow, summarise_source
from .source import RedisState
from .values import STRING_WINDOW, Group, Item, Key, describe_keys, read_groups, read_items

_SCAN_COUNT = 1_000
_SCAN_ROUNDS = 20
"""A call looks at no more keys than this many times `_SCAN_COUNT`, whoever owns them."""

_VALUE = 500
_WITHHELD = (
    "Values need redis:read_value here, which policy does not give you. Ask the app's owners, or read type, length, "
    "ttl and groups."
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OverviewParams(Params):
    app: str = ""
    source: str = ""


class PrefixRow(_Part):
    prefix: Untrusted
    source: str
    keys: int
    complete: bool = Field(description="false: at least so many")


class Overview(Result):
    sources: list[SourceRow]
    prefixes: list[PrefixRow] = Field(description="of the app")


class KeysParams(Paged):
    app: str
    prefix: str = ""


class KeyRow(_Part):
    key: Untrusted
    type: str
    ttl_seconds: int | None = Field(default=None, description="none: it stays")
    bytes: int | None = None
    length: int | None = Field(default=None, description="elements; of a string bytes")


class Keys(Result):
    source: str
    keys: list[KeyRow]
    cursor: str | None = Field(default=None, description="of the next page")


class ReadParams(Sized):
    app: str
    key: str
    offset: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1, le=100)] = 20


class ItemRow(_Part):
    name: Untrusted | None = Field(default=None, description="hash field, stream id")
    value: Untrusted | None = None
    score: float | None = None
    fields: dict[str, Untrusted] | None = None


class GroupRow(_Part):
    name: Untrusted
    consumers: int
    pending: int
    lag: int | None = None


class Value(Result):
    key: Untrusted
    source: str
    type: str = Field(description="none: there is no such key")
    ttl_seconds: int | None = None
    bytes: int | None = None
    length: int | None = None
    items: list[ItemRow] = Field(description="of a stream newest first")
    groups: list[GroupRow] = Field(description="of a stream")
    withheld: str | None = None
    next_offset: int | None = None


async def _overview_of(ctx: Context, params: OverviewParams) -> Sequence[Resource]:
    return [one.resource for one in find_keyspaces(ctx, params.app)] if params.app else (INSTALLATION,)


async def _show_overview(ctx: Context, params: OverviewParams) -> Overview:
    redis = ctx.source(RedisState)
    owned = find_keyspaces(ctx, params.app) if params.app else []
    known = [*dict.fromkeys(one.source for one in owned)] if params.app else list(redis.names)
    names = [name for name in known if params.source in ("", name)]
    if not names:
        told = f"Known: {', '.join(known)}." if known else "The settings name none."
        raise Invalid("There is no such Redis source.", field="source", hint=told)
    infos = await asyncio.gather(*map(redis.info, names))
    counted = await asyncio.gather(*(_count_keys(redis, owned, one) for one in owned if one.source in names))
    return Overview(
        sources=[summarise_source(name, info) for name, info in zip(names, infos, strict=True)], prefixes=counted
    )


async def _count_keys(redis: RedisState, owned: Sequence[Keyspace], space: Keyspace) -> PrefixRow:
    keys: set[bytes] = set()
    at = _Position()
    for _ in range(_SCAN_ROUNDS):
        found, at = await _scan(redis, owned, [(space, space.prefix.encode())], at)
        keys.update(found)
        if at.space:
            break
    return PrefixRow(prefix=space.prefix, source=space.source, keys=len(keys), complete=bool(at.space))


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a listing goes on: which keyspace, which server of it, Redis's cursor there, keys of that answer given."""

    space: int = 0
    node: int = 0
    cursor: int = 0
    given: int = 0

    def __str__(self) -> str:
        return f"{self.space}:{self.node}:{self.cursor}:{self.given}"

    @classmethod
    def read(cls, text: str) -> _Position:
        return cls(*map(int, text.split(":"))) if text else cls()


async def _scan(
    redis: RedisState, owned: Sequence[Keyspace], listed: Sequence[tuple[Keyspace, bytes]], at: _Position
) -> tuple[list[bytes], _Position]:
    """One answer of Redis and the position after it. A key is given only where it belongs, whatever the pattern said."""
    space, prefix = listed[at.space]
    found, node, cursor = await redis.scan(space.source, match_prefix(prefix), at.node, at.cursor, _SCAN_COUNT)
    keys = [key for key in found if key.startswith(prefix) and choose_keyspace(owned, space.source, key) is space]
    return keys, _Position(at.space + 1) if node < 0 else _Position(at.space, node, cursor)


async def _keys_of(ctx: Context, params: KeysParams) -> Sequence[Resource]:
    return [space.resource for space, _ in narrow(find_keyspaces(ctx, params.app), params.prefix)]


async def _list_keys(ctx: Context, params: KeysParams) -> Keys:
    redis = ctx.source(RedisState)
    owned = find_keyspaces(ctx, params.app)
    listed = narrow(owned, params.prefix)
    at = _Position.read(open_cursor(ctx, "redis_keys", params))
    names: dict[bytes, None] = {}
    source = listed[min(at.space, len(listed) - 1)][0].source
    for _ in range(_SCAN_ROUNDS):
        if at.space >= len(listed) or listed[at.space][0].source != source or len(names) >= params.limit:
            break
        found, after = await _scan(redis, owned, listed, at)
        fitting = found[at.given : at.given + params.limit - len(names)]
        names.update(dict.fromkeys(fitting))
        rest = at.given + len(fitting) < len(found)
        at = replace(at, given=at.given + len(fitting)) if rest else after
    more = at.space < len(listed)
    keys = await describe_keys(redis, source, list(names))
    return Keys(
        source=source,
        keys=[_show_key(key) for key in keys],
        cursor=seal_cursor(ctx, "redis_keys", params, str(at)) if more else None,
        cut="Redis holds many other keys: go on with the cursor." if more and len(names) < params.limit else None,
    )


def _show_key(key: Key) -> KeyRow:
    return KeyRow(key=show_key(key.name), type=key.type, ttl_seconds=key.ttl, bytes=key.size, length=key.length)


async def _key_of(ctx: Context, params: ReadParams) -> Sequence[Resource]:
    return (find_key(find_keyspaces(ctx, params.app), params.key)[0].resource,)


async def _read_key(ctx: Context, params: ReadParams) -> Value:
    redis = ctx.source(RedisState)
    space, name = find_key(find_keyspaces(ctx, params.app), params.key)
    allowed = ctx.policy.decide(Action.REDIS_READ_VALUE, space.resource).allowed
    described = await describe_keys(redis, space.source, [name])
    if not described:
        return Value(key=show_key(name), source=space.source, type="none", items=[], groups=[])
    (key,) = described
    items = await read_items(redis, space.source, key, params.offset, params.count) if allowed else []
    groups = await read_groups(redis, space.source, key) if key.type == "stream" else []
    after = params.offset + (STRING_WINDOW if key.type == "string" else len(items))
    return Value(
        key=show_key(name),
        source=space.source,
        type=key.type,
        ttl_seconds=key.ttl,
        bytes=key.size,
        length=key.length,
        items=[_show_item(item) for item in items],
        groups=[_show_group(group) for group in groups],
        withheld=None if allowed else _WITHHELD,
        next_offset=after if items and key.length and after < key.length else None,
    )


def _show_item(item: Item) -> ItemRow:
    return ItemRow(
        name=None if item.name is None else show_value(item.name, _VALUE),
        value=None if item.fields else show_value(item.value, STRING_WINDOW),
        score=item.score,
        fields={show_value(name, _VALUE): show_value(value, _VALUE) for name, value in item.fields} or None,
    )


def _show_group(group: Group) -> GroupRow:
    return GroupRow(
        name=show_value(group.name, _VALUE), consumers=group.consumers, pending=group.pending, lag=group.lag
    )


def _render_overview(result: Overview) -> str:
    return join_lines(
        (
            *(_render_source(row) for row in result.sources),
            *(
                f"{quote_name(row.prefix)}* in {row.source}: {'' if row.complete else 'at least '}{row.keys} keys"
                for row in result.prefixes
            ),
            result.cut,
        )
    )


def _render_source(row: SourceRow) -> str:
    limit = f" of {row.memory_limit_bytes}" if row.memory_limit_bytes else ""
    return join_lines(
        (
            f"{row.source}: Redis {row.version}, {row.mode}, {row.servers} servers, {row.replicas} replicas, "
            f"up {row.uptime_seconds} s, {row.keys} keys, {row.memory_bytes}{limit} bytes, {row.clients} clients "
            f"({row.blocked_clients} blocked), {row.ops_per_second} commands/s"
            + (f", hit rate {row.hit_rate}" if row.hit_rate is not None else ""),
            *(f"  {sign}" for sign in row.signs),
        )
    )


def _render_keys(result: Keys) -> str:
    return join_lines(
        (
            f"{len(result.keys)} keys in {result.source}",
            *(f"{quote_name(row.key)} ({_render_facts(row)})" for row in result.keys),
            f"Next page: cursor {result.cursor}" if result.cursor else None,
            result.cut,
        )
    )


def _render_facts(row: KeyRow | Value) -> str:
    stays = "stays" if row.ttl_seconds is None else f"{row.ttl_seconds} s to live"
    length = f", length {row.length}" if row.length is not None else ""
    return f"{row.type}{length}, {stays}" + (f", {row.bytes} bytes" if row.bytes is not None else "")


def _render_value(result: Value) -> str:
    if result.type == "none":
        return f"There is no key {quote_name(result.key)} in {result.source}."
    return join_lines(
        (
            f"{quote_name(result.key)} in {result.source} ({_render_facts(result)})",
            *(_render_item(row) for row in result.items),
            *(
                f"group {quote_name(row.name)}: {row.consumers} consumers, {row.pending} pending"
                + (f", {row.lag} behind" if row.lag is not None else "")
                for row in result.groups
            ),
            result.withheld,
            f"More: offset {result.next_offset}" if result.next_offset is not None else None,
            result.cut,
        )
    )


def _render_item(row: ItemRow) -> str:
    score = f" (score {row.score:g})" if row.score is not None else ""
    name = f"- {quote_name(row.name)}:" if row.name is not None else "-"
    if row.value and "\n" in row.value:
        return "\n".join((f"{name}{score}", *margin(row.value, "  ")))
    held = ", ".join(f"{quote_name(key)}={quote_name(value) or '«»'}" for key, value in (row.fields or {}).items())
    return f"{name} {held or quote(row.value) or '«»'}{score}"


TOOLS: tuple[AnyTool, ...] = (
    Tool(
        name="redis_keys",
        description=(
            "Keys an app owns in Redis, in pages: type, ttl, bytes, length. prefix narrows. A page can be short: go on "
            "while there is a cursor."
        ),
        params=KeysParams,
        result=Keys,
        action=Action.REDIS_LIST,
        resources=_keys_of,
        run=_list_keys,
        render=_render_keys,
        target="app",
        page=Page("keys"),
        narrower="a longer prefix",
    ),
    Tool(
        name="redis_overview",
        description=(
            "How Redis is: memory, clients, replication, signs of trouble; of one source or all, or of what an app "
            "owns, with a count of its keys."
        ),
        params=OverviewParams,
        result=Overview,
        action=Action.REDIS_LIST,
        resources=_overview_of,
        run=_show_overview,
        render=_render_overview,
        target="app",
    ),
    Tool(
        name="redis_read",
        description=(
            "One key that an app owns: what it is, a stream's consumer groups, and count elements from offset (of a "
            f"string {STRING_WINDOW} bytes)."
        ),
        params=ReadParams,
        result=Value,
        action=Action.REDIS_READ,
        resources=_key_of,
        run=_read_key,
        render=_render_value,
        target="app",
        page=Page("items", "count"),
    ),
)
