"""Risk: how much can go wrong with a proposal, computed from a closed list of factors, each with its weight and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from .change import Change, ChangeKind
from .environments import Environments
from .tree import AppTree, Node

MANY_APPS = 3
"""More apps than this, changed or below what is changed, are many."""

HIGH_FROM = 4
"""The weight from which the risk is high."""

_SECRET_KINDS = frozenset(
    {"ExternalSecret", "SealedSecret", "Secret", "SecretProviderClass", "VaultDynamicSecret", "VaultStaticSecret"}
)
_DEPLOYING = frozenset({ChangeKind.PROMOTE, ChangeKind.ROLLBACK, ChangeKind.SET_REVISION, ChangeKind.SYNC})
"""The changes that bring all of an app's objects to another state."""

_REFERRING = ("existingsecret", "pullsecrets", "secretkeyref", "secretname", "secretref")
"""How fields end that name Secrets, in pod templates and in the values of charts."""


class Risk(StrEnum):
    """How much can go wrong; sets how many approvals, by whom, how fresh."""

    LOW = "low"
    HIGH = "high"


class Factor(StrEnum):
    """What a risk comes from; policies read them as `resource.factors`."""

    DOWNGRADE = "downgrade"
    MANY_APPS = "many_apps"
    NEW_REQUESTER = "new_requester"
    OFF_HOURS = "off_hours"
    REPLICAS_TO_ZERO = "replicas_to_zero"
    SECRETS_TOUCHED = "secrets_touched"
    STRICT_ENVIRONMENT = "strict_environment"


WEIGHTS: Mapping[Factor, int] = {
    Factor.DOWNGRADE: 4,
    Factor.MANY_APPS: 4,
    Factor.NEW_REQUESTER: 2,
    Factor.OFF_HOURS: 2,
    Factor.REPLICAS_TO_ZERO: 4,
    Factor.SECRETS_TOUCHED: 2,
    Factor.STRICT_ENVIRONMENT: 4,
}


class RiskFactor(BaseModel):
    """One factor that was found, with its weight and why, in our words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: Factor
    weight: int
    why: str

    @classmethod
    def of(cls, factor: Factor, why: str) -> RiskFactor:
        return cls(factor=factor, weight=WEIGHTS[factor], why=why)


def weigh(factors: Iterable[RiskFactor]) -> int:
    """The weights together; a factor that was found for several reasons counts once."""
    return sum(WEIGHTS[factor] for factor in {each.factor for each in factors})


def rate(factors: Iterable[RiskFactor]) -> Risk:
    """High from a weight of `HIGH_FROM`."""
    return Risk.HIGH if weigh(factors) >= HIGH_FROM else Risk.LOW


def find_factors(changes: Sequence[Change], tree: AppTree, environments: Environments) -> tuple[RiskFactor, ...]:
    """What follows from the changes and the app tree alone. Whoever has both finds the same, so the applier believes no
    proposal that claims less."""
    names = dict.fromkeys(change.target.app for change in changes)
    nodes = {name: node for name in names if (node := tree.find(name))}
    found = [
        RiskFactor.of(Factor.STRICT_ENVIRONMENT, f"The environment {name} is strict.")
        for name in sorted({node.app.environment for node in nodes.values()})
        if environments.strict(name)
    ]
    found += _find_many(changes, nodes, tree)
    for change in changes:
        found += _find_in_change(change, nodes.get(change.target.app))
    return tuple(dict.fromkeys(found))


def names_secrets(value: object) -> bool:
    """Whether an object refers to Secrets: in its pod template's variables, volumes and image pull secrets, for one."""
    return any(True for _ in _references(value))


def _find_many(changes: Sequence[Change], nodes: Mapping[str, Node], tree: AppTree) -> Iterator[RiskFactor]:
    changed = {node.app.id for node in nodes.values()}
    # What is changed of an app itself reaches the apps that it is the parent of; a workload is only its own.
    whole = [nodes[one.target.app] for one in changes if one.target.kind == "Application" and one.target.app in nodes]
    below = {each.app.id for node in whole for each in tree.descendants(node)}
    if len(changed) > MANY_APPS:
        yield RiskFactor.of(Factor.MANY_APPS, f"It changes {len(changed)} apps.")
    elif len(changed | below) > MANY_APPS:
        yield RiskFactor.of(Factor.MANY_APPS, f"With what is below, it reaches more than {MANY_APPS} apps.")


def _find_in_change(change: Change, node: Node | None) -> Iterator[RiskFactor]:
    target, app = change.target, change.target.app.rpartition("/")[2]
    if _scales_to_zero(change):
        yield RiskFactor.of(Factor.REPLICAS_TO_ZERO, f"{target.kind} {target.name} of {app} stops running.")
    if change.kind is ChangeKind.ROLLBACK:
        why = "It goes back to an earlier deployment; data that was migrated since does not go back with it."
        yield RiskFactor.of(Factor.DOWNGRADE, why)
    if set(_references(change.patch)) - set(_references(change.undo)):
        yield RiskFactor.of(Factor.SECRETS_TOUCHED, f"It changes which Secrets {app} uses.")
    if node and change.kind in _DEPLOYING and any(one.kind in _SECRET_KINDS for one in node.app.managed):
        yield RiskFactor.of(Factor.SECRETS_TOUCHED, f"Secrets are among what {app} deploys.")


def _scales_to_zero(change: Change) -> bool:
    spec = change.patch.get("spec")
    if isinstance(spec, Mapping) and spec.get("replicas") == 0:
        return True
    values: object = change.patch.get("values") if change.kind is ChangeKind.SCALE else None
    while isinstance(values, Mapping):  # the one field of an app's values that says how many
        values = next(iter(values.values()), None)
    return values == 0


def _references(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Where Secrets are named: the field, and what stands there."""
    if isinstance(value, Mapping):
        if _is_reference(str(value.get("name", ""))) and "value" in value:  # a parameter of a chart
            yield str(value["name"]), repr(value["value"])
        if key == "secret" and "name" in value:  # a source of a projected volume
            yield key, repr(value["name"])
        for name, inner in value.items():
            if _is_reference(str(name)) and inner not in (None, "", [], {}):
                yield str(name), repr(inner)
            yield from _references(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)


def _is_reference(field: str) -> bool:
    parts = field.replace("_", "").replace("-", "").lower().split(".")
    return any(part.partition("[")[0].endswith(_REFERRING) for part in parts)
