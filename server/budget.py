"""The size of an answer: what is too big for its budget is cut, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

_ROUNDS = 64
_SHORTEST_TEXT = 200
_TEXT_SHARE = 4


def cut_to_budget(data: dict[str, Any], budget: int) -> tuple[dict[str, Any], int]:
    """The data in at most `budget` bytes of JSON, and its size. The longest lists lose their tails first, then the
    longest texts; the field `cut` then says what is missing. This is the last resort: tools page by themselves."""
    size = len(orjson.dumps(data))
    if size <= budget:
        return data, size
    lost: dict[str, int] = {}
    for _ in range(_ROUNDS):
        largest = max(_lists(data, ""), key=lambda found: found[2], default=None)
        text = max(_texts(data, ""), key=lambda found: found[2], default=None)
        if largest is not None and (text is None or largest[2] >= text[2]):
            path, items, _ = largest
            drop = max(1, len(items) // 4)
            del items[-drop:]
            lost[path] = lost.get(path, 0) + drop
        elif text is not None:
            path, (holder, key), length = text
            holder[key] = holder[key][: max(_SHORTEST_TEXT, length // _TEXT_SHARE)] + " …"
            lost[path] = 1
        else:
            break
        data["cut"] = _sentence(lost)
        size = len(orjson.dumps(data))
        if size <= budget:
            break
    return data, size


def _sentence(lost: dict[str, int]) -> str:
    told = ", ".join(f"{count} of {path}" for path, count in sorted(lost.items()))
    return f"Left out to keep this answer small: {told}. Ask with a filter or for a smaller part to see them."


def _lists(value: Any, path: str) -> Iterator[tuple[str, list[Any], int]]:
    """Every list that can be shortened: its path, itself, its size in bytes."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lists(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        if len(value) > 1:
            yield path, value, len(orjson.dumps(value))
        for inner in value:
            yield from _lists(inner, path)


def _texts(value: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any], int]]:
    """Every long text: its path, where it hangs, its length."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        where = (f"{path}.{key}" if path else str(key)) if isinstance(value, dict) else path
        if isinstance(inner, str):
            if len(inner) > _SHORTEST_TEXT * 2 and key not in ("cut", "cursor"):
                yield where, (value, key), len(inner)
        else:
            yield from _texts(inner, where)
