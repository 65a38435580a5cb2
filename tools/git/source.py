"""Reads where apps are written: the YAML document in its repository that holds an Application, or a file of values."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from dulwich.objects import Commit
from dulwich.trailers import parse_trailers

from ...policies.errors import Refused
from ..app import App
from ..argocd.changes import API as ARGO_API
from ..change import JsonObject, Target, merge
from ..kubernetes.changes import MARK
from ..kubernetes.fields import read_object, read_text
from ..tree import AppTree, Node
from . import documents
from .editing import edit
from .places import API, APPLICATION, FILE, Books, Place, find_places, list_candidates
from .remote import Access, Clone, Remote
from .settings import GitDelivery, GitSettings

PROPOSAL, CHANGE, FILE_TRAILER = "Arborgate-Proposal", "Arborgate-Change", "Arborgate-File"
"""The trailers by which a commit shows what it was made for: the proposal, the number of the change (with `/undone` after
its undo), and the target's name."""

_MOST_FILES = 5_000
_THREADS = 4
_KEPT = 8
"""Clones in memory at once: the last commits of as many branches."""
_RENDERING = frozenset({"Chart.yaml", "Kustomization", "kustomization.yaml", "kustomization.yml"})
_IS_APPLICATION = re.compile(r"kind[\"']?\s*:\s*[\"']?Application\b")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class File:
    """One document as it is at the head of a branch, and what the branch's history says of it."""

    place: Target
    clone: Clone
    blob: str
    text: str
    where: documents.Slice
    value: Mapping[str, Any]
    mark: str = ""
    commit: str = ""

    @property
    def path(self) -> str:
        return self.place.name.partition("#")[0]

    def as_object(self) -> JsonObject:
        """As the applier sees its targets: who it is, its version (the file's id), our mark, and the document itself.

        Of an Application it has the `spec` and the labels, of a file of values all of it under `values`; `text` is the
        document as it is written, and `status.contains` are the commits that hold our last change of it."""
        marked = {"annotations": {MARK: self.mark}} if self.mark else {}
        held = {"values": self.value} if self.place.kind == FILE else {"spec": self.value["spec"]}
        metadata = {
            "uid": "/".join((self.place.cluster, self.place.namespace, self.place.name)),
            "resourceVersion": self.blob,
            **(_pick_labels(self.value) if self.place.kind == APPLICATION else {}),
            **marked,
        }
        text = documents.cut_out(self.text, self.where)
        return {
            "kind": self.place.kind,
            "metadata": metadata,
            **held,
            "text": text,
            "status": {"contains": self._containing()},
        }

    def edit(self, patch: JsonObject) -> str:
        """The file after a merge patch of `as_object`; raises `Refused` when it can't be made without touching more."""
        after = write_document(self.place.kind, self.value, patch)
        return edit(self.text, self.where, after)

    def _containing(self) -> list[str]:
        if not self.commit:
            return []
        containing = {self.commit.encode()}
        for commit in reversed(list(self.clone.commits())):
            if not containing.isdisjoint(commit.parents):
                containing.add(commit.id)
        return sorted(one.decode() for one in containing)


class GitSource:
    """The configured repositories, as one identity reads them: with `deliveries` the applier's own, which may write."""

    def __init__(self, settings: GitSettings, deliveries: Sequence[GitDelivery] = ()) -> None:
        self.books = Books(settings)
        self._settings = settings
        self._deliveries = {one.name: one for one in deliveries}
        self._threads = ThreadPoolExecutor(_THREADS, "git")
        self._remotes: dict[str, Remote] = {}
        self._clones: OrderedDict[tuple[str, str], Clone] = OrderedDict()
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def find(self, tree: AppTree, node: Node, kind: str) -> File | None:
        """The document that holds the app's Application, or its file of values; None when there is none.

        Raises `Refused` where it can't be told or edited, with the way out, and `Unavailable`."""
        found: list[File] = []
        for place in find_places(self.books, tree, node, kind):
            clone = await self.clone(place.repository, place.branch)
            look = _find_values if place.file else _find_application
            found += await self.run(look, self.remote(place.repository), clone, place, node.app)
        if len(found) > 1:
            names = ", ".join(sorted(file.path for file in found)[:5])
            raise Refused(
                f"{node.app.id.name} is written in several places: {names}.",
                field="app",
                hint="Leave one of them, or change it in Git by hand.",
            )
        return found[0] if found else None

    async def clone(self, repository: str, branch: str) -> Clone:
        """The branch as it is now: what is in memory, when it has not moved."""
        remote, key = self.remote(repository), (repository, branch)
        async with self._locks.setdefault(key, asyncio.Lock()):
            name, head = await self.run(remote.find_head, branch)
            known = self._clones.get(key)
            if known is None or known.head != head:
                known = await self.run(remote.fetch, name, head)
            self._clones[key] = known
            self._clones.move_to_end(key)
            if len(self._clones) > _KEPT:
                self._clones.popitem(last=False)
            return known

    def remote(self, repository: str) -> Remote:
        """How to speak with a repository; raises `Refused` for one that is not configured."""
        if repository not in self._remotes:
            entry, url = self.books.find(repository)
            if entry.name in self._deliveries:
                own = self._deliveries[entry.name]
                access = Access(repository, url, own.username, own.password_file, entry.ca_file)
            else:
                access = Access(repository, url, entry.username, entry.password_file, entry.ca_file)
            self._remotes[repository] = Remote(access, self._settings)
        return self._remotes[repository]

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Something that blocks, in one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def write_document(kind: str, value: Mapping[str, Any], patch: JsonObject) -> Mapping[str, Any]:
    """What a document says after the merge patch of its object: `values`, or `spec` and labels, and nothing beside."""
    if kind == FILE:
        return merge(value, read_object(patch, "values"))
    labels = _pick_labels(patch)
    return merge(value, {"spec": read_object(patch, "spec"), **({"metadata": labels} if labels else {})})


