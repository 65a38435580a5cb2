"""The sandbox cluster: a small stand-in for the Kubernetes API, for the demo on one machine. It runs nothing.

It serves what Arborgate uses of the API and no more: get, list (pages, selectors), watch (bookmarks, 410) and JSON
merge patch (dry run, optimistic lock, field validation), for bearer tokens that read, or read and patch. The same tests
hold it to a real API server.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ...tools.change import JsonObject, merge
from .admission import Flaw, drop_unknown, find_flaws
from .store import ARGO, KINDS, Happened, Kind, Occurrence, Store, TooOld, name_of

MERGE_PATCH = "application/merge-patch+json"
READ = frozenset({"get", "list", "watch"})
PATCHABLE = frozenset({"applications", "daemonsets", "deployments", "rollouts", "statefulsets"})
BOOKMARK_SECONDS = 5.0
VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.0-arborgate.sandbox", "platform": "sandbox"}

_LONGEST_WATCH = 3_600.0
_TERM = re.compile(r"([^=!]*)(!?={0,2})(.*)")
_VERBS = {"DELETE": "delete", "PATCH": "patch", "POST": "create", "PUT": "update"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a bearer token stands for; `may_patch` says whether it may change what Arborgate's applier may change."""

    user: str
    may_patch: bool = False


SERVE = Identity("system:serviceaccount:arborgate:arborgate-serve")
APPLIER = Identity("system:serviceaccount:arborgate:arborgate-applier", may_patch=True)


