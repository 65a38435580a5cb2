"""What a change claims to be, held against what it would do: whoever planned it is not believed by who applies it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..app import App, AppSource
from ..argocd.changes import deployed_before, going_back
from ..argocd.images import find_running, split_image
from ..argocd.parse import read_source
from ..change import Change, ChangeKind, JsonObject
from ..diff import list_fields
from ..kubernetes.fields import read_object, read_objects, read_text
from ..risk import RiskFactor
from ..tree import Node

_SYNC = (
    "/operation/initiatedBy",
    "/operation/retry",
    "/operation/sync/prune",
    "/operation/sync/revision",
    "/operation/sync/revisions",
    "/operation/sync/syncOptions",
    "/operation/sync/syncStrategy",
)
_WRITES: Mapping[ChangeKind, tuple[str, ...]] = {
    ChangeKind.PROMOTE: (
        "/metadata/labels/arborgate.dev~1promoted-from",
        "/metadata/labels/arborgate.dev~1promoted-revision",
        "/metadata/labels/arborgate.dev~1promotion",
        "/spec/source/helm/parameters",
        "/spec/source/helm/valuesObject",
        "/spec/source/kustomize/images",
        "/spec/source/targetRevision",
        "/spec/sources",
    ),
    ChangeKind.RESTART: (
        "/spec/restartAt",
        "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt",
    ),
    ChangeKind.ROLLBACK: (*_SYNC, "/operation/sync/source", "/operation/sync/sources"),
    ChangeKind.SCALE: ("/spec/replicas",),
    ChangeKind.SET_IMAGE: (
        "/spec/source/helm/parameters",
        "/spec/source/helm/valuesObject",
        "/spec/source/kustomize/images",
        "/spec/sources",
    ),
    ChangeKind.SET_REVISION: ("/spec/source/targetRevision", "/spec/sources"),
    ChangeKind.SYNC: _SYNC,
}
"""The fields (RFC 6901 pointers) that a change of each kind may write, with all that is in them."""


def find_excess(change: Change, app: App) -> str:
    """The field that the change writes and no change of its kind does; `""` where there is none.

    Several sources are written as a whole, so of them it is the source of which more is another than the kind says."""
    allowed = _WRITES[change.kind]
    for field in list_fields(change.patch):
        if not any(f"{field}/".startswith(f"{each}/") for each in allowed):
            return field
    if _read_sync(change).get("prune"):
        return "/operation/sync/prune"
    if "sources" not in read_object(change.patch, "spec"):
        return ""
    planned = _read_planned(change, app)
    kept = [_keep(change.kind, one) for one in planned] == [_keep(change.kind, one) for one in app.sources]
    return "" if kept else "/spec/sources"


def find_downgrades(changes: Iterable[Change], nodes: Mapping[str, Node]) -> list[RiskFactor]:
    """The changes that bring an app (by its id) to an earlier version, as far as that can be told from the app alone."""
    found = [risk for one in changes if one.target.app in nodes for risk in _go_back(one, nodes[one.target.app].app)]
    return list(dict.fromkeys(found))


def _go_back(change: Change, app: App) -> Iterator[RiskFactor]:
    revision = read_text(_read_sync(change), "revision")
    if change.kind is ChangeKind.SYNC and revision:
        yield from deployed_before(app, revision)
    for was, now in zip(app.sources, _read_planned(change, app), strict=False):
        if now.target_revision not in ("", was.target_revision):
            yield from going_back(app, was.target_revision, now.target_revision)
            yield from deployed_before(app, now.target_revision)
        yield from _go_back_by_image(app, was, now)


def _go_back_by_image(app: App, was: AppSource, now: AppSource) -> Iterator[RiskFactor]:
    before = {image.key: image.version for image in map(split_image, was.images)}
    for image in (split_image(each) for each in now.images if each not in was.images):
        running = find_running(image.name, app.images)
        yield from going_back(app, before.get(image.key, ""), image.version)
        yield from going_back(app, running.version if running else "", image.version)
    for name, value in now.parameters:
        if (old := dict(was.parameters).get(name, "")) != value:
            yield from going_back(app, _read_version(old), _read_version(value))


def _read_version(value: str) -> str:
    """The version that a parameter of a chart says, by itself or as the end of an image."""
    return split_image(value).version if "/" in value or ":" in value else value


def _read_sync(change: Change) -> JsonObject:
    """The operation that the change starts; empty where it starts none."""
    return read_object(read_object(change.patch, "operation"), "sync")


def _read_planned(change: Change, app: App) -> Sequence[AppSource]:
    """The sources of the app as the change writes them; none where it writes none."""
    spec = read_object(change.patch, "spec")
    if "sources" in spec:
        return [read_source(each) for each in read_objects(spec, "sources")]
    return [read_source(read_object(spec, "source"))] if "source" in spec and len(app.sources) == 1 else []


def _keep(kind: ChangeKind, source: AppSource) -> AppSource:
    """What a change of this kind leaves of a source as it is."""
    match kind:
        case ChangeKind.SET_REVISION:
            return source._replace(target_revision="")
        case ChangeKind.PROMOTE:
            return source._replace(target_revision="", images=(), parameters=())
    return source._replace(images=(), parameters=())
