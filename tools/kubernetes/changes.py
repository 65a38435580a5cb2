"""Writing to clusters, for the applier alone: dry runs, and merge patches of the few fields that a change may touch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import ClientTimeout

from ...policies.errors import Refused, Stale, Unavailable
from ..change import Attribution, Heed, JsonObject, Rehearsed, Target, heed_nobody, merge
from ..cuts import shorten
from ..diff import list_fields
from ..secrets import redact
from ..text import disarm
from .source import FAULTS, Clusters, object_path

WRITE_TIMEOUT = ClientTimeout(total=30.0, connect=5.0)
"""Admission webhooks may take ten seconds each."""

FIELD_MANAGER = "arborgate"

MARK = "arborgate.dev/change"
"""The annotation by which an object shows which change was made to it last: `<proposal>/<number of the change>`, with
`/undone` after its undo."""

_MARK = "/metadata/annotations/arborgate.dev~1change"
_REPLICAS, _RESTARTED = "/spec/replicas", "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt"
_PROMOTED = tuple(
    f"/metadata/labels/arborgate.dev~1{name}" for name in ("promoted-from", "promoted-revision", "promotion")
)
WRITABLE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("argoproj.io/v1alpha1", "Application"): ("/operation", "/spec/source", "/spec/sources", *_PROMOTED),
    ("argoproj.io/v1alpha1", "Rollout"): (_REPLICAS, "/spec/restartAt"),
    ("apps/v1", "DaemonSet"): (_RESTARTED,),
    ("apps/v1", "Deployment"): (_REPLICAS, _RESTARTED),
    ("apps/v1", "StatefulSet"): (_REPLICAS, _RESTARTED),
}
"""All that can be written besides the mark, by apiVersion and kind: fields (RFC 6901 pointers) and what is in them.
Whatever a proposal says, nothing else leaves: the second check, behind the planner's."""

_HOW = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict")]
_LONGEST = 500
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_ADDRESS = re.compile(r"\bhttps?://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[[0-9a-f:]+\]:\d+", re.IGNORECASE)
_VALUE = re.compile(r'((?:Invalid|Duplicate|Unsupported) value: )("(?:[^"\\]|\\.)*"|[{\[].*[}\]]): ')
_FORBIDDEN = re.compile(r'User ".*" cannot patch')


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    warnings: tuple[str, ...]
    body: Any

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else ""


class ClusterWriter:
    """Writes to clusters that were connected with credentials that may."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    async def read(self, target: Target) -> JsonObject | None:
        """The live object, or None when it does not exist; as `Clusters.read`."""
        return await self._clusters.read(target)

    async def rehearse(self, target: Target, patch: JsonObject) -> Rehearsed:
        """What the API server and its admission say to the patch in a dry run; an unknown field is a refusal.

        Raises `Unavailable` when the cluster can't answer."""
        try:
            answer = await self._patch(target, patch)
        except Refused as refused:
            return Rehearsed(ok=False, refusal=refused.message)
        if answer.status == 200:
            return Rehearsed(ok=True, warnings=answer.warnings)
        return Rehearsed(ok=False, warnings=answer.warnings, refusal=_explain(target, answer))

    async def apply(
        self,
        target: Target,
        patch: JsonObject,
        resource_version: str,
        attribution: Attribution,  # noqa: ARG002  # an object has no place for it but its mark
        heed: Heed = heed_nobody,  # noqa: ARG002  # nothing is waited for
    ) -> JsonObject:
        """Applies the merge patch if the object still has this version; returns it as it is afterwards.

        Raises `Stale` when the object moved or is gone, `Refused` with the server's reason, `Unavailable` when the
        cluster can't answer: then whether it was applied is not known, and must be looked up."""
        answer = await self._patch(target, patch, version=resource_version)
        if answer.status == 200 and isinstance(answer.body, dict):
            return answer.body
        if answer.status in (404, 409, 410):
            raise Stale(f"{target} moved or is gone.", hint="Propose again.", detail=_clean(answer.message))
        raise Refused(_explain(target, answer))

    async def _patch(self, target: Target, patch: JsonObject, *, version: str = "") -> _Answer:
        """One merge patch, locked on a resource version; without one it is a dry run."""
        _require_writable(target, patch)
        client = self._clusters.client(target.cluster)
        try:
            method, url, headers, body, _form = await client.param_serialize(
                "PATCH",
                object_path(target),
                query_params=_HOW if version else [*_HOW, ("dryRun", "All")],
                header_params={"Accept": "application/json", "Content-Type": "application/merge-patch+json"},
                body=merge(patch, {"metadata": {"resourceVersion": version}}) if version else patch,
                auth_settings=["BearerToken"],
            )
            sent = await client.call_api(method, url, headers, body, _request_timeout=WRITE_TIMEOUT)
            async with sent.response as response:
                answer = _Answer(
                    response.status,
                    tuple(_read_warnings(response.headers.getall("Warning", ()))),
                    orjson.loads(await response.read() or b"null"),
                )
        except FAULTS as error:
            raise Unavailable(
                f"The cluster {target.cluster} does not answer.", detail=f"{type(error).__name__}: {error}"
            ) from error
        if answer.status in (401, 429) or answer.status >= 500:
            raise Unavailable(
                f"The cluster {target.cluster} could not answer.",
                detail=f"HTTP {answer.status}: {_clean(answer.message)}",
            )
        return answer


def _require_writable(target: Target, patch: JsonObject) -> None:
    allowed = WRITABLE.get((target.api, target.kind), ())
    allowed = (*allowed, _MARK) if allowed else ()
    for field in list_fields(patch):
        if not any(f"{field}/".startswith(f"{one}/") for one in allowed):
            raise Refused(f"{field or 'The whole object'} of {target.kind} {target.name} is never written.")


def _explain(target: Target, answer: _Answer) -> str:
    """Why the server said no: its own words, without addresses; for a missing permission ours, which name nobody."""
    if answer.status == 404:
        return f"{target.kind} {target.name} is not there any more."
    if answer.status == 403 and _FORBIDDEN.search(answer.message):
        return f"The applier may not change {target.kind} {target.name} in the cluster {target.cluster}."
    return _clean(answer.message) or f"The cluster {target.cluster} refused it (HTTP {answer.status})."


def _read_warnings(headers: Iterable[str]) -> Iterable[str]:
    """The texts of RFC 7234 warning headers, which Kubernetes uses for deprecations and admission."""
    for header in headers:
        for text in _WARNING.findall(header):
            yield _clean(re.sub(r"\\(.)", r"\1", text))


def _clean(text: str) -> str:
    """Server text for people: without the values it echoes (the whole object, at times), secrets, addresses and odd
    characters."""
    text = redact(_VALUE.sub(r"\1", disarm(text)))[0]
    plain = "".join(char if char.isprintable() else " " for char in text)
    plain = _ADDRESS.sub("(address)", " ".join(plain.split()))
    return shorten(plain, _LONGEST)
