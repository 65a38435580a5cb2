"""Reading one key: what it is, and a window of what it holds, bounded whatever its size."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...policies.errors import Invalid
from ..cuts import AROUND, take_part
from .source import Command, RedisState

LENGTHS: Mapping[str, str] = {
    "hash": "HLEN",
    "list": "LLEN",
    "set": "SCARD",
    "stream": "XLEN",
    "string": "STRLEN",
    "zset": "ZCARD",
}
"""The types that can be read, and the command that says how long one is (a string in bytes)."""

STRING_WINDOW = 2_000
"""Bytes of a string that are shown at once."""

_MOST_BYTES = 1_048_576
_MOST_PASSED_OVER = 16 * _MOST_BYTES
_PASSED_OVER = frozenset({"hash", "set", "stream"})
"""Types in which an offset is reached only by reading what comes before it."""

_CONTINUED = bytes(range(0x80, 0xC0))
"""What a character of UTF-8 can go on with, and none begins with."""

_SCAN_COUNT = 100
_SCAN_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key without its value: `ttl` in seconds (None: it stays), `size` in bytes of memory."""

    name: bytes
    type: str
    ttl: int | None
    size: int | None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One element: `name` is a hash's field or a stream entry's id, `score` a sorted set's."""

    value: bytes
    name: bytes | None = None
    score: float | None = None
    fields: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group of a stream. `lag` is None where Redis cannot tell."""

    name: bytes
    consumers: int
    pending: int
    lag: int | None


async def describe_keys(redis: RedisState, source: str, names: list[bytes]) -> list[Key]:
    """What is known of each key that is still there, in two round trips."""
    asked: list[Command] = []
    for name in names:
        asked += [("TYPE", name), ("PTTL", name), ("MEMORY USAGE", name)]
    answers = await redis.ask(source, asked) if asked else []
    keys = []
    for at, name in enumerate(names):
        kind, ttl, size = answers[3 * at : 3 * at + 3]
        if kind not in (b"none", "none", None):
            keys.append(Key(name, _text(kind), None if ttl is None or ttl < 0 else -(-ttl // 1000), size))
    able = [key for key in keys if key.type in LENGTHS]
    lengths = await redis.ask(source, [(LENGTHS[key.type], key.name) for key in able]) if able else []
    known = {key.name: length for key, length in zip(able, lengths, strict=True)}
    return [replace(key, length=known.get(key.name)) for key in keys]


async def read_items(redis: RedisState, source: str, key: Key, offset: int, count: int) -> list[Item]:
    """The elements of the key from `offset`: of a list and a sorted set in order, of a stream newest first, of a hash
    and a set in Redis's own order; of a string `STRING_WINDOW` bytes.

    Fewer than `count` when the elements are so large that they would pass a mebibyte."""
    read = _READERS.get(key.type)
    if read is None or not key.length or offset >= key.length:
        return []
    mean = max((key.size or 0) // key.length, 1)
    if key.type in _PASSED_OVER and offset * mean > _MOST_PASSED_OVER:
        raise Invalid(
            f"This far into a {key.type} of this size is not read.",
            field="offset",
            hint=f"At most {_MOST_PASSED_OVER // mean}.",
        )
    return await read(redis, source, key, offset, max(1, min(count, _MOST_BYTES // mean)))


async def read_groups(redis: RedisState, source: str, key: Key) -> list[Group]:
    """The consumer groups of a stream."""
    (answer,) = await redis.ask(source, [("XINFO GROUPS", key.name)])
    return [
        Group(
            name=_bytes(group["name"]),
            consumers=int(group["consumers"]),
            pending=int(group["pending"]),
            lag=None if group.get("lag") is None else int(group["lag"]),
        )
        for group in answer or ()
    ]


async def _read_string(redis: RedisState, source: str, key: Key, offset: int, _: int) -> list[Item]:
    begin, end = max(0, offset - AROUND), offset + STRING_WINDOW + AROUND
    (part,) = await redis.ask(source, [("GETRANGE", key.name, begin, end - 1)])
    around, start = _bytes(part or b""), offset - begin
    window = around[start : start + STRING_WINDOW]
    if not window:
        return []
    return [Item(take_part(around, start, start + STRING_WINDOW) if _is_text(around) else window)]


async def _read_list(redis: RedisState, source: str, key: Key, offset: int, count: int) -> list[Item]:
    (part,) = await redis.ask(source, [("LRANGE", key.name, offset, offset + count - 1)])
    return [Item(_bytes(value)) for value in part or ()]


async def _read_sorted_set(redis: RedisState, source: str, key: Key, offset: int, count: int) -> list[Item]:
    (part,) = await redis.ask(source, [("ZRANGE", key.name, offset, offset + count - 1, "WITHSCORES")])
    return [Item(_bytes(value), score=float(score)) for value, score in _pairs(part)]


async def _read_stream(redis: RedisState, source: str, key: Key, offset: int, count: int) -> list[Item]:
    (part,) = await redis.ask(source, [("XREVRANGE", key.name, "+", "-", "COUNT", offset + count)])
    entries: list[tuple[Any, Any]] = list(part or ())
    return [
        Item(b"", name=_bytes(number), fields=tuple((_bytes(name), _bytes(value)) for name, value in _pairs(fields)))
        for number, fields in entries[offset:]
    ]


async def _read_hash(redis: RedisState, source: str, key: Key, offset: int, count: int) -> list[Item]:
    found: list[tuple[Any, Any]] = await _scan_key(redis, source, "HSCAN", key, offset + count)
    return [Item(_bytes(value), name=_bytes(name)) for name, value in found[offset : offset + count]]


async def _read_set(redis: RedisState, source: str, key: Key, offset: int, count: int) -> list[Item]:
    found = await _scan_key(redis, source, "SSCAN", key, offset + count)
    return [Item(_bytes(value)) for value in found[offset : offset + count]]


async def _scan_key(redis: RedisState, source: str, command: str, key: Key, wanted: int) -> list[Any]:
    """The first elements that a scan finds, each once; at most `_SCAN_ROUNDS` calls."""
    found: dict[Any, None] = {}
    cursor = 0
    for _ in range(_SCAN_ROUNDS):
        (answer,) = await redis.ask(source, [(command, key.name, cursor, "COUNT", min(wanted, _SCAN_COUNT))])
        if answer is None:
            break
        cursor, part = int(answer[0]), answer[1]
        found.update(dict.fromkeys(part.items() if isinstance(part, dict) else part))
        if cursor == 0 or len(found) >= wanted:
            break
    return list(found)


_Reader = Callable[[RedisState, str, Key, int, int], Awaitable[list[Item]]]

_READERS: Mapping[str, _Reader] = {
    "hash": _read_hash,
    "list": _read_list,
    "set": _read_set,
    "stream": _read_stream,
    "string": _read_string,
    "zset": _read_sorted_set,
}


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """Pairs, whichever way this version of the protocol gives them: as a map, as pairs, or flat."""
    if isinstance(value, dict):
        return list(value.items())
    items: list[Any] = list(value or ())
    if items and isinstance(items[0], list | tuple):
        return [(one, other) for one, other in items]
    return list(zip(items[::2], items[1::2], strict=True))


def _is_text(part: bytes) -> bool:
    """Whether it is UTF-8, but for the characters that its ends cut in two."""
    whole = part.lstrip(_CONTINUED)
    try:
        whole.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
