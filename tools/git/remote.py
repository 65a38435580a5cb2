"""One repository on a Git server, over HTTP and in memory: heads, shallow fetches without contents, pushes with a lease.

Everything here blocks and belongs into a thread. Nothing is written to disk, no hook and no configuration of the machine
is read, and the password goes into a header alone, for the origin that it was configured for.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from io import BytesIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

import urllib3
from dulwich.client import HTTPUnauthorized, Urllib3HttpGitClient
from dulwich.errors import GitProtocolError, NotGitRepository
from dulwich.object_store import MemoryObjectStore, ObjectStoreGraphWalker
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.pack import OFS_DELTA, REF_DELTA, UnpackedObject, pack_objects_to_data
from dulwich.refs import Ref

from ...policies.errors import Refused, Stale, Unavailable
from ..cuts import shorten
from ..text import disarm
from .settings import GitSettings

if TYPE_CHECKING:
    from dulwich.client import DetermineWantsFunc, GeneratePackDataFunc

_FAULTS = (GitProtocolError, urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, AssertionError, zlib.error)
"""What a server that is away, slow or talking nonsense can raise."""

_INFLATES = 16
"""How many times larger than on the wire a fetch may become."""

_CONNECT = 5.0
_PIECE = 4_096
_ID_BYTES = 20


class Moved(Stale):
    """The branch is not where it was: look again."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a repository is reached. The password is read anew for each connection."""

    name: str
    url: str
    username: str
    password_file: Path | None
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class Clone:
    """The last commits of a branch with all their trees, in memory; contents come when they are asked for."""

    branch: str
    head: str
    store: MemoryObjectStore

    def commits(self) -> Iterator[Commit]:
        """Newest first, as far as they are here."""
        waiting: list[tuple[int, int, ObjectID]] = []
        seen: set[ObjectID] = set()
        fresh: Sequence[ObjectID] = (_id(self.head),)
        while True:
            for one in fresh:
                if one not in seen and one in self.store:
                    seen.add(one)
                    heappush(waiting, (-self._commit(one).commit_time, len(seen), one))
            if not waiting:
                return
            commit = self._commit(heappop(waiting)[2])
            yield commit
            fresh = [ObjectID(parent) for parent in commit.parents]

    def find(self, path: str, commit: bytes | None = None) -> str | None:
        """The id of the ordinary file at a path; None when there is none, or something else (a link, a folder)."""
        tree: Tree | None = self._tree(self._commit(commit or self.head.encode()).tree)
        *folders, name = path.encode().split(b"/")
        for folder in folders:
            tree = self._below(tree, folder) if tree else None
        if tree is None or name not in tree:
            return None
        mode, found = tree[name]
        return found.decode() if S_ISREG(mode) else None

    def files(self, folder: str, *, recurse: bool, most: int) -> dict[str, str]:
        """The ordinary files in a folder (`""`: the top), and below it with `recurse`: ids by path. Raises `Refused` when
        there are more than `most`."""
        tree: Tree | None = self._tree(self._commit(self.head.encode()).tree)
        for part in filter(None, folder.encode().split(b"/")):
            tree = self._below(tree, part) if tree else None
        found: dict[str, str] = {}
        waiting = [(folder, tree)] if tree else []
        while waiting:
            at, tree = waiting.pop()
            for entry in tree.iteritems():
                name = entry.path.decode("utf-8", "replace")
                path = f"{at}/{name}" if at else name
                if S_ISREG(entry.mode):
                    found[path] = entry.sha.decode()
                elif S_ISDIR(entry.mode) and recurse:
                    waiting.append((path, self._tree(entry.sha)))
                if len(found) + len(waiting) > most:
                    raise Refused(f"There are more than {most} files in {folder or 'this repository'}.")
        return found

    def content(self, blob: str) -> bytes:
        found = self.store[_id(blob)]
        return found.data if isinstance(found, Blob) else b""

    def replace(self, path: str, data: bytes) -> tuple[bytes, list[ShaFile]]:
        """The tree in which the existing file at a path holds `data`, and all objects that are new in it."""
        blob = Blob.from_string(data)
        new: list[ShaFile] = [blob]
        parts = path.encode().split(b"/")
        trees = [self._tree(self._commit(self.head.encode()).tree)]
        for folder in parts[:-1]:
            trees.append(self._tree(trees[-1][folder][1]))
        mode, child = trees[-1][parts[-1]][0], blob.id
        for name, tree in zip(reversed(parts), reversed(trees), strict=True):
            changed = Tree.from_string(tree.as_raw_string())
            changed[name] = (mode, child)
            new.append(changed)
            mode, child = 0o040000, changed.id
        return child, new

    def _commit(self, name: bytes) -> Commit:
        found = self.store[ObjectID(name)]
        if not isinstance(found, Commit):
            raise Unavailable("The Git server answered something else than a commit.")
        return found

    def _tree(self, name: bytes) -> Tree:
        found = self.store[ObjectID(name)]
        if not isinstance(found, Tree):
            raise Unavailable("The Git server answered something else than a tree.")
        return found

    def _below(self, tree: Tree, name: bytes) -> Tree | None:
        if name not in tree:
            return None
        mode, found = tree[name]
        return self._tree(found) if S_ISDIR(mode) else None


