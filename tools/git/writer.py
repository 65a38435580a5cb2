"""Writing commits, for the applier alone: one file in one commit, signed, never by force, that says what it is for."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase

from dulwich.objects import Blob, Commit, ObjectID, ShaFile
from dulwich.signature import SSHCliSignatureVendor

from ...policies.errors import Refused, Stale, Unavailable
from ..change import Attribution, Heed, JsonObject, Rehearsed, Target, heed_nobody, merge
from ..cuts import shorten
from ..text import disarm
from ..tree import AppTree
from .changes import drop_mark
from .places import require_place
from .remote import Clone, Moved
from .requests import BRANCHES, Requests
from .settings import GitDelivery, GitWriting
from .source import CHANGE, FILE_TRAILER, PROPOSAL, File, GitSource, read_mark

_ATTEMPTS = 6
"""How often a commit is made anew on a branch whose other files keep moving."""

_PAUSE = 0.05
_SUBJECT, _NAME = 72, 120


class GitWriter:
    """Commits to the repositories that the applier's settings give it credentials for, where its own app tree says that
    an app is written; nothing else, whatever a proposal says."""

    def __init__(
        self,
        source: GitSource,
        tree: AppTree,
        writing: GitWriting,
        requests: Mapping[str, Requests],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`requests` are those who open pull requests, by the name of the entry in `git.repositories`."""
        self._sleep = sleep
        self._source = source
        self._tree = tree
        self._writing = writing
        self._deliveries = {one.name: one for one in writing.repositories}
        self._requests = requests

    async def read(self, target: Target) -> JsonObject | None:
        """The document as an object (`File.as_object`), or None when the app is not written there (any more).

        Raises `Refused` for a target that is none of ours, and `Unavailable`."""
        file = await self._find(target)
        return file.as_object() if file else None

    async def rehearse(self, target: Target, patch: JsonObject) -> Rehearsed:
        """Whether the file can be edited and the server would take a push; nothing is sent. Raises `Unavailable`."""
        try:
            file = await self._find(target)
            if file is None:
                raise Refused(f"{target} is not there any more.")
            file.edit(patch)
            await self._source.run(self._source.remote(target.cluster).require_push)
        except Refused as refused:
            return Rehearsed(ok=False, refusal=refused.message)
        return Rehearsed(ok=True)

    async def apply(
        self,
        target: Target,
        patch: JsonObject,
        resource_version: str,
        attribution: Attribution,
        heed: Heed = heed_nobody,
    ) -> JsonObject:
        """Commits the edit to that version of the file; returns the object as it is then. While a pull request waits to be
        merged it asks `heed`, and closes it when that raises.

        Raises `Stale` when the file moved (elsewhere the branch may move), `Refused` when the repository will not have
        it, `Unavailable` when it is not known what became of it."""
        mark = f"{attribution.proposal}/{attribution.change}{'/undone' if attribution.undone else ''}"
        patch = drop_mark(patch, mark)
        for attempt in range(_ATTEMPTS):
            if attempt:
                await self._sleep(_PAUSE * 2**attempt)  # a server may take a moment to show what it took
            file = await self._find(target)
            if file is not None and file.mark == mark:
                return _require_holds(file, patch)
            if file is None or file.blob != resource_version:
                raise Stale(f"{target} has moved since it was read.")
            if not attribution.undone and _find_commit(file.clone, file.place.name, mark):
                raise Stale(f"{target} had this change before, and it was taken back.")
            with suppress(Moved):
                await self._deliver(file, patch, attribution, heed)
        raise Stale(f"The branch {target.namespace} keeps moving, so nothing could be committed.")

    async def _find(self, target: Target) -> File | None:
        delivery = self._delivery(target)
        path = target.name.partition("#")[0]
        if not (_fits(target.namespace, delivery.branches) and _fits(path, delivery.paths)):
            raise Refused(f"{target} is never written: applier.git leaves it out.")
        node = self._tree.find(target.app)
        if node is None:
            raise Refused(f"There is no app {target.app}.")
        require_place(self._source.books, self._tree, node, target)
        file = await self._source.find(self._tree, node, target.kind)
        if file is None or file.place != target:
            return None
        requests = self._requests.get(delivery.name)
        return await self._know_merged(requests, file) if requests else file

    async def _know_merged(self, requests: Requests, file: File) -> File:
        """The file with the mark of the last of our pull requests that changed it, whatever its commit's message became
        when it was merged."""
        url = self._source.books.find(file.place.cluster)[1]
        merged = {one.commit: one.branch for one in await requests.list_merged(url, file.place.namespace)}
        for commit in file.clone.commits() if merged else ():
            name = commit.id.decode()
            if name == file.commit:
                break
            if name in merged and _touches(file, commit):
                return replace(file, mark=_read_branch(merged[name]), commit=name)
        return file

    def _delivery(self, target: Target) -> GitDelivery:
        found = self._deliveries.get(target.cluster.partition("/")[0])
        if found is None:
            raise Refused(
                f"The applier has no credentials for the repository {target.cluster}.",
                hint="Add it to applier.git.repositories.",
            )
        return found

    async def _deliver(self, file: File, patch: JsonObject, attribution: Attribution, heed: Heed) -> None:
        place = file.place
        requests = self._requests.get(place.cluster.partition("/")[0])
        if requests is not None:
            await self._request(requests, file, patch, attribution, heed)
            return
        commit, objects = await self._source.run(self._make, file, patch, attribution)
        push = self._source.remote(place.cluster).push
        await self._source.run(push, place.namespace, commit, objects, file.clone.head)

    async def _request(
        self, requests: Requests, file: File, patch: JsonObject, attribution: Attribution, heed: Heed
    ) -> None:
        """By a pull request of a branch of its own. What an earlier try has left is taken up: its branch, its request."""
        place, branch = file.place, name_branch(attribution)
        url, remote = self._source.books.find(place.cluster)[1], self._source.remote(place.cluster)
        request = await requests.find(url, branch, place.namespace)
        if request is None:
            made = await self._source.run(self._make, file, patch, attribution)
            try:
                await self._source.run(remote.push, branch, *made, None)
            except Moved:  # the branch is there already
                await self._require_same(file, branch, made[1])
            body = _describe(attribution, place.name, "").partition("\n\n")[2]
            title = _clean(attribution.title, _SUBJECT)
            request = await requests.open(url, branch, place.namespace, title, body)
        await requests.wait_merged(url, request, heed)

    async def _require_same(self, file: File, branch: str, objects: Sequence[ShaFile]) -> None:
        """Raises `Refused` unless a branch is what an earlier try would have left: one commit on top of the file's branch
        that makes the same of this file and nothing of any other. Whoever may push branches could have made another."""
        there = await self._source.clone(file.place.cluster, branch)
        (data,) = (one.data for one in objects if isinstance(one, Blob))
        head = next(iter(there.commits()))
        before = [one for one in file.clone.commits() if [one.id] == list(head.parents)]
        if not before or replace(file.clone, head=before[0].id.decode()).replace(file.path, data)[0] != head.tree:
            raise Refused(f"The branch {branch} is there already, and holds something else.", hint="Delete it.")

    def _make(self, file: File, patch: JsonObject, attribution: Attribution) -> tuple[bytes, list[ShaFile]]:
        reverted = self._find_reverted(file, attribution) if attribution.undone else None
        data = reverted[1] if reverted else file.edit(patch).encode()
        tree, objects = file.clone.replace(file.path, data)
        body = f"This reverts commit {reverted[0]}." if reverted else ""
        commit = Commit()
        commit.tree = ObjectID(tree)
        commit.parents = [ObjectID(file.clone.head.encode())]
        commit.author = commit.committer = f"{self._writing.author_name} <{self._writing.author_email}>".encode()
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        commit.message = _describe(attribution, file.place.name, body).encode()
        if self._writing.signing_key_file is not None:
            commit.gpgsig = self._sign(commit.as_raw_string())
        return commit.id, [commit, *objects]

    def _find_reverted(self, file: File, attribution: Attribution) -> tuple[str, bytes] | None:
        """The commit that is to be undone and the file as it was before it, when nothing else has touched the file."""
        ours = _find_commit(file.clone, file.place.name, f"{attribution.proposal}/{attribution.change}")
        if ours is None or not ours.parents or ours.parents[0] not in file.clone.store:
            return None
        if file.clone.find(file.path, ours.id) != file.blob:
            return None
        before = file.clone.find(file.path, ours.parents[0])
        if before is None:
            return None
        self._source.remote(file.place.cluster).fetch_contents(file.clone, [before])
        return ours.id.decode(), file.clone.content(before)

    def _sign(self, data: bytes) -> bytes:
        """An SSH signature by OpenSSH itself (PROTOCOL.sshsig, namespace `git`)."""
        try:
            return SSHCliSignatureVendor().sign(data, str(self._writing.signing_key_file))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise Unavailable("The commit could not be signed.", detail=type(error).__name__) from None