def _pick_labels(value: JsonObject) -> dict[str, Any]:
    """The labels of an object, or of a patch, as its metadata holds them; empty where it says nothing of any."""
    metadata = read_object(value, "metadata")
    return {"labels": metadata["labels"]} if "labels" in metadata else {}


def read_mark(commit: Commit, name: str) -> str:
    """Which change of which proposal the commit says that it is, of the target of this name; `""` for none of ours."""
    said = {trailer.key: trailer.value for trailer in parse_trailers(commit.message)[1]}
    proposal, change = said.get(PROPOSAL, ""), said.get(CHANGE, "")
    return f"{proposal}/{change}" if proposal and change and said.get(FILE_TRAILER) == name else ""


def _find_values(remote: Remote, clone: Clone, place: Place, app: App) -> list[File]:
    blob = clone.find(place.file)
    if blob is None:
        return []
    remote.fetch_contents(clone, [blob])
    text = documents.decode(clone.content(blob))
    slices = documents.split(text)
    value = documents.read(documents.cut_out(text, slices[0])) if len(slices) == 1 else None
    if not isinstance(value, dict):
        raise Refused(f"The file of the values of {app.id.name} is not one YAML mapping.", field="app")
    return [_describe(clone, place, app, FILE, place.file, blob, text, slices[0], value)]


def _find_application(remote: Remote, clone: Clone, place: Place, app: App) -> list[File]:
    files = clone.files(place.folder, recurse=place.recurse, most=_MOST_FILES)
    above = f"{place.folder}/" if place.folder else ""
    if any(f"{above}{name}" in files for name in _RENDERING):
        raise Refused(
            f"The folder that {app.id.name} comes from is rendered by Helm or Kustomize.",
            field="app",
            hint="Name the file of its values in the settings (git.values), or change it in Git by hand.",
        )
    candidates = list_candidates(files)
    remote.fetch_contents(clone, [files[path] for path in candidates])
    found: list[File] = []
    for path in candidates:
        data = clone.content(files[path])
        if not _may_hold(data.decode("utf-8", "replace"), app):
            continue  # whatever is odd about it is no matter of this app's
        text = documents.decode(data)
        for where in documents.split(text):
            value = _read_application(documents.cut_out(text, where), app)
            if value is not None:
                found.append(_describe(clone, place, app, APPLICATION, path, files[path], text, where, value))
    return found


def _read_application(document: str, app: App) -> Mapping[str, Any] | None:
    """The document, if it is this app's Application."""
    if not _may_hold(document, app):
        return None
    value = documents.read(document)
    if not isinstance(value, dict) or value.get("kind") != APPLICATION or value.get("apiVersion") != ARGO_API:
        return None
    metadata = read_object(value, "metadata")
    own = read_text(metadata, "name") == app.id.name
    beside = read_text(metadata, "namespace") in ("", app.id.namespace)
    return value if own and beside and isinstance(value.get("spec"), dict) else None


def _may_hold(text: str, app: App) -> bool:
    """Whether the text could be this app's Application, as far as that shows without reading it as YAML."""
    named = rf"\bname[\"']?\s*:\s*[\"']?{re.escape(app.id.name)}[\"']?\s*(?:[,}}#\r\n]|$)"
    return _IS_APPLICATION.search(text) is not None and re.search(named, text) is not None


def _describe(
    clone: Clone,
    place: Place,
    app: App,
    kind: str,
    path: str,
    blob: str,
    text: str,
    where: documents.Slice,
    value: Mapping[str, Any],
) -> File:
    name = path if kind == FILE else f"{path}#{app.id.name}"
    target = Target(app=str(app.id), cluster=place.repository, api=API, kind=kind, namespace=clone.branch, name=name)
    ours = next(((mark, one.id.decode()) for one in clone.commits() if (mark := read_mark(one, name))), ("", ""))
    return File(target, clone, blob, text, where, value, *ours)