class Remote:
    """A repository as one identity may use it."""

    def __init__(self, access: Access, settings: GitSettings) -> None:
        self._access = access
        self._settings = settings
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT, read=settings.timeout),
            retries=urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=3),
            maxsize=4,
            ssl_context=_trust(access.ca_file),
        )

    def find_head(self, branch: str) -> tuple[str, str]:
        """The branch (`""`: the repository's default) and its commit. Raises `Refused` when there is no such branch."""
        asked = b"refs/heads/" + branch.encode() if branch else b"HEAD"
        with self._speaking():
            refs = self._client().get_refs(b"", ref_prefix=[asked])
        name, commit = refs.symrefs.get(Ref(asked)) or asked, refs.refs.get(Ref(asked))
        if not commit or not name.startswith(b"refs/heads/"):
            raise Refused(
                f"{self._access.name} has no branch {shorten(branch, 100) or 'that is its default'}.",
                hint="A change can be committed where Argo CD follows a branch, not a tag or a commit.",
            )
        return name.removeprefix(b"refs/heads/").decode(), commit.decode()

    def fetch(self, branch: str, head: str) -> Clone:
        """The last commits of a branch up to `head`, without contents where the server can leave them out."""
        store = MemoryObjectStore()
        self._fetch(store, [head], depth=self._settings.history, leave_out=b"blob:none")
        return Clone(branch, head, store)

    def fetch_contents(self, clone: Clone, blobs: Iterable[str]) -> None:
        """Puts these files' contents into the clone, those that are missing in one exchange."""
        missing = sorted({one for one in blobs if _id(one) not in clone.store})
        if missing:
            self._fetch(clone.store, missing)

    def require_push(self) -> None:
        """Raises `Refused` unless the server would let this identity push; sends nothing."""
        with self._speaking(pushing=True):
            self._client().send_pack(b"", lambda _: {}, _pack([]))

    def push(self, branch: str, commit: bytes, objects: Sequence[ShaFile], lease: str | None) -> None:
        """Moves the branch from `lease` (None: it must be new) to `commit`, or raises `Moved`; the server itself compares.

        Raises `Refused` when the server will not have it, `Unavailable` when it is not known what became of it."""
        ref = Ref(b"refs/heads/" + branch.encode())

        def move(refs: Mapping[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            if refs.get(ref) != (lease.encode() if lease else None):
                raise Moved(f"The branch {branch} has moved.")
            return {ref: ObjectID(commit)}

        with self._speaking(pushing=True):
            said = (self._client().send_pack(b"", move, _pack(objects)).ref_status or {}).get(ref)
        if said:
            if _is_lost_race(str(said)):
                raise Moved(f"The branch {branch} has moved.")
            raise Refused(f"The repository {self._access.name} does not take the commit: {clean(str(said))}")

    def _fetch(
        self,
        store: MemoryObjectStore,
        wants: Sequence[str],
        *,
        depth: int | None = None,
        leave_out: bytes | None = None,
    ) -> None:
        wanted = [_id(one) for one in wants]
        buffer, ends, most = BytesIO(), time.monotonic() + self._settings.timeout, self._settings.most_bytes

        def take(data: bytes) -> int:
            if buffer.tell() + len(data) > most:
                raise Refused(
                    f"The repository {self._access.name} is larger than git.most_bytes allows.",
                    hint="Let the server leave contents out (uploadpack.allowFilter), or allow more.",
                )
            if time.monotonic() > ends:
                raise Unavailable(f"The repository {self._access.name} takes too long.")
            return buffer.write(data)

        with self._speaking():
            self._client().fetch_pack(
                b"",
                _want(wanted),
                ObjectStoreGraphWalker([], lambda _: []),
                take,
                depth=depth,
                ref_prefix=[b"HEAD"],
                filter_spec=leave_out,
            )
            _require_bounded(buffer.getvalue(), most * _INFLATES)
            file, keep, _drop = store.add_pack()
            file.write(buffer.getvalue())
            keep()
            missing = [one for one in wanted if one not in store]
        if missing:
            raise Unavailable(f"The repository {self._access.name} did not send what it has.")

    def _client(self) -> Urllib3HttpGitClient:
        password = None
        if self._access.password_file is not None:
            try:
                password = self._access.password_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise Unavailable(
                    f"The password for the repository {self._access.name} can't be read.", detail=type(error).__name__
                ) from None
        return Urllib3HttpGitClient(
            self._access.url,
            dumb=False,
            pool_manager=self._pool,
            username=self._access.username if password is not None else None,
            password=password,
            quiet=True,
        )

    @contextmanager
    def _speaking(self, *, pushing: bool = False) -> Iterator[None]:
        """What the server's faults are to us; their own words would name its address."""
        name, does = self._access.name, "push" if pushing else "read"
        try:
            yield
        except (HTTPUnauthorized, NotGitRepository) as error:
            refusal = f"The repository {name} is not there, or does not let Arborgate {does}."
            raise (Refused if pushing else Unavailable)(refusal, detail=type(error).__name__) from None
        except _FAULTS as error:
            if pushing and "http resp 403" in str(error):
                raise Refused(f"The repository {name} does not let the applier push.") from None
            raise Unavailable(
                f"The repository {name} does not answer.",
                hint="Try again in a moment.",
                detail=type(error).__name__,
            ) from None


def clean(said: str) -> str:
    """A server's words for people: on one short line, nothing hidden in them."""
    return shorten(" ".join("".join(char if char.isprintable() else " " for char in disarm(said)).split()), 300)


def _is_lost_race(said: str) -> bool:
    return any(one in said for one in ("fetch first", "non-fast-forward", "stale info", "failed to update ref", "lock"))


def _pack(objects: Sequence[ShaFile]) -> GeneratePackDataFunc:
    """Sends just these, whatever the server has."""

    def pack(
        have: AbstractSet[ObjectID],  # noqa: ARG001  # dulwich names them all
        want: AbstractSet[ObjectID],  # noqa: ARG001
        *,
        ofs_delta: bool = False,  # noqa: ARG001
        progress: Callable[[bytes], None] | None = None,  # noqa: ARG001
    ) -> tuple[int, Iterator[UnpackedObject]]:
        return pack_objects_to_data(objects)

    return pack


def _want(wanted: list[ObjectID]) -> DetermineWantsFunc:
    def want(
        refs: Mapping[Ref, ObjectID],  # noqa: ARG001  # dulwich names them all
        depth: int | None = None,  # noqa: ARG001
    ) -> list[ObjectID]:
        return wanted

    return want


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities, and those of the file."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _id(name: str) -> ObjectID:
    return ObjectID(name.encode())


def _require_bounded(pack: bytes, most: int) -> None:
    """Inflates a pack piece by piece without keeping it: one that would grow beyond `most` bytes is refused (the objects
    themselves, and what deltas say that they make)."""
    at, grown, view = 12, 0, memoryview(pack)
    for _ in range(int.from_bytes(pack[8:12], "big")):
        kind, at = (pack[at] >> 4) & 7, _after_varint(pack, at)
        if kind == OFS_DELTA:
            at = _after_varint(pack, at)
        elif kind == REF_DELTA:
            at += _ID_BYTES
        inflater, waiting, head = zlib.decompressobj(), b"", b""
        while not inflater.eof:
            if not waiting:
                waiting = bytes(view[at : at + _PIECE])
                at += len(waiting)
            piece = inflater.decompress(waiting, _PIECE * _INFLATES)
            head, grown, waiting = head or piece, grown + len(piece), inflater.unconsumed_tail
            if grown > most:
                raise Refused("What the repository sends grows too large.")
            if at >= len(pack) and not (waiting or inflater.eof):
                raise Unavailable("The Git server sent half an answer.")
        at -= len(inflater.unused_data)
        if kind in (OFS_DELTA, REF_DELTA):
            grown += _read_size(head, _after_varint(head, 0))


def _after_varint(data: bytes, at: int) -> int:
    while data[at] & 0x80:
        at += 1
    return at + 1


def _read_size(data: bytes, at: int) -> int:
    size = shift = 0
    for byte in data[at : _after_varint(data, at)]:
        size |= (byte & 0x7F) << shift
        shift += 7
    return size
