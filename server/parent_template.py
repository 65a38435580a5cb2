"""What a parent app's controller approves: rules over typed facts, in a YAML file that says all of it.

No rule reads text that a proposal brings: no title, reason, summary or diff. What a change does is read from its patch, and
how its app is from the controller's own view of the clusters. What no rule allows goes to people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from semver import Version

from ..policies.calendar import Calendar, Hours
from ..tools.app import Health
from ..tools.argocd.images import Image, split_image
from ..tools.change import Change, ChangeKind
from ..tools.promotion.ladder import PromotionSettings
from ..tools.proposal import Content
from ..tools.risk import Risk
from ..tools.rollouts.brought import Brought, is_proven, read_brought, read_replicas
from ..tools.rollouts.claims import find_excess
from ..tools.tree import AppTree, Node
from .section import Section
from .yaml_files import read_file

_BRINGING = frozenset(ChangeKind) - {ChangeKind.RESTART, ChangeKind.SCALE}
_NAME = re.compile(r"[a-z0-9][a-z0-9._:/-]{0,254}")
_PLAIN = re.compile(r"[A-Za-z0-9._:/+~-]{1,120}")

Patterns = Annotated[tuple[str, ...], Field(min_length=1)]


class Replicas(Section):
    """How few and how many, both included."""

    least: int = Field(ge=1)
    most: int

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.most < self.least:
            raise ValueError("most is below least")
        return self


class Rule(Section):
    """What may be done to some of the children. Patterns are shell's, held against the whole text."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    apps: Patterns = Field(description="ids of apps, cluster/namespace/name")
    environments: Patterns
    kinds: tuple[ChangeKind, ...] = Field(min_length=1)
    images: tuple[str, ...] = Field(default=(), description="names with their registry, without tag or digest")
    versions: str = Field(default="", description="of tags and revisions: `>=1.4.0,<2.0.0`; never a pre-release")
    replicas: Replicas | None = None
    only_healthy: bool = True
    only_proven: bool = Field(default=True, description="only what runs well in a lower environment")

    @field_validator("versions")
    @classmethod
    def _versions_are_a_range(cls, value: str) -> str:
        for part in _parts(value):
            Version.parse("1.0.0").match(part)
        return value

    @model_validator(mode="after")
    def _bounds_what_it_allows(self) -> Self:
        if ChangeKind.SCALE in self.kinds and self.replicas is None:
            raise ValueError("scale needs replicas: {least: …, most: …}")
        if _BRINGING & set(self.kinds) and not (self.versions or self.only_proven):
            raise ValueError("what brings another version needs versions, or only_proven")
        if ChangeKind.SET_IMAGE in self.kinds and not self.images:
            raise ValueError("set_image needs images")
        return self


class Template(Section):
    """All that is approved: changes of one proposal each by a rule, in the hours, at no more than the risk."""

    rules: tuple[Rule, ...] = Field(min_length=1)
    hours: tuple[Hours, ...] = Field(default=(), description="when it approves at all; empty: always")
    zone: str = Field(default="UTC", description="the time zone of the hours, like Europe/Berlin")
    risk: Risk = Field(default=Risk.LOW, description="the highest; at a high one a person has to approve too")
    most_changes: int = Field(default=5, ge=1, description="of one proposal")

    @model_validator(mode="after")
    def _hours_are_told(self) -> Self:
        self.calendar()
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules have the same name")
        return self

    def calendar(self) -> Calendar:
        """The hours as a calendar of their own."""
        hours = [one.model_dump(by_alias=True, exclude_unset=True) for one in self.hours]
        return Calendar.model_validate({"zone": self.zone, "hours": hours})


