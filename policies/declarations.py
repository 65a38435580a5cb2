"""Files of YAML whose mistakes are told with the place that they stand at, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from .errors import BadConfiguration
from .locations import Location, Passage

Steps = tuple[str | int, ...]
"""The way to a part of a file: keys and positions in lists, from the top."""

M = TypeVar("M", bound=BaseModel)


class Declaration:
    """One file, read: its text, and the place of everything in it."""

    def __init__(self, file: Path, text: str) -> None:
        """Raises `BadConfiguration` where the text is not YAML, or says something twice."""
        self._file = file
        self._lines = text.split("\n")
        try:
            loader = yaml.SafeLoader(text)
            self._node: yaml.Node | None = loader.get_single_node()
            twice = [
                self._passage(key.start_mark).tell(f"{key.value}: stands here twice") for key in _twice(self._node)
            ]
            self._raw: object = loader.construct_document(self._node) if self._node else None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            raise BadConfiguration(self._passage(mark).tell(f"is not YAML: {problem}{_tip(problem)}")) from error
        if twice:
            raise BadConfiguration("\n".join(twice))

    def parse(self, model: type[M]) -> M:
        """The file as a model; raises `BadConfiguration` with the place of every mistake."""
        try:
            return model.model_validate(self._raw)
        except ValidationError as error:
            raise BadConfiguration("\n".join(self._explain(dict(item), model) for item in error.errors())) from error

    def tell(self, path: Steps, problem: str) -> str:
        """The problem with what is at the path, as it is printed."""
        return self.passage(path).tell(f"{_name(path)}: {problem}" if path else problem)

    def passage(self, path: Steps) -> Passage:
        """Where the path leads to; as far as it leads, where the rest of it is not there."""
        node, found = self._node, self._node.start_mark if self._node else None
        width = 1
        for index, part in enumerate(path):
            key, child = _step(node, part)
            if child is None:
                break
            last = index == len(path) - 1
            at = child if last and isinstance(child, yaml.ScalarNode) and key is None else key or child
            found, width = at.start_mark, _width(at)
            node = child
        return self._passage(found, width)

    def value(self, path: Steps) -> Passage:
        """Where the value at the path stands, rather than its key."""
        node = self._node
        for part in path:
            child = _step(node, part)[1]
            if child is None:
                return self.passage(path)
            node = child
        return self._passage(node.start_mark, _width(node)) if node else self.passage(path)

    def _explain(self, item: Mapping[str, object], model: type[BaseModel]) -> str:
        path = item["loc"] if isinstance(item["loc"], tuple) else ()
        problem = _explain(item, list(path), model)
        if item["type"] != "enum":
            return self.tell(path, problem)
        return self.value(path).tell(f"{_name(path)}: {problem}")

    def _passage(self, mark: yaml.Mark | None, width: int = 1) -> Passage:
        line, column = (mark.line, mark.column) if mark else (0, 0)
        line = min(line, len(self._lines) - 1)
        return Passage(Location(self._file, line + 1, column + 1), self._lines[line], width)


def suggest(word: str, known: Iterable[str]) -> str:
    """What was probably meant, as the end of a sentence; `""` where nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _step(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node | None]:
    """The key, where there is one, and the value of one step."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    elif isinstance(node, yaml.ScalarNode) and part == 0:  # one value where a list may stand
        return None, node
    return None, None


def _width(node: yaml.Node) -> int:
    return node.end_mark.column - node.start_mark.column if node.end_mark.line == node.start_mark.line else 1


def _twice(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key
                seen.add(key.value)
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _twice(each)


def _tip(problem: str) -> str:
    if "\\t" in problem:
        return "; indent with spaces"
    if "mapping values are not allowed here" in problem:
        return "; put quotes around text that holds a colon and a space"
    if "alias" in problem or "cannot start any token" in problem:
        return "; put quotes around the text"
    return ""


def _name(path: Steps) -> str:
    return ".".join(str(part) for part in path)


def _explain(item: Mapping[str, object], path: Sequence[str | int], model: type[BaseModel]) -> str:
    match item["type"]:
        case "extra_forbidden":
            known = sorted(_fields_at(model, path[:-1]))
            return "unknown field" + (suggest(str(path[-1]), known) or f"; known here: {', '.join(known)}")
        case "enum":
            kind, given = _type_at(model, path), str(item["input"])
            if isinstance(kind, type) and issubclass(kind, StrEnum):
                guess = suggest(given, kind) or f"; known: {', '.join(kind)}"
                return f"there is no {kind.__name__.lower()} {given!r}{guess}"
        case "missing":
            return "is missing"
        case "model_type" if not path:
            return f"should hold {', '.join(_fields_at(model, ()))}"
        case _:
            pass
    return str(item["msg"]).removeprefix("Value error, ")


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> Iterable[str]:
    kind = _type_at(model, path)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return ()
    return [field.alias or name for name, field in kind.model_fields.items()]


def _type_at(kind: object, path: Sequence[str | int]) -> object:
    """The type that is declared for what the path leads to."""
    for part in path:
        kind = _bare(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        elif arguments := [each for each in get_args(kind) if each is not Ellipsis]:
            kind = arguments[-1]
    return _bare(kind)


def _bare(kind: object) -> object:
    """Without `None` and what annotates it."""
    while hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return next((each for each in get_args(kind) if each is not type(None)), None)
    return kind
