"""Environments: rules from settings that say which environment an app is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from ..policies.model import INSTALLATION, Resource, ResourceType

UNASSIGNED = "unassigned"
"""The environment of an app that no rule matches. It is always strict, like production."""


class EnvironmentRule(BaseModel):
    """One environment: an app is in the first whose every given matcher matches. Patterns are shell's (`prod-*`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    strict: bool = False
    clusters: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = Field(default=(), description="destination namespaces")
    labels: Mapping[str, str] = Field(default_factory=dict)

    def matches(self, *, cluster: str, project: str, namespace: str, labels: Mapping[str, str]) -> bool:
        return (
            _any(self.clusters, cluster)
            and _any(self.projects, project)
            and _any(self.namespaces, namespace)
            and all(key in labels and fnmatchcase(labels[key], want) for key, want in self.labels.items())
        )


def _any(patterns: Sequence[str], value: str) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)


class Environments:
    """The configured environments, in order, and `unassigned` after them."""

    def __init__(self, rules: Sequence[EnvironmentRule]) -> None:
        self._rules = tuple(rules)
        self._resources = {rule.name: _resource(rule.name, rule.strict) for rule in rules}
        self._resources[UNASSIGNED] = _resource(UNASSIGNED, strict=True)

    def assign(self, *, cluster: str, project: str, namespace: str, labels: Mapping[str, str]) -> str:
        """The environment's name for an app with these properties; `unassigned` when no rule matches."""
        for rule in self._rules:
            if rule.matches(cluster=cluster, project=project, namespace=namespace, labels=labels):
                return rule.name
        return UNASSIGNED

    def resource(self, name: str) -> Resource:
        """The environment as a policy resource, with the attributes `name` and `strict`."""
        return self._resources[name]

    def strict(self, name: str) -> bool:
        return dict(self._resources[name].attributes)["strict"] is True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._resources)


def _resource(name: str, strict: bool) -> Resource:
    return Resource(ResourceType.ENVIRONMENT, name, (INSTALLATION,), (("name", name), ("strict", strict)))