def read_template(path: Path) -> Template:
    """The file of `controller.template_file`; raises `BadConfiguration` that names the field."""
    return read_file(path, Template)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a template allows it, and why: by which rules, or what stands against it. The words are our own."""

    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds proposals against a template, by a view of the clusters that no proposal can change."""

    template: Template
    tree: AppTree
    ladder: PromotionSettings

    def judge(self, content: Content, nodes: Sequence[Node], now: float) -> Finding:
        """`nodes` are the apps of the changes, in their order, as they are now."""
        found = [self._find(change, node) for change, node in zip(content.changes, nodes, strict=True)]
        against = [*self._find_around(content, now), *(each.why for each in found if not each.allowed)]
        if against:
            return Finding(False, " ".join(dict.fromkeys(against)))
        return Finding(True, f"Inside the budget: {'; '.join(each.why for each in found)}.")

    def _find_around(self, content: Content, now: float) -> Iterator[str]:
        if content.risk is Risk.HIGH and self.template.risk is not Risk.HIGH:
            yield "Its risk is high."
        if not 0 < len(content.changes) <= self.template.most_changes:
            yield f"It has more than {self.template.most_changes} changes."
        if self.template.calendar().season("", frozenset(), now).off_hours:
            yield "It is outside the hours."

    def _find(self, change: Change, node: Node) -> Finding:
        name = str(node.app.id)
        rules = [rule for rule in self.template.rules if _fits(name, rule.apps)]
        if not rules:
            return Finding(False, f"No rule is for {name}.")
        against: list[str] = []
        for rule in rules:
            if not (found := next(self._weigh(change, node, rule), "")):
                return Finding(True, f"{change.kind} of {name} by the rule {rule.name}")
            against.append(f"{change.kind} of {name}: {found} (rule {rule.name})")
        return Finding(False, "; ".join(against) + ".")

    def _weigh(self, change: Change, node: Node, rule: Rule) -> Iterator[str]:
        """What stands against the change, by one rule; the first is enough."""
        app = node.app
        if change.kind not in rule.kinds:
            yield "no such change is in the budget"
        if app.environment not in rule.environments:
            yield f"the environment {app.environment} is not in the budget"
        if find_excess(change, app):
            yield "it writes more than such a change does"
        if rule.only_healthy and (app.health is not Health.HEALTHY or app.failing or app.deleting_since):
            yield "it is not healthy"
        if change.kind is ChangeKind.SCALE:
            yield from _weigh_replicas(change, rule)
        brought = read_brought(change, app)
        if brought.unclear:
            yield f"what the field {_show(brought.unclear)} brings can't be told"
        yield from _weigh_brought(brought, rule)
        if not brought.nothing and rule.only_proven and not is_proven(change, node, self.tree, self.ladder):
            yield "what it brings does not run well in a lower environment"


def _weigh_replicas(change: Change, rule: Rule) -> Iterator[str]:
    replicas = read_replicas(change.patch)
    if replicas is None or rule.replicas is None or not rule.replicas.least <= replicas <= rule.replicas.most:
        yield "so many replicas are not in the budget"


def _weigh_brought(brought: Brought, rule: Rule) -> Iterator[str]:
    images = [split_image(each) for each in brought.images]
    for image in images:
        if not _NAME.fullmatch(image.name) or not _fits(image.name, rule.images):
            yield f"the image {_show(image.name)} is not in the budget"
    for version in (*map(_version, images), *([brought.revision] if brought.revision else ())):
        if rule.versions and not is_within(version, rule.versions):
            yield f"the version {_show(version)} is not in the budget"


def _version(image: Image) -> str:
    """The tag; with a digest beside it the tag names nothing, so there is none."""
    return "" if image.digest else image.tag


def is_within(version: str, versions: str) -> bool:
    """Whether a tag or revision is a version in all parts of the range. A pre-release is in none (Semantic Versioning 2.0.0,
    section 9), nor is what is no whole version number."""
    text = version.removeprefix("v")
    if not text.isascii() or not Version.is_valid(text):
        return False
    parsed = Version.parse(text)
    return parsed.prerelease is None and all(parsed.match(part) for part in _parts(versions))


def _parts(versions: str) -> list[str]:
    return [part.strip() for part in versions.split(",")] if versions else []


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _show(text: str) -> str:
    """What a proposal brings, where it can be nothing but a name: reasons are read by people, and are our own words."""
    return text if _PLAIN.fullmatch(text) else "that it names"
