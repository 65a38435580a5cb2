"""Fields of plain JSON objects, by the type they should have: what is missing or of another type reads as empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..change import JsonObject

EMPTY: Mapping[str, Any] = {}


def read_text(raw: JsonObject, key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def read_texts(raw: JsonObject, key: str) -> tuple[str, ...]:
    value = raw.get(key)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def read_number(raw: JsonObject, key: str, default: int = 0) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) else default


def read_object(raw: JsonObject, key: str) -> JsonObject:
    value = raw.get(key)
    return value if isinstance(value, dict) else EMPTY


def read_objects(raw: JsonObject, key: str) -> list[JsonObject]:
    value = raw.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def read_name(metadata: JsonObject) -> str:
    """The name of an object from its metadata; raises ValueError when it has none."""
    if not (name := read_text(metadata, "name")):
        raise ValueError("an object without a name")
    return name
