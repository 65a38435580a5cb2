"""What a promotion carries from an app to the one above it: revisions, images, shared parameters; and what has to stay."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...policies.errors import ArborgateError, Refused
from ..argocd.images import (
    edit_kustomize,
    find_repository,
    is_reference,
    is_tag,
    parse_image,
    put_value,
    read_values,
    split_image,
)
from ..argocd.sources import Sources
from ..change import JsonObject, merge
from ..text import quote_name
from ..tree import App
from .ladder import PromotionSettings, names_environment

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PINNED = re.compile(r"v?\d+(?:\.\d+)+(?:[-+][0-9A-Za-z.+-]+)?|[0-9a-f]{7,64}")
"""Versions, tags that are versions, and commits; every other revision is a branch or a range, and moves by itself."""

_SPOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
"""What a value of a parameter may be for our own sentences to say it."""


@dataclass(frozen=True, slots=True)
class Move:
    """From which app to which, and between which environments."""

    origin: App
    target: App
    ladder: PromotionSettings
    leave: Collection[str] = ()
    """Parameters that are left as they are this time."""


@dataclass(slots=True)
class Carried:
    """The sources of the target as the promotion leaves them, the revision that each is then synced to (`""`: as it is),
    and in words what is carried and what stays."""

    sources: list[JsonObject]
    revisions: list[str]
    carried: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)


def carry(move: Move, origin: JsonObject, target: JsonObject) -> Carried:
    """What the live Application `origin` runs, brought into the sources of the live Application `target`.

    Raises `Refused` where the two are built too differently, or where something that is shared must not cross."""
    theirs, ours = Sources.of(origin), Sources.of(target)
    if len(theirs.each) != len(ours.each):
        raise Refused(
            f"{move.origin.id.name} has {len(theirs.each)} sources and {move.target.id.name} has {len(ours.each)}.",
            field="apps",
            hint="Propose the change itself: rollout_propose.",
        )
    found = Carried([], [])
    for at, (here, there) in enumerate(zip(theirs.each, ours.each, strict=True)):
        compared = theirs.compared[at] if theirs.compared else ""
        if not _is_same(here, there):
            found.stays.append(f"source {at + 1}, which is another one here")
            found.sources.append(there)
            found.revisions.append("")
            continue
        source, revision = _carry_revision(found, compared, here, there)
        source = _carry_images(found, move, here, source)
        found.sources.append(_carry_parameters(found, move, here, source))
        found.revisions.append(revision)
    return found


def _is_same(here: JsonObject, there: JsonObject) -> bool:
    """Whether two sources give the same thing: the chart of a repository, or a Git repository at whatever path."""
    return all(here.get(name, "") == there.get(name, "") for name in ("repoURL", "chart"))


def _carry_revision(found: Carried, compared: str, here: JsonObject, there: JsonObject) -> tuple[JsonObject, str]:
    was, theirs = str(there.get("targetRevision") or "HEAD"), str(here.get("targetRevision") or "HEAD")
    if not compared:
        found.stays.append("the revision: Argo CD does not say which one runs there")
        return there, ""
    if not _PINNED.fullmatch(was):
        return there, compared  # it follows a branch, and is synced to the very commit
    # A tag says more than its commit does, and a commit more than a branch that has moved on.
    now = theirs if _PINNED.fullmatch(theirs) else compared
    if now == was:
        return there, compared
    found.carried.append(say_revision(now))
    return merge(there, {"targetRevision": now}), compared if _COMMIT.fullmatch(compared) else now


def _carry_images(found: Carried, move: Move, here: JsonObject, there: JsonObject) -> JsonObject:
    """The overrides of Kustomize; images that charts take as parameters are among those."""
    ours = {image.key: image for image in map(split_image, _list_overrides(there))}
    source = there
    for image in map(split_image, _list_overrides(here)):
        beside = ours.get(image.key)
        if not image.version or (beside and beside.version == image.version and beside.name == image.name):
            continue
        if beside and beside.name != image.name:
            found.stays.append(f"image {quote_name(image.key)}, which comes from another registry here")
            continue
        try:
            edit = edit_kustomize(
                source, parse_image(f"{image.alias}={image}" if image.alias else str(image)), move.target.images
            )
        except ArborgateError:
            found.stays.append(f"image {quote_name(image.key)}, which nothing here is known to use")
            continue
        source = merge(source, edit.patch)
        found.carried.append(f"image {edit.image}")
    return source


def _carry_parameters(found: Carried, move: Move, here: JsonObject, there: JsonObject) -> JsonObject:
    theirs, ours = read_values(here), read_values(there)
    source = there
    for name, value in theirs.items():
        if ours.get(name) == value:
            continue
        if name in move.leave:
            found.stays.append(f"{name}, which was to be left")
        elif why := _keep(move, name, theirs, ours):
            found.stays.append(f"{name}{why}")
        else:
            _require_common(move, name, value)
            source = merge(source, put_value(source, name, value))
            found.carried.append(say_parameter(name, value))
    found.stays += [f"{name}, which is only here" for name in ours if name not in theirs]
    return source


def _keep(move: Move, name: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Why a parameter is not carried; `""` when it is."""
    value = theirs[name]
    if is_image(name, value):
        here, there = (_find_image(name, values) for values in (theirs, ours))
        return ", an image that comes from another registry here" if here and there and here != there else ""
    return "" if move.ladder.shares(name) else ", which is not shared"


def _require_common(move: Move, name: str, value: str) -> None:
    """What is shared by mistake must not reach the next environment. It is refused: to leave it out would be a guess."""
    rungs = [each for each in move.ladder.path if each != move.target.environment]
    if spoken := names_environment(value, rungs):
        raise Refused(
            f"The value of {name} of {move.origin.id.name} speaks of {spoken}, so it must not cross.",
            field="leave",
            hint=f"Name {name} in `leave`, or have it taken out of promotion.shared_parameters.",
        )


def is_image(name: str, value: str) -> bool:
    """Whether a parameter says which image a chart runs."""
    last = name.lower().rpartition(".")[2]
    return is_tag(name) or (
        "image" in name.lower() and (last == "digest" or (is_reference(value) and last != "repository"))
    )


def _find_image(name: str, values: Mapping[str, str]) -> str:
    value = values.get(name, "")
    return split_image(value).name if is_reference(value) else find_repository(name, values)


def _list_overrides(source: JsonObject) -> Iterator[str]:
    kustomize: Any = source.get("kustomize")
    yield from (str(each) for each in (kustomize or {}).get("images") or ())


def say_revision(revision: str) -> str:
    """A revision that is carried, in words."""
    return f"revision {revision[:10] if _COMMIT.fullmatch(revision) else revision}"


def say_parameter(name: str, value: str) -> str:
    """A parameter that is carried, in words: with its value where that says which image runs."""
    return f"{name} {value}" if is_image(name, value) and _SPOKEN.fullmatch(value) else name
