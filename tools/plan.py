"""What every plan of a change has in common: its precondition, diff and undo, and that it carries no secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..policies.errors import Refused
from .change import Change, ChangeKind, Check, JsonObject, Precondition, Target, fields_digest, merge
from .diff import diff_objects, find_secret, list_fields, overlap
from .last import find_last
from .risk import RiskFactor

_NAMED = 3
"""How many apps a title names."""

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){1,3})(?:-([0-9A-Za-z.-]+))?(?:[+@].*)?")
_PRERELEASE = re.compile(r"(?:alpha|beta|dev|m|milestone|pre|preview|rc|snapshot)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """One planned change, and what makes it risky that only its planner knows."""

    change: Change
    risks: tuple[RiskFactor, ...] = ()


@dataclass(frozen=True, slots=True)
class Undo:
    """How a change is undone: a merge patch, or None and the reason."""

    patch: JsonObject | None
    note: str = ""


def make_change(
    kind: ChangeKind,
    target: Target,
    live: JsonObject,
    patch: JsonObject,
    *,
    summary: str,
    check: Check,
    wave: int,
    depends_on: Iterable[str] = (),
    undo: Undo | None = None,
) -> Change:
    """The change that the merge patch `patch` makes to `live`. Without `undo` it is the patch that restores `live`.

    `depends_on` are fields (RFC 6901 pointers) that the patch does not write and that still must not move. Raises
    `Refused` when the patch holds a secret, and `Refused` when the target is being deleted."""
    metadata = live["metadata"]
    if metadata.get("deletionTimestamp"):
        raise Refused(
            f"{target.kind} {target.name} is being deleted.",
            field="app",
            hint="app_get says since when, and which finalizer holds it.",
        )
    if where := find_secret(patch):
        raise Refused(
            f"The change would carry what looks like a secret ({where}), and a proposal never carries one.",
            hint="Put the value into a Secret and refer to it by name (existingSecret, secretKeyRef), "
            "or make the change in Git.",
        )
    undo = undo or Undo(invert(live, patch))
    if undo.patch is not None and find_secret(undo.patch):
        undo = Undo(None, "What was there looks like a secret, and a proposal never carries one.")
    written = list_fields(patch)
    # Where the patch adds the first of something, the undo takes away all of it.
    watched = {*written, *(list_fields(undo.patch) if undo.patch else ()), *depends_on}
    return Change(
        kind=kind,
        target=target,
        summary=summary,
        precondition=make_precondition(live, watched),
        patch=patch,
        diff=diff_objects(live, merge(live, patch), written, name=f"{target.kind} {target.namespace}/{target.name}"),
        undo=undo.patch,
        undo_note=undo.note,
        check=check,
        wave=wave,
        last=find_last(live, {*watched, "/spec"} if target.kind == "Application" else watched),
    )


def make_precondition(live: JsonObject, fields: Iterable[str]) -> Precondition:
    """What must still hold of the object: who it is, and the values of `fields` without those that lie in others."""
    every = sorted(set(fields))
    outer = tuple(one for one in every if not any(one != other and one.startswith(f"{other}/") for other in every))
    metadata = live["metadata"]
    return Precondition(
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        fields=outer,
        digest=fields_digest(live, outer),
    )


def follow(change: Change, live: JsonObject, earlier: Iterable[Change]) -> Change:
    """The change as one that comes after `earlier` ones to the same object, all of the same proposal.

    Its precondition leaves out what they write, so that it holds before the first and after the last of them alike.
    `live` is the object before all of them. Raises `Refused` when two of them write the same field."""
    written = [field for before in earlier for field in list_fields(before.patch)]
    twice = [one for one in list_fields(change.patch) if any(overlap(one, other) for other in written)]
    if twice:
        raise Refused(
            f"An earlier change of this proposal already writes this field ({twice[0]}).",
            hint="Make two proposals, one after the other.",
        )
    free = [one for one in change.precondition.fields if not any(overlap(one, other) for other in written)]
    return change.model_copy(update={"precondition": make_precondition(live, free)})


def leave(live: JsonObject, earlier: Iterable[Change]) -> JsonObject:
    """The object as the earlier changes leave it; an operation is gone once it has run."""
    left = dict(live)
    for change in earlier:
        left = merge(left, change.patch)
        if "operation" in change.patch:
            del left["operation"]
    return left


def write_title(changes: Sequence[Change]) -> str:
    """What a proposal of these changes is called: as its only change, or by the apps that it changes."""
    if len(changes) == 1:
        return changes[0].summary
    names = list(dict.fromkeys(change.target.app.rpartition("/")[2] for change in changes))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(changes)} changes to {', '.join(names[:_NAMED])}{more}"


def invert(live: JsonObject, patch: JsonObject) -> dict[str, Any]:
    """The merge patch that turns `merge(live, patch)` back into `live` (which holds no nulls, as objects do not)."""
    back: dict[str, Any] = {}
    for key, value in patch.items():
        before = live.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            back[key] = invert(before, value)
        elif key in live or value is not None:
            back[key] = before
    return back


def goes_back(old: str, new: str) -> bool:
    """Whether both are version numbers (`1.4`, `v1.4.2-rc.1`, `16.2-alpine3.19`) and the new one is the lower.

    What comes before a release is lower than it (Semantic Versioning 2.0.0, section 11); variants such as `alpine` are
    compared only among themselves, by their numbers."""
    was, will_be = _VERSION.fullmatch(old), _VERSION.fullmatch(new)
    if was is None or will_be is None:
        return False
    before, after = _numbers(was[1]), _numbers(will_be[1])
    if before != after:
        return after < before
    return _precedes(will_be[2] or "", was[2] or "")


def _precedes(one: str, other: str) -> bool:
    """Whether of two suffixes of the same version the first means an earlier state."""
    if bool(_PRERELEASE.match(one)) != bool(_PRERELEASE.match(other)):
        return bool(_PRERELEASE.match(one))
    if _PRERELEASE.match(one):
        return _ordered(one) < _ordered(other)
    return re.sub(r"\d+", "", one) == re.sub(r"\d+", "", other) and _ordered(one) < _ordered(other)


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    return numbers + [0] * (4 - len(numbers))


def _ordered(suffix: str) -> list[tuple[bool, int, str]]:
    """Its parts in the order of section 11: numbers by value, before words."""
    parts = re.findall(r"\d+|[A-Za-z]+", suffix)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
