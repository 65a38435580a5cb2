"""YAML that people write: plain data in which each key stands once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ..policies.errors import BadConfiguration

M = TypeVar("M", bound=BaseModel)


class TwiceThere(yaml.MarkedYAMLError):
    """One mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """PyYAML lets the last of two equal keys win. Of settings that would silently lose whatever stands under the first."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                told = f"the key {key.value!r} is there twice; put what is under both into one"
                raise TwiceThere(problem=told, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_file(path: Path, model: type[M]) -> M:
    """What a file of YAML says, as a model; raises `BadConfiguration` that names the file and each field that is wrong."""
    try:
        said = load_plainly(path.read_text(encoding="utf-8"))
        return model.model_validate({} if said is None else said)
    except OSError as error:
        raise BadConfiguration(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{path}: is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise BadConfiguration(f"{path}{describe_mistake(error)}") from None
    except ValidationError as error:
        raise BadConfiguration("\n".join(_name_faults(path, error))) from error


def load_plainly(text: str) -> Any:
    """What the one document says; `None` when it is empty. Raises `yaml.YAMLError` with the place of the mistake."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader


def describe_mistake(error: yaml.YAMLError) -> str:
    """What is wrong and where, for a message that begins with the file's name. The error's own words would repeat the line,
    which may hold a password."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    what = problem or "it has characters of no text"
    return f"{where}: {what}" if isinstance(error, TwiceThere) else f"{where}: is not YAML: {what}"


def _name_faults(path: Path, error: ValidationError) -> list[str]:
    faults = ((".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False))
    return [f"{path}: {where}{': ' if where else ''}{what}" for where, what in faults]
