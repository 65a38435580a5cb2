"""The fields of a result, found in its type once: which hold lists and maps, untrusted text, who somebody is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue

from .tool import Mark

_UNIONS = (Union, UnionType)
_LISTS = (list, tuple)


@dataclass(frozen=True, slots=True)
class Fields:
    """Paths into a result's JSON, by what is there: names joined by dots, to which lists and maps add nothing. What may
    be any JSON is looked at as a whole."""

    lists: frozenset[str]
    maps: frozenset[str]
    untrusted: frozenset[str]
    identities: frozenset[str]


def find_fields(model: type[BaseModel]) -> Fields:
    """The fields of a result's model, and of all models in it; found once."""
    return _find_fields(model)


@cache
def _find_fields(model: type[BaseModel]) -> Fields:
    found: dict[object, set[str]] = {list: set(), dict: set(), Mark.UNTRUSTED: set(), Mark.IDENTITY: set()}
    for path, kind in _walk_model(model, ""):
        found[kind].add(path)
    return Fields(*map(frozenset, found.values()))


def join_path(path: str, name: str) -> str:
    """The path of a field under another."""
    return f"{path}.{name}" if path else name


def _walk_model(model: type[BaseModel], path: str) -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        yield from _walk(field.annotation, join_path(path, name), field.metadata)


def _walk(annotation: Any, path: str, metadata: Iterable[object] = ()) -> Iterator[tuple[str, object]]:
    for mark in metadata:
        if isinstance(mark, Mark):
            yield path, mark
    origin, inner = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        yield from _walk(inner[0], path, annotation.__metadata__)
    elif origin in _UNIONS:
        for one in inner:
            yield from _walk(one, path)
    elif origin in _LISTS:
        yield path, list
        yield from _walk(inner[0], path)
    elif origin in (dict, Mapping) and inner[1] is not JsonValue:
        yield path, dict
        yield from _walk(inner[1], path)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _walk_model(annotation, path)
