"""What objects show of one proposal's changes: which were made, and which were undone."""

from __future__ import annotations

from collections.abc import Sequence

from ..tools.change import Change, JsonObject, merge
from .marks import read_mark
from .progress import operation_digest, writes_operation


class Traces:
    """The changes of one proposal; `order` are their numbers in the order in which they are made. `seen`, where it is asked
    for, is the `operation_digest` of the object from before the change, `""` where none is known."""

    def __init__(self, proposal_id: str, changes: Sequence[Change], order: Sequence[int]) -> None:
        self._proposal = proposal_id
        self._changes = changes
        self._order = order

    def mark(self, live: JsonObject) -> tuple[int, bool] | None:
        """The change that the object was last patched for, and whether that was its undo; None when it was none of these."""
        return read_mark(live, self._proposal, len(self._changes))

    def took(self, index: int, live: JsonObject, seen: str) -> bool:
        """Whether the object shows that the change was made: by its mark, or the mark of a later one of ours on it.

        Where somebody removes marks (an ApplicationSet does), an operation is known by what Argo CD last ran."""
        change, mark = self._changes[index], self.mark(live)
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
