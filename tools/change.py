"""A change: one planned modification of one target, with all that is needed to judge, apply, check and undo it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

JsonObject = Mapping[str, Any]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChangeKind(StrEnum):
    """What a change does: the closed vocabulary of `rollout_propose`."""

    RESTART = "restart"
    ROLLBACK = "rollback"
    SCALE = "scale"
    SET_IMAGE = "set_image"
    SET_REVISION = "set_revision"
    SYNC = "sync"


class Target(_Closed):
    """One object in one cluster. `api` is the apiVersion, `app` the id of the app that owns it (or is it)."""

    app: str
    cluster: str
    api: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name} in {self.cluster}"


class Precondition(_Closed):
    """What must still hold of the live object when the change is applied.

    `fields` are the paths the change touches (RFC 6901 JSON pointers), `digest` the SHA-256 over the RFC 8785 form of
    their values when planned. `resource_version` is for the record: a controller's status update moves it without
    moving what was approved, so the applier compares `uid` and `digest` and locks on the version it has just read.
    """

    uid: str
    resource_version: str
    fields: tuple[str, ...]
    digest: str


class Check(_Closed):
    """How to tell that it worked: the app reaches these states within the time (seconds)."""

    app: str
    health: str = "Healthy"
    sync: str | None = None
    operation: bool = Field(default=False, description="wait for the sync operation itself to succeed")
    timeout: int = 300


class Change(_Closed):
    """One modification. `patch` and `undo` are JSON merge patches (RFC 7386); `undo` is null when it can't be undone,
    and `undo_note` then says why. `diff` is unified, redacted, and what the approver reads. `wave` is the sync wave."""

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


class Rehearsed(_Closed):
    """What the system itself said to a dry run of one change."""

    ok: bool
    warnings: tuple[str, ...] = ()
    refusal: str = ""


class Rehearsal(_Closed):
    """The dry runs of a proposal's changes, in their order; part of what is approved."""

    changes: tuple[Rehearsed, ...]
    at: float

    @property
    def ok(self) -> bool:
        return all(change.ok for change in self.changes)
