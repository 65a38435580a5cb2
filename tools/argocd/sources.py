"""The sources of an Application as its spec has them: what renders each, and how a patch changes one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...policies.errors import Invalid, Refused
from ..change import JsonObject, merge


@dataclass(frozen=True, slots=True)
class Sources:
    """What `each` says, `types` what renders each ("Helm", "Kustomize"), `compared` the commits or chart versions that
    Argo CD last compared the app with (empty where it does not say)."""

    each: Sequence[JsonObject]
    several: bool
    types: Sequence[str]
    compared: Sequence[str]

    @classmethod
    def of(cls, live: JsonObject) -> Sources:
        spec, status = live["spec"], live.get("status") or {}
        several = bool(spec.get("sources"))
        each = list(spec["sources"]) if several else [spec["source"]] if spec.get("source") else []
        if not each:
            raise Refused(
                "This app's source is hydrated from another one.", field="app", hint="Make the change in Git."
            )
        types = status.get("sourceTypes") if several else [status.get("sourceType")]
        known = [*(types or ()), *[None] * len(each)]
        sync = status.get("sync") or {}
        compared = tuple(sync.get("revisions") or ()) if several else (sync.get("revision") or "",)
        usable = sync.get("status") in ("Synced", "OutOfSync") and len(compared) == len(each) and all(compared)
        return cls(
            each,
            several,
            [_source_type(one, known[at]) for at, one in enumerate(each)],
            compared if usable else (),
        )

    def pick(self, position: int) -> int:
        """The index of the source at a position (from 1), or of the only one."""
        if len(self.each) == 1 and position in (0, 1):
            return 0
        if not 1 <= position <= len(self.each):
            raise Invalid(
                f"This app has {len(self.each)} sources.", field="source", hint=f"Give 1 to {len(self.each)}."
            )
        return position - 1

    def revision(self, at: int) -> str:
        return str(self.each[at].get("targetRevision") or "HEAD")

    def label(self, at: int) -> str:
        return f" (source {at + 1})" if self.several else ""

    def patch(self, at: int, edit: JsonObject) -> JsonObject:
        """The patch of the Application. A merge patch replaces lists, so several sources go as a whole."""
        if not self.several:
            return {"spec": {"source": edit}}
        return {"spec": {"sources": [merge(one, edit) if at == i else one for i, one in enumerate(self.each)]}}


def _source_type(source: JsonObject, known: str | None) -> str:
    """What renders a source; Argo CD says so in the status once it has rendered it."""
    if known:
        return known
    if source.get("chart") or source.get("helm"):
        return "Helm"
    return "Kustomize" if source.get("kustomize") else ""
