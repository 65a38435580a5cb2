"""Tool schemas as a model pays for them: generated from the types, without what says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_MARKS = frozenset({"title", "default"})


def input_schema(model: type[BaseModel]) -> Schema:
    """JSON Schema 2020-12 of a tool's parameters; it stays closed, so that a client can catch an unknown field."""
    schema = slim(model.model_json_schema())
    schema["additionalProperties"] = False
    return schema


def output_schema(model: type[BaseModel]) -> Schema:
    """JSON Schema 2020-12 of a tool's result, as it is serialised (absent fields are left out, never null)."""
    return slim(model.model_json_schema(mode="serialization"))


def slim(schema: Mapping[str, Any]) -> Schema:
    """The same schema, smaller: no titles, no defaults, no nulls in unions, definitions used once put in place."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    uses: dict[str, int] = {}
    _count(schema, uses)
    kept: Schema = {}

    def shrink(value: Any) -> Any:
        if isinstance(value, list):
            return [shrink(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return refer(value)
        options = [option for option in value.get("anyOf", ()) if option.get("type") != "null"]
        if len(options) == 1:
            rest = {key: inner for key, inner in value.items() if key != "anyOf"}
            return shrink({**options[0], **rest})
        return {
            key: {name: shrink(inner) for name, inner in item.items()} if key == "properties" else shrink(item)
            for key, item in value.items()
            if key not in _MARKS and key != "$defs" and not (key == "additionalProperties" and item is False)
        }

    def refer(value: Mapping[str, Any]) -> Schema:
        name = value["$ref"].rpartition("/")[2]
        rest = {key: inner for key, inner in value.items() if key not in _MARKS and key != "$ref"}
        if uses[name] == 1 or "enum" in definitions[name]:
            inner = {key: item for key, item in definitions[name].items() if key != "description"}
            return {**shrink(inner), **rest}
        if name not in kept:
            kept[name] = {}
            kept[name] = shrink({key: item for key, item in definitions[name].items() if key != "description"})
        return {"$ref": value["$ref"], **rest}

    small: Schema = shrink({key: item for key, item in schema.items() if key not in ("$defs", "description")})
    if kept:
        small["$defs"] = kept
    return small


def _count(value: Any, uses: dict[str, int]) -> None:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            name = reference.rpartition("/")[2]
            uses[name] = uses.get(name, 0) + 1
        for inner in value.values():
            _count(inner, uses)
    elif isinstance(value, list):
        for inner in value:
            _count(inner, uses)
