"""A world with its people, to ask about: a case file is one, and so is a file with a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from .declarations import Declaration
from .errors import BadConfiguration
from .model import Resource
from .surroundings import Surroundings
from .world import Closed, Misplaced, Person, World


class _File(Closed):
    world: World = World()
    people: Mapping[str, Person] = Field(default_factory=dict)
    cases: object = None
    at: object = None


@dataclass(frozen=True, slots=True)
class Scene:
    """The resources by `TYPE::id`, the people by name, and what the settings would say."""

    resources: Mapping[str, Resource]
    people: Mapping[str, Person]
    surroundings: Surroundings


def read_scene(file: Path) -> Scene:
    """The world and the people of a file, whatever cases stand beside them.

    Raises `BadConfiguration` naming file, line, column and field."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfiguration(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{file}: is not UTF-8") from error
    declaration = Declaration(file, text)
    parsed = declaration.parse(_File)
    try:
        resources = parsed.world.resources()
    except Misplaced as error:
        raise BadConfiguration(declaration.tell(("world", *error.path), str(error))) from error
    return Scene(resources, parsed.people, parsed.world.surroundings)