def _require_holds(file: File, patch: JsonObject) -> JsonObject:
    """The object of a file with our mark; raises `Refused` where others put something else under it, as whoever may push to
    the branch of a pull request can before it is merged."""
    live = file.as_object()
    if merge(live, patch) != live:
        raise Refused(f"What was committed to {file.place} for this change is something else.")
    return live


def name_branch(attribution: Attribution) -> str:
    """The branch of a change's pull request."""
    return f"{BRANCHES}{attribution.proposal}-{attribution.change}{'-undone' if attribution.undone else ''}"


def _read_branch(branch: str) -> str:
    """The mark of the change that the branch of a pull request was made for: the other way round of `name_branch`."""
    name = branch.removeprefix(BRANCHES)
    undone = name.endswith("-undone")
    proposal, _, change = name.removesuffix("-undone").rpartition("-")
    return f"{proposal}/{change}{'/undone' if undone else ''}"


def _touches(file: File, commit: Commit) -> bool:
    """Whether the file is another than before the commit, on its branch."""
    if not commit.parents or commit.parents[0] not in file.clone.store:
        return False
    return file.clone.find(file.path, commit.id) != file.clone.find(file.path, commit.parents[0])


def _find_commit(clone: Clone, name: str, mark: str) -> Commit | None:
    return next((one for one in clone.commits() if read_mark(one, name) == mark), None)


def _describe(attribution: Attribution, name: str, body: str) -> str:
    """The commit's message. Names come from outside: each is one line, so that none of them can be a trailer of its own."""
    title = _clean(attribution.title, _SUBJECT)
    trailers = [
        (PROPOSAL, attribution.proposal),
        (CHANGE, f"{attribution.change}{'/undone' if attribution.undone else ''}"),
        (FILE_TRAILER, name),
        ("Requested-by", attribution.requester),
        *([("Agent", attribution.agent)] if attribution.agent else []),
        *(("Approved-by", one) for one in attribution.approvers),
    ]
    told = "\n".join(f"{key}: {_clean(value, 500 if key == FILE_TRAILER else _NAME)}" for key, value in trailers)
    subject = f'Revert "{title}"' if attribution.undone else title
    return "\n\n".join(part for part in (subject, body, told) if part) + "\n"


def _clean(text: str, longest: int) -> str:
    """One line of what is drawn."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in disarm(text)).split())
    return shorten(plain, longest) or "?"


def _fits(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
