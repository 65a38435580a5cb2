"""What the undo of a change looks like, made from the change alone: nothing but what is approved."""

from __future__ import annotations

from .change import Change, JsonObject, merge
from .diff import diff_objects, list_fields


def diff_undo(change: Change) -> str:
    """A unified diff of what undoing writes, redacted; `""` when the change can't be undone or its undo writes nothing.

    It begins at what the change itself has written. An operation is gone once it has run, so its undo is a new one."""
    if change.undo is None:
        return ""
    written: JsonObject = merge({}, {key: value for key, value in change.patch.items() if key != "operation"})
    target = change.target
    return diff_objects(
        written,
        merge(written, change.undo),
        list_fields(change.undo),
        name=f"{target.kind} {target.namespace}/{target.name}",
        names=("applied", "undone"),
    )
