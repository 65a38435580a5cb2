"""Errors on the wire: one shape for agents, which says what was wrong, in which field, and what to try."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ..policies.errors import ArborgateError, Invalid
from ..tools.cuts import shorten
from ..tools.text import quote_name

_SHOWN = 5
"""How many mistakes of one call are told at once."""

_NAME = 80
"""Characters of an unknown field's name that an error repeats."""


def explain_validation(error: ValidationError, model: type[BaseModel]) -> Invalid:
    """The mistakes in a call's arguments, each naming its field; never the value, which may be a secret."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [_line(item["loc"], item["type"], item["msg"], model) for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"and {len(items) - _SHOWN} more")
    return Invalid("; ".join(lines), field=_path(items[0]["loc"]), hint=_known(items[0]["loc"], model))


def tell(error: ArborgateError) -> str:
    """The error as text for a model."""
    where = f" [{error.field}]" if error.field else ""
    hint = f"\n{error.hint}" if error.hint else ""
    return f"{error.reason}{where}: {error.message}{hint}"


def as_json(error: ArborgateError) -> dict[str, Any]:
    """The error as data: `reason`, `message`, and where they help `field` and `hint`."""
    body = {"reason": str(error.reason), "message": error.message, "field": error.field, "hint": error.hint}
    return {name: value for name, value in body.items() if value}


def _line(location: Sequence[int | str], kind: str, message: str, model: type[BaseModel]) -> str:
    path = _path(location)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _fields(location, model), n=1)
        return f"{path}: unknown field" + (f", did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return f"{path}: is needed"
    return f"{path}: {message[:1].lower()}{message[1:]}"


def _path(location: Sequence[int | str]) -> str:
    return ".".join(quote_name(shorten(str(part), _NAME)) for part in location) or "arguments"


def _known(location: Sequence[int | str], model: type[BaseModel]) -> str:
    return f"Known here: {', '.join(_fields(location, model)) or 'no fields at all'}."


def _fields(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The fields of the (possibly nested) model that the mistake is in, from its JSON schema."""
    schema: Mapping[str, Any] = model.model_json_schema()
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    for part in location[:-1]:
        inner = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
        schema = _resolve(inner, definitions)
    return sorted(schema.get("properties", {}))


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    for option in schema.get("anyOf", ()):
        if option.get("type") != "null":
            schema = option
            break
    reference = schema.get("$ref")
    resolved: Mapping[str, Any] = definitions[reference.rpartition("/")[2]] if reference else schema
    return resolved
