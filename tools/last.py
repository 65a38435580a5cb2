"""Who changed a target last: read, when a change of it is planned, from what the object itself keeps about that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from .closed import Closed
from .cuts import shorten
from .secrets import holds_secret
from .text import disarm

MARK = "arborgate.dev/change"
FIELD_MANAGER = "arborgate"
"""How the applier's writes are known (`tools/kubernetes/changes.py`)."""

_LONGEST = 80
_FIELDS = 3
"""How many fields one trace names."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_MARK = re.compile(r"(p-[a-z0-9]{1,40})/\d{1,4}(?:/undone)?")
_AUTOMATION = "automation of Argo CD"


class Trace(StrEnum):
    """By what it is known."""

    DEPLOYED = "deployed"
    WRITTEN = "written"


class LastChange(Closed):
    """One trace of a change before. All text of it is untrusted, and cut.

    `written`: what wrote the watched fields last, as the object's `metadata.managedFields` say: `by` is a field manager,
    `fields` those of the watched ones that it owns. `deployed`: the app's newest deployment in Argo CD's history: `by` is
    who asked for it (`""`: Argo CD does not say), and `revision` what was deployed. `at` is RFC 3339; `proposal` the id of
    the proposal of ours that it was."""

    trace: Trace
    by: str
    at: str
    fields: tuple[str, ...] = ()
    revision: str = ""
    proposal: str = ""

    def say(self) -> str:
        """It in one line."""
        what = (
            f"deployed {self.revision}".rstrip()
            if self.trace is Trace.DEPLOYED
            else f"{', '.join(self.fields)} written"
        )
        return f"{what} by {self.by or 'nobody known'} at {self.at}" + (f" ({self.proposal})" if self.proposal else "")


def find_last(live: Mapping[str, Any], fields: Iterable[str]) -> tuple[LastChange, ...]:
    """The last changes of the object that touched `fields` (RFC 6901 pointers), the newest first: at most one of each
    kind. The same object and fields give the same answer. What is not as it should be is passed over."""
    found = [one for one in (_find_written(live, sorted(set(fields))), _find_deployed(live)) if one is not None]
    return tuple(sorted(found, key=lambda one: one.at, reverse=True))


def _find_written(live: Mapping[str, Any], fields: Sequence[str]) -> LastChange | None:
    metadata = _mapping(live.get("metadata"))
    newest: LastChange | None = None
    for entry in _list(metadata.get("managedFields")):
        owned = _mapping(_mapping(entry).get("fieldsV1"))
        at = _moment(_mapping(entry).get("time"))
        touched = [each for each in fields if owns(owned, each)]
        if not touched or not at or (newest is not None and at <= newest.at):
            continue
        manager = _clean(_mapping(entry).get("manager"))
        mark = _MARK.fullmatch(str(_mapping(metadata.get("annotations")).get(MARK, "")))
        newest = LastChange(
            trace=Trace.WRITTEN,
            by=manager,
            at=at,
            fields=tuple(_clean(each) for each in touched[:_FIELDS]),
            proposal=mark[1] if mark and manager == FIELD_MANAGER else "",
        )
    return newest


def _find_deployed(live: Mapping[str, Any]) -> LastChange | None:
    history = _list(_mapping(live.get("status")).get("history"))
    if live.get("kind") != "Application" or not history:
        return None
    entry = _mapping(history[-1])
    by = _mapping(entry.get("initiatedBy"))
    at = _moment(entry.get("deployedAt"))
    if not at:
        return None
    revisions = _list(entry.get("revisions"))
    return LastChange(
        trace=Trace.DEPLOYED,
        by=_AUTOMATION if by.get("automated") is True else _clean(by.get("username")),
        at=at,
        revision=_clean(entry.get("revision") or (revisions[0] if revisions else "")),
    )


def owns(owned: Mapping[str, Any], pointer: str) -> bool:
    """Whether a set of fields (the FieldsV1 of structured-merge-diff) holds the pointer's field, a part of it, or all that
    it lies in. What lies in lists is owned with the list: a merge patch replaces them as a whole."""
    at = owned
    for part in pointer.split("/")[1:]:
        key = f"f:{part.replace('~1', '/').replace('~0', '~')}"
        if key not in at:
            return False
        at = _mapping(at[key])
        if not [each for each in at if each != "."]:
            return True
    return True


def _clean(value: Any) -> str:
    text = shorten(disarm(value), _LONGEST) if isinstance(value, str) else ""
    return "(withheld)" if holds_secret(text) else text


def _moment(value: Any) -> str:
    return value if isinstance(value, str) and _MOMENT.fullmatch(value) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
