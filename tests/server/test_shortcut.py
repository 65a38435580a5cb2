"""The short way of a tool call: it answers what the SDK would, and leaves to the SDK whatever is not plain."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from arborgate.policies.model import Caller
from arborgate.server.chain import read_records
from arborgate.server.gate import Answer
from arborgate.server.scope import CALLER
from arborgate.server.shortcut import Shortcut
from arborgate.tools.record import Event
from tests.server.test_gate import make_caller
from tests.server.test_http import open_doors

pytestmark = pytest.mark.anyio

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "app_get",
}
LONG_WAY = {"Accept": "application/json;q=1, text/event-stream;q=1"}
CALLS = (Event.CALL_ANSWERED, Event.CALL_DENIED, Event.CALL_FAILED)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def make_call(arguments: object, *, name: object = "app_get", **changes: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments, "_meta": META}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params, **changes}


@pytest.mark.parametrize(
    "body",
    [
        make_call({"app": "shop"}),
        make_call({"app": "shop", "note": "Ærø \ud800"}),
        make_call({"app": "missing"}),
        make_call({"app": "shop", "nmae": 1}),
        make_call({"app": 2**70}),
        make_call(None),
        make_call({}, name="app_got"),
        make_call({"app": "shop"}, id="a-7"),
    ],
)
async def test_both_ways_give_the_same_answer_and_the_same_record(tmp_path: Path, body: dict[str, Any]) -> None:
    async with open_doors(tmp_path) as doors:
        headers = {**doors.bearer(), **HEADERS, "Mcp-Name": body["params"]["name"], "traceparent": TRACE}
        answers = [
            await doors.http.post("/mcp", headers={**headers, **way}, content=json.dumps(body))
            for way in ({}, LONG_WAY)
        ]
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].json() == answers[1].json()
        assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
        one, other = [record for record, _ in read_records(doors.log.path) if record.event in CALLS]
        assert (one.event, one.arguments_digest, one.outcome, one.detail, one.trace_id) == (
            other.event,
            other.arguments_digest,
            other.outcome,
            other.detail,
            other.trace_id,
        )
        assert one.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"


class Calls:
    """A gate that counts."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(
        self, caller: Caller, name: str, arguments: Mapping[str, Any], *, trace_id: str = "", report: object = None
    ) -> Answer:
        self.calls += 1
        return Answer({}, "fine")

    def offered(self, caller: Caller) -> list[Any]:
        raise NotImplementedError

    def could(self, caller: Caller, action: object) -> bool:
        raise NotImplementedError

    def clean(self, text: str) -> str:
        raise NotImplementedError


class Walk:
    """One request into a shortcut, and the body that the SDK's application was left, if any."""

    def __init__(self) -> None:
        self.gate = Calls()
        self.left: bytes | None = None
        self.sent: list[Message] = []

    async def app(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        self.left, more = b"", True
        while more:
            message = await receive()
            self.left += message.get("body", b"")
            more = message.get("more_body", False)

    async def go(
        self, headers: list[tuple[bytes, bytes]], parts: list[bytes], *, method: str = "POST", known: bool = True
    ) -> None:
        messages = [
            {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
            for index, part in enumerate(parts)
        ]

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        scope: dict[str, Any] = {"type": "http", "method": method, "headers": headers}
        if known:
            scope[CALLER] = make_caller("developer")
        await Shortcut(self.app, self.gate, {"name": "arborgate"})(scope, receive, send)


def raw(**changes: str) -> list[tuple[bytes, bytes]]:
    headers = {name.lower(): value for name, value in HEADERS.items()}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


BODY = json.dumps(make_call({"app": "shop"})).encode()


async def test_a_plain_call_goes_the_short_way() -> None:
    walk = Walk()
    await walk.go(raw(), [BODY])
    assert (walk.gate.calls, walk.left, walk.sent[0]["status"]) == (1, None, 200)


@pytest.mark.parametrize(
    "headers",
    [
        raw(mcp_protocol_version="2025-11-25"),
        raw(mcp_method="tools/list"),
        raw(mcp_name="another"),
        raw(mcp_name=""),
        raw(accept="text/event-stream"),
        raw(content_type="text/plain"),
        [*raw(), (b"mcp-name", b"app_get")],
        [*raw(), (b"mcp-method", b"tools/call")],
    ],
)
async def test_other_headers_are_left_to_the_sdk(headers: list[tuple[bytes, bytes]]) -> None:
    walk = Walk()
    await walk.go(headers, [BODY])
    assert (walk.gate.calls, walk.left) == (0, BODY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[%b]" % BODY,
        json.dumps(make_call({}, id=None)).encode(),
        json.dumps(make_call({}, id=True)).encode(),
        json.dumps(make_call({}, id=2**60)).encode(),
        json.dumps(make_call({}, jsonrpc="1.0")).encode(),
        json.dumps(make_call({}, method="tools/list")).encode(),
        json.dumps(make_call({}, extra=1)).encode(),
        json.dumps(make_call([])).encode(),
        json.dumps(make_call({}, params={"name": "app_get", "_meta": {}})).encode(),
        json.dumps(make_call({}, params={"name": "app_get"})).encode(),
        json.dumps(make_call({}, params={"name": "app_get", "_meta": META, "task": {}})).encode(),
        BODY.replace(b"2026-07-28", b"2025-11-25"),
    ],
)
async def test_another_body_is_left_to_the_sdk_whole(body: bytes) -> None:
    walk = Walk()
    await walk.go(raw(), [body])
    assert (walk.gate.calls, walk.left) == (0, body)


async def test_a_body_in_parts_is_left_to_the_sdk_whole() -> None:
    walk = Walk()
    await walk.go(raw(), [BODY[:20], BODY[20:]])
    assert (walk.gate.calls, walk.left) == (0, BODY)


async def test_a_request_without_a_caller_never_reaches_the_gate() -> None:
    walk = Walk()
    await walk.go(raw(), [BODY], known=False)
    assert (walk.gate.calls, walk.left) == (0, BODY)


async def test_another_method_is_left_to_the_sdk() -> None:
    walk = Walk()
    await walk.go(raw(), [b""], method="GET")
    assert (walk.gate.calls, walk.left) == (0, b"")
