"""The people that `policy who-can` and `what-can` know: those of a file, with the roles that the settings give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..policies.model import ResourceType
from ..policies.scenes import Scene, read_scene
from ..policies.surroundings import Surroundings
from ..policies.world import Person, World
from .identity.roles import RoleMembers, grants_of, roles_of
from .settings import read_settings


@dataclass(frozen=True, slots=True)
class Staff:
    """What is known of people and places: from the settings, where they are given, and from files."""

    roles: RoleMembers
    scene: Scene
    people: Mapping[str, Person]
    surroundings: Surroundings

    def find(self, name: str) -> Person | None:
        """A person of the files, with the roles of their groups."""
        person = self.people.get(name)
        return None if person is None else self.promote(person)

    def promote(self, person: Person) -> Person:
        """The person with the roles that the settings give to their groups."""
        grants: dict[str, tuple[str, ...]] = dict(person.grants)
        for role, app in sorted(grants_of(person.groups, self.roles)):
            grants[role] = (*grants.get(role, ()), app)
        roles = person.roles | roles_of(person.groups, self.roles)
        return person.model_copy(update={"roles": roles, "grants": grants})

    def holders(self, role: str, apps: frozenset[str]) -> Iterator[str]:
        """The groups that have a role everywhere or at one of the apps, in words."""
        for member in self.roles.get(role, ()):
            if isinstance(member, str):
                yield f"group {member}"
            elif member.at in apps:
                yield f"group {member.group} at {ResourceType.APP}::{member.at}"


def read_staff(config: Path | None, world: Path | None, people: Path | None) -> Staff:
    """Everything that the files say; raises `BadConfiguration` for what is wrong in them."""
    scene = read_scene(world) if world else Scene({}, {}, World().surroundings)
    named = {**scene.people, **(read_scene(people).people if people else {})}
    if config is None:
        return Staff({}, scene, named, scene.surroundings)
    settings = read_settings(config)
    return Staff(settings.roles, scene, named, settings.surroundings)
