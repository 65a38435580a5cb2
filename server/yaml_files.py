"""YAML that people write: plain data in which each key stands once."""

from __future__ import annotations

from typing import Any

import yaml


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
