"""What can be proposed one by one, told again from what it writes: each by the planner that it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..argocd.changes import (
    API,
    combine_images,
    make_sync,
    plan_rollback,
    plan_set_image,
    plan_set_revision,
    require_revision,
)
from ..argocd.images import split_image
from ..change import Change, ChangeKind, JsonObject, merge
from ..kubernetes.fields import read_object, read_objects, read_text, read_texts
from ..plan import Plan, leave
from ..retelling import Claim, Retellings, read_time
from .changes import RESTARTED_AT, WORKLOADS, plan_restart, plan_scale


def _retell_scale(claim: Claim) -> Iterator[Plan]:
    replicas = read_object(claim.change.patch, "spec").get("replicas")
    if type(replicas) is int:
        # Whether Argo CD leaves the number alone was for the planner to ask; here it is about what is told.
        yield plan_scale(claim.node, claim.change.target, claim.live, replicas=replicas, ignored=True)


def _retell_restart(claim: Claim) -> Iterator[Plan]:
    spec = read_object(claim.change.patch, "spec")
    metadata = read_object(read_object(spec, "template"), "metadata")
    text = read_text(spec, "restartAt") or read_text(read_object(metadata, "annotations"), RESTARTED_AT)
    if text:
        yield plan_restart(claim.node, claim.change.target, claim.live, now=read_time(text))


def _retell_sync(claim: Claim) -> Iterator[Plan]:
    sync = _read_sync(claim.change)
    revision = read_text(sync, "revision")
    revisions = read_texts(sync, "revisions") or ([revision] if revision else [])
    for each in filter(None, revisions):
        require_revision(each)  # any other text would be told as HEAD
    yield Plan(make_sync(claim.node.app, claim.live, revisions))


def _retell_rollback(claim: Claim) -> Iterator[Plan]:
    wanted = _read_sync(claim.change)
    for entry in read_objects(read_object(claim.live, "status"), "history"):
        parts = ("revision", "revisions", "source", "sources")
        if type(entry.get("id")) is int and all(
            entry.get(part) == wanted.get(part) for part in parts if entry.get(part)
        ):
            yield plan_rollback(claim.node, claim.live, history_id=entry["id"])


def _retell_revision(claim: Claim) -> Iterator[Plan]:
    now, planned = _read_sources(claim.live), _read_sources(merge(claim.live, claim.change.patch))
    for at, (old, new) in enumerate(zip(now, planned, strict=False)):
        revision = read_text(new, "targetRevision")
        if revision not in ("", read_text(old, "targetRevision")):
            yield plan_set_revision(claim.node, claim.live, revision=revision, source=at + 1)


_IMAGE = re.compile(r"(?:^|, )Set (?:Helm parameter (\S+)|Kustomize image) of \S+(?: \(source (\d+)\))? to ([^\s,;]+)")


def _retell_images(claim: Claim) -> Iterator[Plan]:
    """By the images that its summary names, one after the other: that they are all, is what the comparison is for."""
    plan: Plan | None = None
    for parameter, source, image in _IMAGE.findall(claim.change.summary):
        before = claim.live if plan is None else leave(claim.live, [plan.change])
        asked = image if parameter else _find_override(claim, image)
        more = plan_set_image(claim.node, before, image=asked, parameter=parameter, source=int(source or 0))
        plan = more if plan is None else combine_images(claim.node, claim.live, plan, more)
    if plan is not None:
        yield plan


def _find_override(claim: Claim, image: str) -> str:
    """How the patch writes an image for Kustomize: perhaps in the place of one of another name."""
    written = [
        entry
        for source in _read_sources(merge(claim.live, claim.change.patch))
        for entry in read_texts(read_object(source, "kustomize"), "images")
    ]
    return next((entry for entry in written if str(split_image(entry)) == image), image)


def _read_sync(change: Change) -> JsonObject:
    return read_object(read_object(change.patch, "operation"), "sync")


def _read_sources(app: JsonObject) -> Sequence[JsonObject]:
    spec: Mapping[str, Any] = read_object(app, "spec")
    return read_objects(spec, "sources") or [read_object(spec, "source")]


RETELLINGS: Retellings = {
    (ChangeKind.ROLLBACK, API): _retell_rollback,
    (ChangeKind.SET_IMAGE, API): _retell_images,
    (ChangeKind.SET_REVISION, API): _retell_revision,
    (ChangeKind.SYNC, API): _retell_sync,
    **{(ChangeKind.RESTART, api): _retell_restart for api, _ in WORKLOADS},
    **{(ChangeKind.SCALE, api): _retell_scale for api, _ in WORKLOADS},
}
"""What can be proposed one by one."""
