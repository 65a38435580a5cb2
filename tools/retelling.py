"""What a change would do, told again by who applies it: planned anew from what it writes, on the object as it is.

A proposal comes from a process that may be stolen. What it shows to the approvers (summary, diff, undo, how success is
told, its place in the order) is held against what the planner of its kind says of the same patch, word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from ..policies.errors import Invalid, Refused
from .change import Change, ChangeKind, Check, JsonObject
from .kubernetes.fields import read_object, read_objects, read_text
from .plan import Plan, follow, leave
from .tree import Node

TOLD: Mapping[str, str] = {
    "patch": "what it writes",
    "summary": "what it is called",
    "diff": "its diff",
    "undo": "how it is undone",
    "undo_note": "why it can't be undone",
    "check": "how success is told",
    "wave": "its place in the order",
    "promotion": "where it comes from",
}
"""What an approver is told of a change, each with the words for it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A change that is to be told again: `live` is its object as the changes before it in the proposal leave it."""

    node: Node
    change: Change
    live: JsonObject


Retelling = Callable[[Claim], Iterator[Plan]]
"""Every plan that the patch of a change may have come from; raises what its planner does."""


Retellings = Mapping[tuple[ChangeKind, str], Retelling]
"""How a change of each kind, on an object of each API, is told again."""


def retell(
    retellings: Retellings,
    node: Node,
    change: Change,
    live: JsonObject,
    earlier: Sequence[Change] = (),
    *,
    proposed_at: float,
) -> Plan:
    """The same change as its planner makes it now, with its risks. `earlier` are the changes of the same object before
    it, `proposed_at` is in seconds since the epoch.

    Raises `Refused` naming what is told of it otherwise, or for a change that nothing here can tell."""
    retelling = retellings.get((change.kind, change.target.api))
    if retelling is None:
        kind = str(change.kind).replace("_", " ")
        raise Refused(f"Nothing here can tell what a {kind} of {change.target} does.")
    left, untrue = leave(live, earlier), ""
    for known in (left, _as_of(left, proposed_at)):
        try:
            for plan in retelling(Claim(node, change, known)):
                again = follow(plan.change, live, earlier)
                wrong = next((name for name in TOLD if not _same(_tell(again, name), _tell(change, name))), "")
                if not wrong and not _remember(again, change, proposed_at):
                    untrue = "who changed the target last"
                elif not wrong and again.precondition.fields == change.precondition.fields:
                    return plan
                else:
                    untrue = TOLD.get(wrong, "what it watches")
        except (Invalid, Refused, ArithmeticError, ValueError) as error:
            untrue = untrue or f"what it writes ({getattr(error, 'message', 'nobody plans such a thing')})"
    raise Refused(f"The change of {change.target} is not what it says: {untrue or 'what it writes'} differs.")


def _remember(again: Change, change: Change, proposed_at: float) -> bool:
    """Whether what is told of the changes before is what the object tells, as far as nothing newer has taken its place."""
    traces = {one.trace: one for one in change.last}
    now = {one.trace: one for one in again.last}
    newer = {trace for trace, one in now.items() if read_time(one.at) > proposed_at}
    return all(traces.get(each) == now.get(each) for each in {*traces, *now} - newer)


def _tell(change: Change, name: str) -> object:
    """How long a change bakes and what is probed come from settings, not from its planner, and only ask for more."""
    told = getattr(change, name)
    return told.model_copy(update={"bake": 0, "probes": ()}) if isinstance(told, Check) else told


def _same(one: object, other: object) -> bool:
    """Whether both have the same JSON: 3 is not 3.0 there, nor true."""
    texts = [orjson.dumps(each, default=dict, option=orjson.OPT_SORT_KEYS) for each in (one, other)]
    return texts[0] == texts[1]


def _as_of(live: JsonObject, at: float) -> JsonObject:
    """The Application with the history that it had then: an undo goes back to what was deployed before the proposal."""
    status = read_object(live, "status")
    history = read_objects(status, "history")
    if not history:
        return live
    kept = [entry for entry in history if read_time(read_text(entry, "deployedAt")) <= at]
    return {**live, "status": {**status, "history": kept}}


def read_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 for anything else."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
