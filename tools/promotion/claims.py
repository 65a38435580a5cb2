"""What a promotion claims, held against what really ran below: whoever planned it is not believed by who applies it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...policies.errors import Refused
from ..app import Health
from ..argocd.images import put_value, read_values, split_image
from ..argocd.sources import Sources
from ..change import Change, ChangeKind, JsonObject, Promotion, digest_json, merge
from ..kubernetes.fields import read_object, read_objects, read_text, read_texts
from ..tree import AppTree, Node
from .carrying import is_image
from .labels import FROM, PROPOSAL, REVISION
from .ladder import PromotionSettings, find_counterparts
from .plan import write_revision

_FAILING = frozenset({Health.DEGRADED, Health.MISSING})


def check_promotion(change: Change, proposal: str, tree: AppTree, ladder: PromotionSettings) -> Node | None:
    """Holds what a promotion says of its place against the tree: it goes to the next environment, between two apps that are
    one component, from one that runs. Returns the app it comes from, and None for any other change.

    Raises `Refused`."""
    told = change.promotion
    if (told is not None) != (change.kind is ChangeKind.PROMOTE):
        raise Refused(f"The change of {change.target} does not say what it promotes.")
    if told is None:
        return None
    origin, target = _find(told.app, tree), _find(change.target.app, tree)
    there = (origin.app.environment, target.app.environment)
    if there != (told.origin, told.environment) or ladder.above(told.origin) != told.environment:
        raise Refused(f"The promotion of {change.target} does not go from one environment to the next.")
    if target not in find_counterparts(origin, told.environment, tree, ladder):
        raise Refused(f"{origin.app.id.name} and {target.app.id.name} are not the same in two environments.")
    if origin.app.health in _FAILING:
        raise Refused(f"{origin.app.id.name} is {origin.app.health}: what does not run well is not promoted.")
    labels = read_object(read_object(change.patch, "metadata"), "labels")
    if labels != {FROM: told.origin, PROPOSAL: proposal, REVISION: write_revision(told.revision)}:
        raise Refused(f"The labels of {change.target} would not say where it was promoted from.")
    return origin


def check_company(changes: Sequence[Change]) -> None:
    """Besides promoting, a proposal that is called a promotion only syncs the same apps, to what they are promoted to.

    Raises `Refused`."""
    promoted = {one.target: one for one in changes if one.promotion}
    for one in changes if promoted else ():
        if one.promotion is not None:
            continue
        brought = promoted.get(one.target)
        if brought is None or brought.promotion is None or one.kind is not ChangeKind.SYNC:
            raise Refused(f"It is called a promotion, and also does something else to {one.target}.")
        revision = read_text(read_object(read_object(one.patch, "operation"), "sync"), "revision")
        written = read_text(read_object(read_object(brought.patch, "spec"), "source"), "targetRevision")
        if revision not in ("", written, brought.promotion.revision):
            raise Refused(f"{one.target} would be synced to something else than what is promoted.")


def check_brought(
    change: Change, promotion: Promotion, origin: JsonObject, target: JsonObject, ladder: PromotionSettings
) -> None:
    """Every value that the change writes ran, or runs, in the live Application `origin`, and may cross; what it does not
    write stays as it is in the live Application `target`. Raises `Refused`."""
    if promotion.revision not in _list_revisions(origin):
        raise Refused(f"{promotion.app} never ran what would be promoted.")
    if promotion.since not in ("", *(read_text(each, "deployedAt") for each in _list_history(origin))):
        raise Refused(f"{promotion.app} has not run it since then.")
    for at, source in enumerate(_read_written(change, target)):
        _check_source(change, source, at, origin, target, ladder)


def _check_source(
    change: Change, source: JsonObject, at: int, origin: JsonObject, target: JsonObject, ladder: PromotionSettings
) -> None:
    here = Sources.of(target).each[at]
    ran = list(_list_sources(origin, at))
    now, was = read_text(source, "targetRevision"), read_text(here, "targetRevision")
    known = {read_text(each, "targetRevision") for each in ran} | {
        each.split(",")[at] for each in _split_ready(origin, at)
    }
    if now != was and now not in known:
        raise _unknown(change, "its revision")
    for override in _list_images(source):
        if override not in _list_images(here) and not any(
            _is_same(override, one, here) for each in ran for one in _list_images(each)
        ):
            raise _unknown(change, "an image")
    held = read_values(here)
    for name, value in read_values(source).items():
        if held.get(name) == value:
            continue
        if not any(read_values(each).get(name) == value for each in ran):
            raise _unknown(change, name)
        if not (is_image(name, value) or ladder.shares(name)):
            raise Refused(f"The promotion of {change.target} carries {name}, which is not shared.")
    if digest_json(_carry_again(here, source)) != digest_json(source):
        raise Refused(f"The promotion of {change.target} writes more than it carries.")


def _find(app: str, tree: AppTree) -> Node:
    node = tree.find(app)
    if node is None:
        raise Refused("What is promoted comes from an app that is not there.")
    return node


def _read_written(change: Change, target: JsonObject) -> Sequence[JsonObject]:
    """The sources of the target as the change leaves them; none where it leaves them alone."""
    if "spec" not in change.patch:
        return ()
    return Sources.of(merge(target, change.patch)).each


def _list_sources(origin: JsonObject, at: int) -> Iterator[JsonObject]:
    """One source as it is, and as it was at every deployment that Argo CD remembers."""
    for each in (read_object(origin, "spec"), *_list_history(origin)):
        several = read_objects(each, "sources") or (read_object(each, "source"),)
        if at < len(several):
            yield several[at]


def _list_revisions(origin: JsonObject) -> set[str]:
    sync = read_object(read_object(origin, "status"), "sync")
    return {_join(each) for each in (sync, *_list_history(origin))} - {""}


def _split_ready(origin: JsonObject, at: int) -> Iterator[str]:
    return (each for each in _list_revisions(origin) if each.count(",") >= at)


def _join(raw: JsonObject) -> str:
    return read_text(raw, "revision") or ",".join(read_texts(raw, "revisions"))


def _list_history(origin: JsonObject) -> Sequence[JsonObject]:
    return tuple(read_objects(read_object(origin, "status"), "history"))


def _list_images(source: JsonObject) -> tuple[str, ...]:
    return read_texts(read_object(source, "kustomize"), "images")


def _carry_again(was: JsonObject, now: JsonObject) -> JsonObject:
    """The source `was` with the revision, the images and the named values of `now`, and nothing else of it."""
    built = merge(was, {"targetRevision": now["targetRevision"]}) if "targetRevision" in now else was
    images = list(_list_images(was))
    for override in _list_images(now):
        keys = [split_image(each).key for each in images]
        at = keys.index(key) if (key := split_image(override).key) in keys else len(images)
        images[at : at + 1] = [override]
    if images != list(_list_images(was)):
        built = merge(built, {"kustomize": {"images": images}})
    held = read_values(was)
    for name, value in read_values(now).items():
        if held.get(name) != value:
            built = merge(built, put_value(built, name, value))
    return built


def _is_same(one: str, other: str, here: JsonObject) -> bool:
    """Whether two overrides bring the same image in the same place: one may spell out the name that it replaces, as the
    target `here` does."""
    first, second = split_image(one), split_image(other)
    replaced = {image.key: image.name for image in map(split_image, _list_images(here))}
    place = replaced[first.key] == first.name if first.key in replaced else first.key == second.key
    return place and (first.name, first.version) == (second.name, second.version)


def _unknown(change: Change, what: str) -> Refused:
    return Refused(f"The promotion of {change.target} brings {what} as it never was where it comes from.")
