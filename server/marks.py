"""What an object says of the changes made to it: the mark of the last one, and whether it still is as one was planned on."""

from __future__ import annotations

from collections.abc import Sequence

from ..policies.errors import Stale
from ..tools.change import Attribution, Change, JsonObject, fields_digest, merge
from ..tools.diff import list_fields
from ..tools.kubernetes.changes import FIELD_MANAGER, MARK
from ..tools.kubernetes.fields import read_object, read_objects, read_text
from ..tools.last import owns
from ..tools.proposal import Content, Proposal
from ..tools.retelling import read_time
from .progress import operation_digest, writes_operation


def mark_patch(patch: JsonObject, proposal_id: str, index: int, *, undone: bool = False) -> JsonObject:
    """The patch, which also leaves its mark on the object, in one and the same write."""
    mark = f"{proposal_id}/{index}{'/undone' if undone else ''}"
    return merge(patch, {"metadata": {"annotations": {MARK: mark}}})


def attribute(proposal: Proposal, index: int, approvers: tuple[str, ...], *, undone: bool) -> Attribution:
    """For whom a change is made, as far as its system keeps that."""
    requester = proposal.content.requester
    return Attribution(
        proposal=proposal.id,
        change=index,
        title=proposal.content.title,
        requester=requester.name,
        agent=requester.agent,
        approvers=approvers,
        undone=undone,
    )


def read_mark(live: JsonObject, proposal_id: str, changes: int) -> tuple[int, bool] | None:
    """The change of this proposal, of so many, that the object was last patched for, and whether that was its undo."""
    mark = str(((live.get("metadata") or {}).get("annotations") or {}).get(MARK, ""))
    proposal, _, rest = mark.partition("/")
    number, _, undone = rest.partition("/")
    if proposal != proposal_id or not number.isdecimal() or int(number) >= changes:
        return None
    return int(number), undone == "undone"


def is_unmoved(change: Change, live: JsonObject) -> bool:
    """Whether the precondition of the change holds."""
    try:
        require_precondition(change, live)
    except Stale:
        return False
    return True


def require_precondition(change: Change, live: JsonObject) -> None:
    """Raises `Stale` unless the object is the one, and its fields are as, when the change was planned."""
    if live["metadata"].get("uid") != change.precondition.uid:
        raise Stale(f"{change.target} is another object than it was.")
    if fields_digest(live, change.precondition.fields) != change.precondition.digest:
        raise Stale(f"{change.target} has changed since this was proposed.")


def require_latest(change: Change, live: JsonObject, content: Content) -> None:
    """Raises `Stale` when the same was changed for another proposal, or the app was synced, since this one was made.

    It may then be as it was because this was turned back on purpose; an approval is not used for a second time."""
    metadata = read_object(live, "metadata")
    mark = read_text(read_object(metadata, "annotations"), MARK).partition("/")[0]
    ours = [
        read_object(entry, "fieldsV1")
        for entry in read_objects(metadata, "managedFields")
        if read_text(entry, "manager") == FIELD_MANAGER and read_time(read_text(entry, "time")) > content.created_at
    ]
    written = any(owns(fields, field) for fields in ours for field in list_fields(change.patch))
    ran = read_object(read_object(live, "status"), "operationState")
    by = read_object(read_object(ran, "operation"), "initiatedBy")
    synced = by.get("automated") is not True and read_time(read_text(ran, "startedAt")) > content.created_at
    if (mark not in ("", content.id) and written) or ("operation" in change.patch and synced):
        raise Stale(f"{change.target} was changed again since this was proposed.", hint="Propose it again.")


class Marks:
    """What objects show of one proposal's changes: which were made, and which were undone. `order` are their numbers in the
    order in which they are made; `seen`, where it is asked for, is the `operation_digest` of the object from before the
    change, `""` where none is known."""

    def __init__(self, proposal_id: str, changes: Sequence[Change], order: Sequence[int]) -> None:
        self._proposal = proposal_id
        self._changes = changes
        self._order = order

    def read(self, live: JsonObject) -> tuple[int, bool] | None:
        """The change that the object was last patched for, and whether that was its undo; None when it was none of these."""
        return read_mark(live, self._proposal, len(self._changes))

    def took(self, index: int, live: JsonObject, seen: str) -> bool:
        """Whether the object shows that the change was made: by its mark, or the mark of a later one of ours on it.

        Where somebody removes marks (an ApplicationSet does), an operation is known by what Argo CD last ran."""
        change, mark = self._changes[index], self.read(live)
        if mark is not None:
            return mark != (index, True) and self._order.index(mark[0]) >= self._order.index(index)
        ran = ((live.get("status") or {}).get("operationState") or {}).get("operation")
        return (
            writes_operation(change.patch)
            and bool(seen)
            and operation_digest(live) != seen
            and isinstance(ran, dict)
            and merge(ran, change.patch["operation"]) == ran
        )

    def is_made(self, index: int, live: JsonObject, seen: str) -> bool:
        """Whether it took, or the object holds what it writes."""
        patch = self._changes[index].patch
        return self.took(index, live, seen) or (not writes_operation(patch) and merge(live, patch) == live)
