"""What a change would bring to an app, read from its patch alone, and whether that runs well in a lower environment."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ..app import App, AppSource, Health, Sync
from ..argocd.images import split_image
from ..argocd.parse import read_source
from ..change import Change, ChangeKind, JsonObject
from ..diff import list_fields
from ..kubernetes.fields import read_object, read_text
from ..promotion.ladder import PromotionSettings, find_counterparts
from ..tree import AppTree, Node

_NOTHING_NEW = frozenset({ChangeKind.RESTART, ChangeKind.SCALE})
_IMAGES, _REVISION = "/spec/source/kustomize/images", "/spec/source/targetRevision"
_PLAIN = ("/operation/initiatedBy", "/operation/retry", "/operation/sync/revision", "/operation/sync/syncOptions")
_FIXED = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]+)?|[0-9a-f]{40}|[0-9a-f]{64}")
_FIXED_TAG = re.compile(r".*(?:[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f]{7,}).*")


@dataclass(frozen=True, slots=True)
class Brought:
    """Images as the app would run them, and the revision of its one source (`""`: as it is). `unclear` is the field
    (RFC 6901 pointer) that brings something which can't be told from the change; `""` where there is none."""

    images: tuple[str, ...] = ()
    revision: str = ""
    unclear: str = ""

    @property
    def nothing(self) -> bool:
        """Whether what runs stays what it is."""
        return not (self.images or self.revision or self.unclear)


def read_brought(change: Change, app: App) -> Brought:
    """What the change brings. Fields that nobody here understands, several sources and the values of charts are unclear."""
    if change.kind in _NOTHING_NEW:
        return Brought()
    written = list_fields(change.patch)
    known = (_IMAGES, _REVISION, *_PLAIN)
    unclear = next((one for one in written if not any(f"{one}/".startswith(f"{each}/") for each in known)), "")
    if unclear or len(app.sources) != 1:
        return Brought(unclear=unclear or "/spec/sources")
    source = read_source(read_object(read_object(change.patch, "spec"), "source"))
    operation = read_object(read_object(change.patch, "operation"), "sync")
    revision = source.target_revision or read_text(operation, "revision")
    if change.kind is ChangeKind.SYNC and not revision:
        return Brought(unclear="/operation/sync/revision")  # whatever the branch is at when it is synced
    there = app.sources[0].images
    new = [one for one in source.images if one not in there]
    if any(_takes_another_place(one, there) for one in new):
        return Brought(unclear=_IMAGES)
    images = tuple(str(_without_alias(one)) for one in new)
    return Brought(images, revision)


def is_proven(change: Change, node: Node, tree: AppTree, ladder: PromotionSettings) -> bool:
    """Whether all that the change brings runs in one and the same app of a lower environment that is healthy and synced;
    True where it brings nothing. What can't be told, or could be another thing tomorrow, is not proven."""
    brought = read_brought(change, node.app)
    if brought.unclear or not _is_fixed(brought):
        return False
    return brought.nothing or any(_runs(brought, node.app, each.app) for each in _find_lower(node, tree, ladder))


def _find_lower(node: Node, tree: AppTree, ladder: PromotionSettings) -> Iterator[Node]:
    if node.app.environment not in ladder.path:
        return
    for environment in ladder.path[: ladder.path.index(node.app.environment)]:
        for each in find_counterparts(node, environment, tree, ladder):
            if not tree.freshness(each.app.id.cluster).stale:
                yield each


def _runs(brought: Brought, app: App, lower: App) -> bool:
    well = lower.health is Health.HEALTHY and lower.sync is Sync.SYNCED and not lower.failing
    images = all(image in lower.images for image in brought.images)
    return well and images and (not brought.revision or _is_at(brought.revision, app.sources, lower))


def _is_at(revision: str, sources: Sequence[AppSource], lower: App) -> bool:
    """Whether the other app is at this revision of the same repository and, where there is one, the same chart."""
    if len(lower.sources) != 1:
        return False
    own, other = sources[0], lower.sources[0]
    return (own.repo, own.chart) == (other.repo, other.chart) and revision in (lower.revision, other.target_revision)


def _is_fixed(brought: Brought) -> bool:
    """Whether the names mean one thing for good: versions, commits and digests do, branches and `latest` do not."""
    return all(map(_is_fixed_image, brought.images)) and (not brought.revision or is_fixed_revision(brought.revision))


def is_fixed_revision(revision: str) -> bool:
    """Whether it is a whole version number or a commit."""
    return _FIXED.fullmatch(revision) is not None


def _is_fixed_image(text: str) -> bool:
    image = split_image(text)
    return bool(image.digest) or _FIXED_TAG.fullmatch(image.tag) is not None


def _takes_another_place(override: str, there: Collection[str]) -> bool:
    """Whether what is replaced goes by another name than the image, and was not replaced by it before."""
    image = split_image(override)
    return image.key != image.name and (image.key, image.name) not in {
        (one.key, one.name) for one in map(split_image, there)
    }


def _without_alias(override: str) -> str:
    return override.rpartition("=")[2]


def kinds_of(changes: Collection[Change], app: str) -> tuple[str, ...]:
    """The kinds of the changes of one app, sorted."""
    return tuple(sorted({str(one.kind) for one in changes if one.target.app == app}))


def changes_of(changes: Collection[Change], app: str) -> list[Change]:
    """The changes of one app."""
    return [one for one in changes if one.target.app == app]


def read_replicas(patch: JsonObject) -> int | None:
    """How many replicas the patch asks for; None where it says no number."""
    replicas = read_object(patch, "spec").get("replicas")
    return replicas if isinstance(replicas, int) and not isinstance(replicas, bool) else None
