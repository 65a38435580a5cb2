"""What the bridge remembers of a conversation: the protocol version, the session, and which tools only read."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from .messages import Kind, Message

VERSION_META: Final = "io.modelcontextprotocol/protocolVersion"
"""The key under `_meta` that every request of the 2026 era has and none of the older ones."""

_ALWAYS: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_REPEATABLE: Final = frozenset(
    {
        "completion/complete",
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tools/list",
    }
)
"""The methods that ask again for the same when they are sent again."""

_PLAIN: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Conversation:
    """One client's conversation with one server, in whichever era the client speaks."""

    def __init__(self) -> None:
        self._version = ""
        self._session = ""
        self._modern = False
        self._reading: set[str] = set()
        self._opening: Message | None = None

    @property
    def session(self) -> str:
        """The session that the server gave (`Mcp-Session-Id`), "" for none."""
        return self._session

    @property
    def is_modern(self) -> bool:
        """Whether the last request was of the 2026 era."""
        return self._modern

    @property
    def opening(self) -> Message | None:
        """The `initialize` request that was answered, with which a lost session can be had again."""
        return self._opening

    def begin(self, message: Message) -> bool:
        """Takes note of a message that is about to be sent; whether it is of the 2026 era."""
        stamped = message.meta.get(VERSION_META)
        modern = isinstance(stamped, str)
        if message.method == "initialize":
            self._session = self._version = ""
        elif isinstance(stamped, str):
            self._version = stamped
        if message.kind is Kind.REQUEST:
            self._modern = modern
        return modern

    def headers(self, message: Message) -> dict[str, str]:
        """The headers of a message's POST, but for those of the login (MCP, Streamable HTTP)."""
        meta = message.meta
        stamped = meta.get(VERSION_META)
        if isinstance(stamped, str):
            headers = {**_ALWAYS, **_route(message, stamped)}
        elif message.method == "initialize":
            headers = dict(_ALWAYS)
        else:
            headers = {**_ALWAYS, **self.standing_headers()}
        trace = meta.get("traceparent")
        if isinstance(trace, str) and _TRACEPARENT.fullmatch(trace):
            headers["traceparent"] = trace
        return headers

    def standing_headers(self) -> dict[str, str]:
        """The headers that say which conversation a request belongs to."""
        headers = {}
        if _PLAIN.fullmatch(self._version):
            headers["mcp-protocol-version"] = self._version
        if self._session:
            headers["mcp-session-id"] = self._session
        return headers

    def is_repeatable(self, message: Message) -> bool:
        """Whether a message may be sent again when nobody knows what became of it. A tool's call only when the server
        itself called the tool read-only: anything else could be proposed twice."""
        if message.kind is not Kind.REQUEST:
            return False
        if message.method == "tools/call":
            return message.params.get("name") in self._reading
        return message.method in _REPEATABLE

    def learn(self, message: Message, answer: Mapping[str, Any], session: str) -> None:
        """Takes note of the answer to a request; `session` is its `Mcp-Session-Id`, or ""."""
        result = answer.get("result")
        if not isinstance(result, dict):
            return
        if message.method == "initialize":
            version = result.get("protocolVersion")
            self._version = version if isinstance(version, str) else ""
            self._session = session if _PLAIN.fullmatch(session) else ""
            self._opening = message
        elif message.method == "tools/list":
            self._learn_tools(result.get("tools"))

    def _learn_tools(self, tools: object) -> None:
        for tool in tools if isinstance(tools, list) else ():
            if not isinstance(tool, dict) or not isinstance(name := tool.get("name"), str):
                continue
            hints = tool.get("annotations")
            if isinstance(hints, dict) and hints.get("readOnlyHint") is True:
                self._reading.add(name)
            else:
                self._reading.discard(name)


def encode_value(value: str) -> str:
    """A header's value as MCP writes it: what a header can't carry, or would change, goes as base64 with a mark."""
    if (_PLAIN.fullmatch(value) or not value) and not _ENCODED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'surrogatepass')).decode()}?="


def _route(message: Message, version: str) -> dict[str, str]:
    """The routing headers of the 2026 era. What does not fit is left out: the server says best what is wrong then."""
    headers = {}
    if _PLAIN.fullmatch(version):
        headers["mcp-protocol-version"] = version
    if _PLAIN.fullmatch(message.method):
        headers["mcp-method"] = message.method
    named = message.params.get(_NAMED.get(message.method, ""))
    if isinstance(named, str):
        headers["mcp-name"] = encode_value(named)
    return headers
