"""Which of the asked changes are made by a commit, and their plans: on the file as it is written, not the live object."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...policies.errors import ArborgateError, Refused
from ..change import ChangeKind, JsonObject
from ..git.changes import (
    choose_kind,
    make_commit,
    plan_image_commit,
    plan_image_value,
    plan_replicas_value,
    plan_revision_commit,
)
from ..git.places import FILE
from ..git.source import File, GitSource
from ..plan import Plan, leave
from ..tool import Context
from ..tree import Node

if TYPE_CHECKING:
    from .tools import AskedChange


async def find_files(ctx: Context, asked: Sequence[AskedChange], nodes: Sequence[Node]) -> list[File | None]:
    """For each change the document that a commit would change; None where it is made live. Raises `Refused` and
    `Unavailable`, naming the change."""
    found = (_find(ctx, one, node, index) for index, (one, node) in enumerate(zip(asked, nodes, strict=True)))
    return await asyncio.gather(*found)


def plan_commit(ctx: Context, asked: AskedChange, node: Node, file: File, live: JsonObject) -> Plan:
    """The plan on the document as the changes before it leave it (`live`), still without the diff of the file."""
    if file.place.kind != FILE:
        if asked.kind is ChangeKind.SET_REVISION:
            return plan_revision_commit(node, live, revision=asked.revision, source=asked.source)
        return plan_image_commit(node, live, image=asked.image, parameter=asked.parameter, source=asked.source)
    fields = ctx.source(GitSource).books.fields(node, asked.kind)
    if asked.kind is ChangeKind.SCALE:
        field = fields[asked.workload]
        return plan_replicas_value(node, file.place, live, field=field, replicas=asked.replicas or 0)
    return plan_image_value(node, file.place, live, field=fields[""], image=asked.image)


def finish_commits(
    plans: list[Plan], planned: Mapping[str, Sequence[int]], files: Sequence[File | None], nodes: Sequence[Node]
) -> None:
    """Makes commits of the plans whose objects are files; `planned` says which plans belong to which target, in order."""
    for file, node in {file.place: (file, node) for file, node in zip(files, nodes, strict=True) if file}.values():
        places, live = planned[str(file.place)], file.as_object()
        for number, place in enumerate(places):
            left = leave(live, [plans[before].change for before in places[:number]])
            plans[place] = make_commit(plans[place], node, file.place, left)


async def find_file(ctx: Context, node: Node, kind: ChangeKind, workload: str = "") -> File | None:
    """The document that a commit would change for a change of this kind; None where it is made live.

    Raises `Refused` (field `app`) where only a commit would do and none can be planned, and `Unavailable`."""
    source: GitSource | None = ctx.sources.get(GitSource)
    if source is None:
        return None
    kept = ctx.tree.undone_by(node) is not None or bool(node.app.owner_set)
    chosen = choose_kind(source.books, ctx.tree, node, kind, workload, kept=kept)
    if not chosen:
        return None
    file = await source.find(ctx.tree, node, chosen)
    if file is None:
        raise Refused(
            f"No file in the repository holds {node.app.id.name}.",
            field="app",
            hint="Look where its parent gets it from, or change it in Git by hand.",
        )
    return file


async def _find(ctx: Context, asked: AskedChange, node: Node, index: int) -> File | None:
    try:
        return await find_file(ctx, node, asked.kind, asked.workload)
    except ArborgateError as error:
        error.field = f"changes.{index}.{error.field or 'app'}"
        raise