class Refusal(Exception):
    """An answer of the API that is not the wanted one: a Status object (Kubernetes API conventions)."""

    def __init__(self, code: int, reason: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": {key: value for key, value in details.items() if value}} if details else {}),
            "code": code,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request is about, from its path. A kind that the sandbox does not have is `None`."""

    kind: Kind | None
    group: str
    plural: str
    namespace: str
    name: str
    beyond: str

    def named(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


class SandboxCluster:
    """The API over a `Store`; `app` is what a server runs."""

    def __init__(
        self, store: Store, identities: Mapping[str, Identity], *, bookmark_seconds: float = BOOKMARK_SECONDS
    ) -> None:
        self._store = store
        self._identities = dict(identities)
        self._bookmark_seconds = bookmark_seconds
        self._closing = False
        self.app = Starlette(
            routes=[
                Route("/readyz", _say_ok),
                Route("/healthz", _say_ok),
                Route("/version", _say_version),
                Route("/{path:path}", self._answer, methods=["DELETE", "GET", "PATCH", "POST", "PUT"]),
            ],
            exception_handlers={Refusal: cast("Callable[[Request, Exception], Response]", _tell)},
        )

    def close(self) -> None:
        """Ends every watch."""
        self._closing = True
        self._store.wake()

    async def _answer(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        identity = self._identities.get(token)
        if identity is None:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        asked = _read_path(request.url.path)
        watching = request.query_params.get("watch") in ("1", "true")
        kind = _authorize(identity, _verb(request.method, asked, watching), asked)
        if request.method == "PATCH":
            return await self._patch(request, kind, asked)
        if asked.name:
            return _json(self._find(kind, asked))
        if watching:
            return self._watch(request, kind, asked.namespace)
        return _json(self._list(request.query_params, kind, asked.namespace))

    def _find(self, kind: Kind, asked: Asked) -> JsonObject:
        found = self._store.get(kind, asked.namespace, asked.name)
        if found is None:
            message = f'{kind.qualified} "{asked.name}" not found'
            raise Refusal(404, "NotFound", message, name=asked.name, group=kind.group, kind=kind.plural)
        return found

    def _list(self, query: Mapping[str, str], kind: Kind, namespace: str) -> JsonObject:
        wanted = _selector(query)
        version, after = _read_continue(query.get("continue", ""), self._store.version)
        found = [one for one in self._store.select(kind, namespace) if name_of(one) > after and wanted(one)]
        limit = _number(query, "limit", 0) or len(found)
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if len(found) > limit:
            metadata["continue"] = _write_continue(version, found[limit - 1])
            metadata["remainingItemCount"] = len(found) - limit
        items = found[:limit] if kind.api == ARGO else [_strip_type(one) for one in found[:limit]]
        return {"apiVersion": kind.api, "kind": f"{kind.name}List", "metadata": metadata, "items": items}

    def _watch(self, request: Request, kind: Kind, namespace: str) -> Response:
        query = request.query_params
        lines = self._lines(
            kind,
            namespace,
            _selector(query),
            version=_number(query, "resourceVersion", 0),
            ends=time.monotonic() + (_number(query, "timeoutSeconds", 0) or _LONGEST_WATCH),
            bookmarks=query.get("allowWatchBookmarks") in ("1", "true"),
        )
        return StreamingResponse(lines, media_type="application/json")

    async def _lines(
        self,
        kind: Kind,
        namespace: str,
        wanted: Callable[[JsonObject], bool],
        *,
        version: int,
        ends: float,
        bookmarks: bool,
    ) -> AsyncIterator[bytes]:
        """The events of one watch, a line each; without a version, what there is comes first."""
        if not version:
            version = self._store.version
            for one in self._store.select(kind, namespace):
                if wanted(one):
                    yield _line(Happened.ADDED, one)
        bookmark_at = time.monotonic() + self._bookmark_seconds
        while not self._closing:
            try:
                news = self._store.since(kind, version)
            except TooOld:
                message = f"too old resource version: {version} ({self._store.version})"
                yield _line("ERROR", Refusal(410, "Expired", message).status)
                return
            version = max(version, self._store.version)
            for occurrence in news:
                if not namespace or name_of(occurrence.object)[0] == namespace:
                    for line in _select(occurrence, wanted):
                        yield line
            now = time.monotonic()
            # Like a real one: once more shortly before the end, so that the next watch need not go back far.
            if bookmarks and now >= min(bookmark_at, ends - 1):
                bookmark_at = float("inf") if now >= ends - 1 else now + self._bookmark_seconds
                metadata = {"resourceVersion": str(version), "creationTimestamp": None}
                yield _line("BOOKMARK", {"apiVersion": kind.api, "kind": kind.name, "metadata": metadata})
            if now >= ends:
                return
            wake_at = min(ends, bookmark_at, ends - 1 if bookmarks and now < ends - 1 else ends)
            await self._store.wait(wake_at - now)

    async def _patch(self, request: Request, kind: Kind, asked: Asked) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != MERGE_PATCH:
            raise Refusal(415, "UnsupportedMediaType", f"the sandbox takes {MERGE_PATCH} only")
        patch = _parse(await request.body())
        before = self._find(kind, asked)
        merged = _guard_metadata(kind, before, merge(before, patch))
        after, unknown = drop_unknown(kind, merged)
        validation = request.query_params.get("fieldValidation", "Warn")
        if unknown and validation == "Strict":
            listed = ", ".join(f'unknown field "{field}"' for field in unknown)
            # A real one quotes the whole object here, too: whoever shows this must expect anything in it.
            flaw = Flaw("patch", f"Invalid value: {_quote(merged)}", f"strict decoding error: {listed}")
            raise _invalid(' ""', [flaw])
        if flaws := find_flaws(kind, before, after):
            qualified = f"{kind.name}.{kind.group}" if kind.group else kind.name
            raise _invalid(f'{qualified} "{asked.name}"', flaws, kind.group, kind.name, asked.name)
        rehearsed = "All" in request.query_params.getlist("dryRun")
        answer = _json(after if rehearsed else self._store.put(kind, after))
        for field in unknown if validation == "Warn" else ():
            answer.headers.append("Warning", f'299 - "unknown field \\"{field}\\""')
        return answer


def write_kubeconfig(path: Path, url: str, token: str) -> None:
    """A kubeconfig whose current context is the sandbox as the token's identity; readable by its owner alone."""
    path.touch(mode=0o600)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": {"server": url}}],
        "users": [{"name": "sandbox", "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
        "current-context": "sandbox",
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def _read_path(path: str) -> Asked:
    """`/api/v1/…` or `/apis/GROUP/VERSION/…`, then `[namespaces/NAMESPACE/]PLURAL[/NAME[/…]]`."""
    root, *parts = path.strip("/").split("/")
    group = parts.pop(0) if root == "apis" and parts else ""
    version = parts.pop(0) if parts else ""
    if root not in ("api", "apis") or not version or not parts:
        raise Refusal(404, "NotFound", "the server could not find the requested resource")
    namespace = parts[1] if parts[0] == "namespaces" and len(parts) > 2 else ""
    plural, name, beyond, *_ = (*(parts[2:] if namespace else parts), "", "")
    api = f"{group}/{version}" if group else version
    kind = next((one for one in KINDS if (one.api, one.plural) == (api, plural)), None)
    return Asked(kind, group, plural, namespace, name, beyond)


def _verb(method: str, asked: Asked, watching: bool) -> str:
    if method == "GET":
        return "get" if asked.name else "watch" if watching else "list"
    return _VERBS[method]


def _authorize(identity: Identity, verb: str, asked: Asked) -> Kind:
    """The kind, when the identity may do this; refused like a real cluster does, whether the object exists or not."""
    allowed = verb in READ or (verb == "patch" and identity.may_patch and asked.plural in PATCHABLE)
    if asked.kind is not None and allowed and not asked.beyond:
        return asked.kind
    scope = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    named = f'{asked.named()} "{asked.name}"' if asked.name else asked.named()
    resource = f"{asked.plural}/{asked.beyond}" if asked.beyond else asked.plural
    message = (
        f'{named} is forbidden: User "{identity.user}" cannot {verb} resource "{resource}" '
        f'in API group "{asked.group}" {scope}'
    )
    raise Refusal(403, "Forbidden", message, name=asked.name, group=asked.group, kind=asked.plural)


def _guard_metadata(kind: Kind, before: JsonObject, after: JsonObject) -> JsonObject:
    """The object after a patch, with the metadata that is the server's own; raises for a lock that is lost."""
    was, metadata = before["metadata"], after.get("metadata")
    name = was["name"]
    if not isinstance(metadata, Mapping) or metadata.get("name") != name:
        raise Refusal(400, "BadRequest", f"the name of the object does not match the name on the URL ({name})")
    if metadata.get("namespace") != was.get("namespace"):
        raise Refusal(400, "BadRequest", "the namespace of the object does not match the namespace on the request")
    if metadata.get("resourceVersion", was["resourceVersion"]) == was["resourceVersion"]:
        kept = {key: was[key] for key in ("creationTimestamp", "generation", "resourceVersion")}
        return merge(after, {"apiVersion": kind.api, "kind": kind.name, "metadata": kept})
    lost = "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {lost}'
    raise Refusal(409, "Conflict", message, name=name, group=kind.group, kind=kind.plural)


def _invalid(what: str, flaws: Sequence[Flaw], group: str = "", kind: str = "", name: str = "") -> Refusal:
    causes = [{"reason": "FieldValueInvalid", "message": flaw.words, "field": flaw.field} for flaw in flaws]
    listed = str(flaws[0]) if len(flaws) == 1 else f"[{', '.join(map(str, flaws))}]"
    return Refusal(422, "Invalid", f"{what} is invalid: {listed}", name=name, group=group, kind=kind, causes=causes)


def _selector(query: Mapping[str, str]) -> Callable[[JsonObject], bool]:
    """What `labelSelector` and `fieldSelector` want: comma-separated `key=value`, `key!=value` and `key`."""
    labels = [_requirement(term) for term in query.get("labelSelector", "").split(",") if term]
    fields = [_requirement(term) for term in query.get("fieldSelector", "").split(",") if term]

    def wanted(obj: JsonObject) -> bool:
        have = obj["metadata"].get("labels") or {}
        return all(meets(have.get(key)) for key, meets in labels) and all(
            meets(_field(obj, key)) for key, meets in fields
        )

    return wanted


def _requirement(term: str) -> tuple[str, Callable[[str | None], bool]]:
    found = _TERM.fullmatch(term)
    key, sign, value = found.groups() if found else (term, "", "")
    if not sign:
        return key.strip(), lambda have: have is not None
    return key.strip(), lambda have: (have == value.strip()) != (sign == "!=")


def _field(obj: JsonObject, path: str) -> str | None:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _select(one: Occurrence, wanted: Callable[[JsonObject], bool]) -> list[bytes]:
    """What a watch with a selector sees: an object that comes to match is added, one that ceases to is deleted."""
    matched = one.before is not None and wanted(one.before)
    matches = one.happened is not Happened.DELETED and wanted(one.object)
    if matches:
        return [_line(Happened.MODIFIED if matched else Happened.ADDED, one.object)]
    return [_line(Happened.DELETED, one.object)] if matched else []


def _strip_type(obj: JsonObject) -> JsonObject:
    """As a list shows it: only custom resources say their apiVersion and kind there."""
    return {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}


def _write_continue(version: int, last: JsonObject) -> str:
    return urlsafe_b64encode(orjson.dumps({"v": version, "after": name_of(last)})).decode().rstrip("=")


def _read_continue(token: str, version: int) -> tuple[int, tuple[str, str]]:
    """The version that the first page had, and the last object it showed."""
    if not token:
        return version, ("", "")
    try:
        read = orjson.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = read["after"]
        return int(read["v"]), (str(namespace), str(name))
    except (ValueError, TypeError, KeyError) as error:
        raise Refusal(400, "BadRequest", "continue key is not valid") from error


def _number(query: Mapping[str, str], key: str, default: int) -> int:
    value = query.get(key) or str(default)
    if not value.isdecimal():
        raise Refusal(400, "BadRequest", f'{key}: invalid value "{value}"')
    return int(value)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "BadRequest", f"error decoding patch: {error}") from error
    if not isinstance(patch, dict):
        raise Refusal(400, "BadRequest", "error decoding patch: not an object")
    return patch


def _line(happened: str, obj: JsonObject) -> bytes:
    return orjson.dumps({"type": happened, "object": obj}, option=orjson.OPT_APPEND_NEWLINE)


def _json(content: JsonObject, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def _tell(_request: Request, refusal: Refusal) -> Response:
    return _json(refusal.status, refusal.code)


async def _say_ok(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _say_version(_request: Request) -> Response:
    return _json(VERSION)


def _quote(obj: JsonObject) -> str:
    return orjson.dumps(orjson.dumps(obj).decode()).decode()
