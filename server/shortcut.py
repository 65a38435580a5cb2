"""The short way of a tool call: for a plain request of the 2026 protocol, from its body to the gate and back.

On the SDK's way a request and its result are modelled and dumped again and again, which costs more than the call. Here
the request is checked once, by the SDK's own schema. What is not plain, or not right, goes the SDK's way and is
answered there. Both ways lead through the same gate to the same answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    INVALID_PARAMS,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
)
from mcp_types.methods import validate_client_request
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..policies.model import Caller
from .errors import as_json, tell
from .gate import Answer, UnknownTool
from .mcp import CHALLENGED, ERROR_META, Calls, read_trace_id
from .scope import CALLER, REFUSAL
from .streaming import replay

_METHOD = "tools/call"
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
_PARAMS = frozenset({"name", "arguments", "_meta"})
_ONCE = frozenset({b"accept", b"content-type", b"mcp-method", b"mcp-name", b"mcp-protocol-version", b"traceparent"})
_IDS_BELOW = 2**53

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One plain `tools/call`; `opens`: of a client that can show its person a page."""

    id: int | str
    name: str
    arguments: Mapping[str, Any]
    trace_id: str
    opens: bool


class Shortcut:
    """An ASGI application before the SDK's."""

    def __init__(
        self, app: ASGIApp, gate: Calls, server_info: Mapping[str, Any], showing: Collection[str] = ()
    ) -> None:
        """`showing`: tools whose answer may be a question first, to clients that can ask it."""
        self._showing = frozenset(showing)
        self._app = app
        self._gate = gate
        self._info = {SERVER_INFO_META_KEY: server_info}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _read_headers(scope)
        caller = scope.get(CALLER)
        if headers is None or not isinstance(caller, Caller):
            await self._app(scope, receive, send)
            return
        message = await receive()
        asked = _read_request(message, headers)
        if asked is None or (asked.opens and asked.name in self._showing):
            await self._app(scope, replay(message, receive), send)
            return
        answer = await self._gate.call(caller, asked.name, asked.arguments, trace_id=asked.trace_id)
        if answer.error is not None:
            scope[REFUSAL] = answer.error
        status, body = self._describe(answer)
        await _send(send, status, {"jsonrpc": "2.0", "id": asked.id, **body})

    def _describe(self, answer: Answer) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the body's `result` or `error`."""
        error = answer.error
        if error is None:
            content = [{"type": "text", "text": answer.text}]
            result = {"content": content, "structuredContent": answer.structured, "isError": False}
            return 200, {"result": {**result, "resultType": "complete", "_meta": self._info}}
        if isinstance(error, (UnknownTool, *CHALLENGED)):
            described = {"code": INVALID_PARAMS, "message": tell(error), "data": as_json(error)}
            return ERROR_CODE_HTTP_STATUS.get(INVALID_PARAMS, 200), {"error": described}
        failed = {"content": [{"type": "text", "text": tell(error)}], "isError": True, "resultType": "complete"}
        return 200, {"result": {**failed, "_meta": {ERROR_META: as_json(error), **self._info}}}


def _read_headers(scope: Scope) -> Headers | None:
    """The headers that route the request, when they are those of a plain `tools/call` and none is there twice."""
    if scope["method"] != "POST":
        return None
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _ONCE:
            if name in found:
                return None
            found[name] = value
    plain = (
        found.get(b"mcp-protocol-version") == LATEST_MODERN_VERSION.encode()
        and found.get(b"mcp-method") == _METHOD.encode()
        and found.get(b"content-type") == b"application/json"
        and b"application/json" in (part.strip() for part in found.get(b"accept", b"").split(b","))
    )
    return found if plain else None


def _read_request(message: Message, headers: Headers) -> _Asked | None:
    """The call, when the whole body is here and nothing about it is out of the ordinary; else None."""
    if message["type"] != "http.request" or message.get("more_body"):
        return None
    try:
        body = json.loads(message.get("body", b""))
    except (ValueError, RecursionError):
        return None
    name = headers.get(b"mcp-name", b"").decode("latin-1")
    if not _is_plain(body, name):
        return None
    params = body["params"]
    try:
        validate_client_request(_METHOD, LATEST_MODERN_VERSION, params)
    except ValidationError:
        return None
    trace_id = read_trace_id(params["_meta"], headers.get(b"traceparent", b"").decode("latin-1"))
    return _Asked(body["id"], name, params.get("arguments") or {}, trace_id, _can_open(params["_meta"]))


def _can_open(meta: Mapping[str, Any]) -> bool:
    """As `can_open`, of capabilities that the SDK's schema has found right."""
    elicitation = meta[CLIENT_CAPABILITIES_META_KEY].get("elicitation") or {}
    return elicitation.get("url") is not None


def _is_plain(body: object, name: str) -> bool:
    """Whether the body is one request, for the method, tool and protocol version that the headers name."""
    if not isinstance(body, dict) or body.keys() != _MEMBERS:
        return False
    params = body["params"]
    if not isinstance(params, dict) or not isinstance(meta := params.get("_meta"), dict):
        return False
    return (
        body["jsonrpc"] == "2.0"
        and body["method"] == _METHOD
        and _is_plain_id(body["id"])
        and params.keys() <= _PARAMS
        and params.get("name") == name
        and meta.get(PROTOCOL_VERSION_META_KEY) == LATEST_MODERN_VERSION
    )


def _is_plain_id(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii()
    return isinstance(value, int) and not isinstance(value, bool) and -_IDS_BELOW < value < _IDS_BELOW


async def _send(send: Send, status: int, body: Mapping[str, Any]) -> None:
    try:
        data = orjson.dumps(body)
    except TypeError:  # half a surrogate pair, say, which only escapes can carry
        data = json.dumps(body, separators=(",", ":")).encode()
    headers = [(b"content-length", str(len(data)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
