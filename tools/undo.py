"""What the undo of a change looks like, made from the change alone: nothing but what is approved."""

from __future__ import annotations

from functools import lru_cache

import orjson

from .change import Change, JsonObject, merge
from .diff import diff_objects, list_fields


def diff_undo(change: Change) -> str:
    """A unified diff of what undoing writes, redacted; `""` when the change can't be undone or its undo writes nothing.

    It begins at what the change itself has written. An operation is gone once it has run, so its undo is a new one."""
    if change.undo is None:
        return ""
    target = change.target
    written: JsonObject = {key: value for key, value in change.patch.items() if key != "operation"}
    name = f"{target.kind} {target.namespace}/{target.name}"
    return _diff(orjson.dumps(written), orjson.dumps(change.undo), name)


@lru_cache(maxsize=1_024)
def _diff(patch: bytes, undo: bytes, name: str) -> str:
    """Kept, since a page of hundreds of changes is looked at again and again."""
    written: JsonObject = merge({}, orjson.loads(patch))
    back: JsonObject = orjson.loads(undo)
    return diff_objects(written, merge(written, back), list_fields(back), name=name, names=("applied", "undone"))
