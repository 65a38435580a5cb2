"""A change: one planned modification of one target, with all that is needed to judge, apply, check and undo it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import rfc8785
from pydantic import Field

from ..policies.errors import Refused
from .closed import Closed
from .last import LastChange
from .probes import Probe

JsonObject = Mapping[str, Any]


class ChangeKind(StrEnum):
    """What a change does: the closed vocabulary of what can be proposed."""

    PROMOTE = "promote"
    RESTART = "restart"
    ROLLBACK = "rollback"
    SCALE = "scale"
    SET_IMAGE = "set_image"
    SET_REVISION = "set_revision"
    SYNC = "sync"


class Target(Closed):
    """One object in one cluster. `api` is the apiVersion, `app` the id of the app that owns it (or is it)."""

    app: str
    cluster: str
    api: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name} in {self.cluster}"


class Precondition(Closed):
    """What must still hold of the live object when the change is applied.

    `fields` are the paths the change touches (RFC 6901 JSON pointers), `digest` the SHA-256 over the RFC 8785 form of
    their values when planned. `resource_version` is for the record: a controller's status update moves it without
    moving what was approved, so the applier compares `uid` and `digest` and locks on the version it has just read.
    """

    uid: str
    resource_version: str
    fields: tuple[str, ...]
    digest: str


class Check(Closed):
    """How to tell that it worked: the app reaches these states, and the probes hold, within `timeout` seconds; and it all
    stays so for `bake` seconds."""

    later: ClassVar[frozenset[str]] = frozenset({"bake", "probes"})

    app: str
    health: str = "Healthy"
    sync: str | None = None
    operation: bool = Field(default=False, description="wait for the sync operation itself to succeed")
    timeout: int = 300
    bake: int = Field(default=0, ge=0, le=86_400)
    probes: tuple[Probe, ...] = ()


class Promotion(Closed):
    """What a promotion brings ran before in `app` (its id) of the environment `origin`: at `revision` (a commit or chart
    version, of several sources joined by commas), since `since` (RFC 3339, `""`: not known), where the proposal `brought_by`
    had promoted it (`""`: none). `carried` and `stays` say what of the source's is brought here, and what of the target's
    differs and is left: sources of text are untrusted."""

    app: str
    origin: str
    environment: str
    revision: str
    since: str = ""
    brought_by: str = ""
    carried: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()


class Change(Closed):
    """One modification. `patch` and `undo` are JSON merge patches (RFC 7386); `undo` is null when it can't be undone,
    and `undo_note` then says why. `diff` is unified, redacted, and what the approver reads. `wave` is the sync wave,
    `last` what is known of who changed the target before, newest first."""

    kind: ChangeKind
    target: Target
    summary: str
    precondition: Precondition
    patch: JsonObject
    diff: str
    undo: JsonObject | None
    undo_note: str = ""
    check: Check
    wave: int = 0
    promotion: Promotion | None = None
    last: tuple[LastChange, ...] = ()

    later = frozenset({"last", "promotion"})


class Rehearsed(Closed):
    """What the system itself said to a dry run of one change."""

    ok: bool
    warnings: tuple[str, ...] = ()
    refusal: str = ""


class Rehearsal(Closed):
    """The dry runs of a proposal's changes, in their order; part of what is approved."""

    changes: tuple[Rehearsed, ...]
    at: float

    @property
    def ok(self) -> bool:
        return all(change.ok for change in self.changes)


@dataclass(frozen=True, slots=True)
class Attribution:
    """On whose behalf a change is written, for systems that keep such a thing (Git's commits do). The people are names,
    `agent` is `""` where nobody stood between, and `undone` says that it is the change's undo."""

    proposal: str
    change: int
    title: str
    requester: str
    agent: str
    approvers: tuple[str, ...]
    undone: bool = False


Heed = Callable[[], Awaitable[None]]
"""Raises `Refused` once people want no more of what is being waited for."""


async def heed_nobody() -> None:
    """What is waited for is waited for to its end."""


class Writer(Protocol):
    """One way of changing live objects, with the applier's credentials. Nothing else in Arborgate writes."""

    async def read(self, target: Target) -> JsonObject | None:
        """The live object, or None when there is none; raises `Unavailable`."""
        ...

    async def rehearse(self, target: Target, patch: JsonObject) -> Rehearsed:
        """The system's own dry run of a JSON merge patch; raises `Unavailable`."""
        ...

    async def apply(
        self,
        target: Target,
        patch: JsonObject,
        resource_version: str,
        attribution: Attribution,
        heed: Heed = heed_nobody,
    ) -> JsonObject:
        """Patches that version of the object and returns what it is now. One that waits for people asks `heed` now and then,
        and takes back what it has asked of them when that raises.

        Raises `Stale` when the object is no longer of that version, `Refused` when the system will not have the
        patch, `Unavailable` when it does not answer (and the patch may or may not have been applied)."""
        ...


def fields_digest(obj: JsonObject, fields: Iterable[str]) -> str:
    """SHA-256 (hexadecimal) over the RFC 8785 form of `{pointer: value}` for the RFC 6901 pointers `fields`.

    A missing value counts as null, as a merge patch sees it; the order of `fields` does not matter. Raises
    `Refused` for values that canonical JSON can't hold (integers beyond 2^53)."""
    return digest_json({pointer: _value_at(obj, pointer) for pointer in fields})


def digest_json(value: Any) -> str:
    """SHA-256 (hexadecimal) over the RFC 8785 form of plain JSON data; raises `Refused` when it has none."""
    try:
        return hashlib.sha256(rfc8785.dumps(value)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise Refused("A value in this change has no canonical JSON form, so it can't be approved.") from error


def merge(obj: JsonObject, patch: JsonObject) -> dict[str, Any]:
    """The object after a JSON merge patch (RFC 7386); neither argument is changed."""
    merged = dict(obj)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _value_at(obj: JsonObject, pointer: str) -> Any:
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"not a JSON pointer: {pointer!r}")
    value: Any = obj
    for part in pointer.split("/")[1:]:
        token = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(token)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = value[int(token)] if token.isdecimal() and int(token) < len(value) else None
        else:
            return None
    return value
