"""What the sandbox cluster checks of an object before it takes it: a small part of what a real one checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...tools.change import JsonObject, merge
from .store import APPLICATION, Kind

_WORKLOAD = frozenset(
    {
        "minReadySeconds",
        "paused",
        "podManagementPolicy",
        "progressDeadlineSeconds",
        "replicas",
        "restartAt",
        "revisionHistoryLimit",
        "selector",
        "serviceName",
        "strategy",
        "template",
        "updateStrategy",
        "volumeClaimTemplates",
        "workloadRef",
    }
)
_SPEC_FIELDS: Mapping[str, frozenset[str]] = {
    "Application": frozenset(
        {
            "destination",
            "ignoreDifferences",
            "info",
            "project",
            "revisionHistoryLimit",
            "source",
            "sourceHydrator",
            "sources",
            "syncPolicy",
        }
    ),
    "DaemonSet": _WORKLOAD,
    "Deployment": _WORKLOAD,
    "Rollout": _WORKLOAD,
    "StatefulSet": _WORKLOAD,
}
"""The fields of a spec that each kind that can be patched has."""

_TYPES: Mapping[type, str] = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "integer",
    list: "array",
    str: "string",
}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One field that is wrong, in the words of a real API server."""

    field: str
    kind: str
    message: str

    @property
    def words(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind

    def __str__(self) -> str:
        return f"{self.field}: {self.words}"


def drop_unknown(kind: Kind, obj: JsonObject) -> tuple[JsonObject, list[str]]:
    """The object without the fields of its spec that its kind does not have, and their paths."""
    known = _SPEC_FIELDS.get(kind.name)
    spec = obj.get("spec")
    if known is None or not isinstance(spec, Mapping):
        return obj, []
    unknown = sorted(spec.keys() - known)
    return merge(obj, {"spec": dict.fromkeys(unknown)}), [f"spec.{field}" for field in unknown]


def find_flaws(kind: Kind, before: JsonObject, after: JsonObject) -> list[Flaw]:
    """What makes the next state of an object invalid; empty when it is fine."""
    uid, spec = after["metadata"].get("uid"), after.get("spec")
    if uid != before["metadata"]["uid"]:
        return [Flaw("metadata.uid", f'Invalid value: "{uid}"', "field is immutable")]
    if not isinstance(spec, Mapping):
        return [Flaw("spec", "Required value", "")]
    return list(_judge_application(spec) if kind is APPLICATION else _judge_workload(spec))


def _judge_application(spec: Mapping[str, Any]) -> Iterator[Flaw]:
    for field, type_ in (("destination", dict), ("project", str)):
        if field not in spec:
            yield Flaw(f"spec.{field}", "Required value", "")
        elif not isinstance(spec[field], type_):
            yield _wrong_type(f"spec.{field}", spec[field], type_)
    source = spec.get("source", {})
    if not isinstance(source, dict):
        yield _wrong_type("spec.source", source, dict)
    elif not isinstance(source.get("targetRevision", ""), str):
        yield _wrong_type("spec.source.targetRevision", source["targetRevision"], str)


def _judge_workload(spec: Mapping[str, Any]) -> Iterator[Flaw]:
    replicas = spec.get("replicas", 1)
    if isinstance(replicas, int) and replicas < 0:
        yield Flaw("spec.replicas", f"Invalid value: {replicas}", "must be greater than or equal to 0")


def _wrong_type(field: str, value: object, wanted: type) -> Flaw:
    got = _TYPES.get(type(value), "null")
    return Flaw(field, f'Invalid value: "{got}"', f'{field} in body must be of type {_TYPES[wanted]}: "{got}"')
