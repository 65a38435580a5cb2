"""The ladder that versions climb: the environments in order, which app is which on another rung, what may cross."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..tree import AppTree, Node

_SHORT: Mapping[str, tuple[str, ...]] = {
    "development": ("dev",),
    "production": ("live", "prd", "prod"),
    "staging": ("stage", "stg"),
}
"""How environments are called in the names of apps besides by their own name."""

_LOCAL = (
    "*account*",
    "*affinity*",
    "*autoscaling*",
    "*bucket*",
    "*cluster*",
    "*cpu*",
    "*credential*",
    "*database*",
    "*domain*",
    "*endpoint*",
    "*env*",
    "*host*",
    "*ingress*",
    "*key*",
    "*limit*",
    "*memory*",
    "*namespace*",
    "*nodeselector*",
    "*password*",
    "*region*",
    "*replica*",
    "*resources*",
    "*secret*",
    "*storage*",
    "*token*",
    "*toleration*",
    "*uri*",
    "*url*",
    "*user*",
    "*zone*",
)


class PromotionSettings(BaseModel):
    """From which environment to which versions go, and which parameters of charts go with them.

    Patterns are shell's, in lower case, and held against the whole dotted name. What is local stays whatever is shared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: tuple[str, ...] = Field(default=(), description="environments, the first one first: dev, staging, production")
    components: Mapping[str, Mapping[str, str]] = Field(
        default_factory=dict, description="component: environment: the app that it is there, where names do not tell"
    )
    shared_parameters: tuple[str, ...] = Field(default=(), description="Helm parameters that cross, besides images")
    local_parameters: tuple[str, ...] = Field(default=_LOCAL, description="those that never do")

    @model_validator(mode="after")
    def _each_rung_is_there_once(self) -> Self:
        if len(set(self.path)) != len(self.path) or len(self.path) == 1:
            raise ValueError("path should name two or more environments, each once")
        strays = {rung for apps in self.components.values() for rung in apps} - set(self.path)
        if strays:
            raise ValueError(f"components name the environment {min(strays)}, which is not on the path")
        return self

    def above(self, environment: str) -> str:
        """The environment that comes after this one; `""` where the path ends, or does not have it."""
        after = dict(zip(self.path, self.path[1:], strict=False))
        return after.get(environment, "")

    def below(self, environment: str) -> str:
        """The environment that comes before this one; `""` where there is none."""
        before = dict(zip(self.path[1:], self.path, strict=False))
        return before.get(environment, "")

    def shares(self, parameter: str) -> bool:
        """Whether a Helm parameter of this name crosses."""
        name = parameter.lower()
        local = any(fnmatchcase(name, each) for each in self.local_parameters)
        return not local and any(fnmatchcase(name, each) for each in self.shared_parameters)


def find_counterparts(node: Node, environment: str, tree: AppTree, ladder: PromotionSettings) -> Sequence[Node]:
    """The apps that this one can be in another environment, by the settings, else by name: `shop-web-staging` and
    `shop-web` are one component, and so are apps of the same name. Costs as much as there are names to try."""
    own = str(node.app.id), node.app.id.name
    for apps in ladder.components.values():
        if apps.get(node.app.environment) in own and environment in apps:
            return _in_environment(tree.named(apps[environment]), environment)
    names = dict.fromkeys(_name_in(node.app.id.name, node.app.environment, environment))
    found = {each.app.id: each for name in names for each in _in_environment(tree.named(name), environment)}
    return [found[each] for each in sorted(found) if each != node.app.id]


def names_environment(value: str, environments: Sequence[str]) -> str:
    """The environment that a value speaks of (`db.staging.example.com`, `shop-prod`); `""` when of none."""
    words = set(_split(value))
    return next((each for each in environments if words & set(_words(each))), "")


def _in_environment(nodes: Sequence[Node], environment: str) -> list[Node]:
    return [each for each in nodes if each.app.environment == environment]


def _name_in(name: str, origin: str, environment: str) -> Iterator[str]:
    """What an app of this name may be called there: with the other environment in the place of its own, or without any."""
    parts = name.split("-")
    places = [at for at, part in enumerate(parts) if part in _words(origin)]
    bare = [part for at, part in enumerate(parts) if at not in places]
    for word in _words(environment):
        for at in places:
            yield "-".join([*parts[:at], word, *parts[at + 1 :]])
        yield "-".join([*bare, word])
        yield "-".join([word, *bare])
    yield "-".join(bare)


def _words(environment: str) -> tuple[str, ...]:
    return (environment, *_SHORT.get(environment, ()))


def _split(value: str) -> Iterator[str]:
    word = ""
    for char in [*value.lower(), " "]:
        if char.isalnum():
            word += char
        elif word:
            yield word
            word = ""
