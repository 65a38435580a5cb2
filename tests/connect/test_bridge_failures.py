"""What the bridge makes of a server that refuses, breaks off or talks nonsense; what it sends again, and what never."""

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.connect.bridging import META, piped, prepare, request
from tests.connect.remotes import Asked, Scripted, answer, hang_up, write
from tests.parts.certificates import CertificateAuthority

pytestmark = pytest.mark.anyio

Step = Callable[[Asked], bytes]
CALL = request(7, "tools/call", name="rollout_propose", arguments={})
READ = request(7, "resources/list")


def fixed(status: int, body: Any = None, **headers: str) -> Step:
    return lambda _asked: write(status, body, **headers)


def list_tools(asked: Asked) -> bytes:
    tools = [
        {"name": "app_get", "annotations": {"readOnlyHint": True}},
        {"name": "rollout_propose", "annotations": {"readOnlyHint": False}},
        {"name": "silent"},
        "nonsense",
    ]
    return write(200, {"jsonrpc": "2.0", "id": asked.body["id"], "result": {"tools": tools}})


async def ask(folder: Path, steps: list[Step], asked: dict[str, Any], **patience: float) -> tuple[Any, list[Asked]]:
    """The answer to one request, and what the server was asked for it."""
    remote = Scripted(steps)
    async with remote.started(), piped(prepare(folder, remote.url, "secret", patience=patience)) as pipe:
        return await pipe.ask(asked), remote.asked


@pytest.mark.parametrize(
    "trouble", [hang_up, fixed(502), fixed(503), fixed(504), fixed(429), fixed(503, retry_after="0")]
)
async def test_a_read_is_sent_again_until_it_is_answered(tmp_path: Path, trouble: Step) -> None:
    told, asked = await ask(tmp_path, [trouble, trouble, answer], READ)
    assert told["result"] == {"echo": "resources/list"}
    assert len(asked) == 3


@pytest.mark.parametrize("trouble", [hang_up, fixed(502), fixed(503), fixed(504)])
async def test_a_call_that_may_have_been_acted_on_is_never_sent_twice(tmp_path: Path, trouble: Step) -> None:
    told, asked = await ask(tmp_path, [trouble, answer], CALL)
    assert told["error"]["data"]["reason"] == "unavailable"
    assert "may or may not have taken effect" in told["error"]["message"]
    assert len(asked) == 1


async def test_a_notification_that_may_have_arrived_is_not_sent_again(tmp_path: Path) -> None:
    remote = Scripted([hang_up, answer])
    async with remote.started(), piped(prepare(tmp_path, remote.url)) as pipe:
        await pipe.send({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
        assert await pipe.end() == []
    assert len(remote.asked) == 1


@pytest.mark.parametrize("trouble", [fixed(429), fixed(429, retry_after="0"), fixed(503, retry_after="0")])
async def test_a_call_that_was_turned_away_is_sent_again(tmp_path: Path, trouble: Step) -> None:
    told, asked = await ask(tmp_path, [trouble, answer], CALL)
    assert told["result"] == {"echo": "tools/call"}
    assert len(asked) == 2


@pytest.mark.parametrize(("tool", "repeated"), [("app_get", True), ("rollout_propose", False), ("silent", False)])
async def test_only_tools_that_the_server_called_read_only_are_called_again(
    tmp_path: Path, tool: str, repeated: bool
) -> None:
    remote = Scripted([list_tools, hang_up, answer])
    async with remote.started(), piped(prepare(tmp_path, remote.url)) as pipe:
        await pipe.ask(request(1, "tools/list"))
        told = await pipe.ask(request(2, "tools/call", name=tool, arguments={}))
    assert ("result" in told) is repeated
    assert len(remote.asked) == 2 + repeated


async def test_the_pause_that_the_server_asks_for_is_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    told, _ = await ask(tmp_path, [fixed(429, retry_after="1"), answer], READ)
    assert "result" in told
    assert time.monotonic() - began > 1


@pytest.mark.parametrize("pause", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_a_pause_that_nobody_can_wait_for_is_told(tmp_path: Path, pause: str) -> None:
    told, asked = await ask(tmp_path, [fixed(429, retry_after=pause)], READ)
    assert told["error"]["data"]["reason"] == "busy"
    assert "Try again in " in told["error"]["message"]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("step", "reason", "words"),
    [
        (fixed(404), "not_there", "There is no MCP server at this URL"),
        (fixed(405), "not_there", "There is no MCP server at this URL"),
        (fixed(403, {"error": {"message": "not for\x1b[31m you"}}), "denied", "refuses this login: not for [31m you"),
        (fixed(413), "refused", "larger than the server takes"),
        (fixed(421, {"error": {"message": "wrong name"}}), "refused", "status 421: wrong name"),
        (fixed(307, location="https://elsewhere.test/mcp"), "refused", "https://elsewhere.test/mcp"),
        (fixed(500), "unavailable", "status 500"),
        (fixed(200, b"<html>", content_type="text/html"), "unavailable", "does not speak MCP"),
        (fixed(200, b"{"), "unavailable", "does not speak MCP"),
        (fixed(200, {"result": 1}), "unavailable", "does not speak MCP"),
        (fixed(202), "unavailable", "does not speak MCP"),
    ],
)
async def test_a_refusal_is_explained(tmp_path: Path, step: Step, reason: str, words: str) -> None:
    told, asked = await ask(tmp_path, [step], READ)
    assert told["id"] == 7
    assert told["error"]["data"]["reason"] == reason
    assert words in told["error"]["message"]
    assert "\x1b" not in told["error"]["message"]
    assert len(asked) == 1


async def test_an_error_without_the_id_gets_the_id_of_its_request(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32020, "message": "headers"}}
    told, _ = await ask(tmp_path, [fixed(400, body)], READ)
    assert told == {**body, "id": 7}


async def test_an_answer_on_many_lines_becomes_one(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 7, "result": {"text": "a\nb"}}
    told, _ = await ask(tmp_path, [fixed(200, json.dumps(body, indent=2).replace("\n", "\r\n").encode())], READ)
    assert told == body


async def test_a_stream_may_bring_requests_of_the_server_and_takes_their_answers(tmp_path: Path) -> None:
    asking = {"jsonrpc": "2.0", "id": "s1", "method": "roots/list"}
    done = {"jsonrpc": "2.0", "id": 1, "result": {}}
    events = ["", ": ping", "data:", "event: other", "data: {}"]
    stream = "\n\n".join([*events, f"data: {json.dumps(asking)}", f"data: {json.dumps(done)}", ""]).encode()
    remote = Scripted([fixed(200, stream, content_type="text/event-stream; charset=utf-8"), answer])
    async with remote.started(), piped(prepare(tmp_path, remote.url)) as pipe:
        assert await pipe.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) == asking
        assert await pipe.read() == done
        told = {"jsonrpc": "2.0", "id": "s1", "result": {"roots": []}}
        await pipe.send(told)
        assert await pipe.end() == []
    assert remote.asked[1].body == told


async def test_a_stream_that_ends_too_early_is_a_broken_connection(tmp_path: Path) -> None:
    step = fixed(200, b"data: {}\n\n", content_type="text/event-stream")
    told, asked = await ask(tmp_path, [step], CALL)
    assert "may or may not have taken effect" in told["error"]["message"]
    assert len(asked) == 1


async def test_each_era_has_its_headers(tmp_path: Path) -> None:
    def initialize(asked: Asked) -> bytes:
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
        return write(200, {"jsonrpc": "2.0", "id": asked.body["id"], "result": result}, mcp_session_id="s-1")

    remote = Scripted([answer, answer, answer, initialize, answer])
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with remote.started(), piped(prepare(tmp_path, remote.url, "t")) as pipe:
        await pipe.ask(request(1, "tools/call", name="app_get", arguments={}))
        read = request(2, "resources/read", uri="notes://ä")
        read["params"]["_meta"] = {**META, "traceparent": trace}
        await pipe.ask(read)
        await pipe.ask(request(3, "prompts/get", name="=?base64?eA==?="))
        await pipe.ask({"jsonrpc": "2.0", "id": 4, "method": "initialize", "params": {}})
        await pipe.ask({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "app_get"}})
        assert await pipe.end() == []
    sent = [
        {
            name: asked.headers[name]
            for name in sorted(asked.headers)
            if name.startswith("mcp-") or name == "traceparent"
        }
        for asked in remote.asked
    ]
    modern = {"mcp-protocol-version": "2026-07-28"}
    legacy = {"mcp-protocol-version": "2025-06-18", "mcp-session-id": "s-1"}
    assert sent == [
        {"mcp-method": "tools/call", "mcp-name": "app_get", **modern},
        {"mcp-method": "resources/read", "mcp-name": "=?base64?bm90ZXM6Ly/DpA==?=", **modern, "traceparent": trace},
        {"mcp-method": "prompts/get", "mcp-name": "=?base64?PT9iYXNlNjQ/ZUE9PT89?=", **modern},
        {},
        legacy,
        legacy,
    ]
    assert all(asked.headers["authorization"] == "Bearer t" for asked in remote.asked)
    assert (remote.asked[-1].method, remote.asked[-1].body) == ("DELETE", {})


async def test_a_session_that_the_server_has_lost_is_opened_again(tmp_path: Path) -> None:
    def initialize(asked: Asked) -> bytes:
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
        session = f"s-{len(remote.asked)}"
        return write(200, {"jsonrpc": "2.0", "id": asked.body["id"], "result": result}, mcp_session_id=session)

    remote = Scripted([initialize, fixed(404), initialize, answer])
    async with remote.started(), piped(prepare(tmp_path, remote.url)) as pipe:
        await pipe.ask({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})
        told = await pipe.ask({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "x"}})
        assert told["result"] == {"echo": "tools/call"}
    assert [(asked.body.get("method"), asked.headers.get("mcp-session-id")) for asked in remote.asked[:5]] == [
        ("initialize", None),
        ("tools/call", "s-1"),
        ("initialize", None),
        ("notifications/initialized", "s-3"),
        ("tools/call", "s-3"),
    ]


async def test_a_certificate_counts_only_when_this_machine_trusts_its_issuer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = CertificateAuthority(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue("remote"))
    remote = Scripted([answer], tls=tls)
    async with remote.started():
        async with piped(prepare(tmp_path, remote.url)) as pipe:
            told = await pipe.ask(READ)
        assert told["error"]["message"].startswith("This machine does not trust the certificate of the server.")
        assert remote.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        async with piped(prepare(tmp_path, remote.url)) as pipe:
            assert (await pipe.ask(READ))["result"] == {"echo": "resources/list"}


async def test_a_proxy_is_asked_for_the_network_and_never_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, remote = Scripted([fixed(403)]), Scripted([answer])
    async with proxy.started(), remote.started():
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        async with piped(prepare(tmp_path, remote.url)) as pipe:
            assert (await pipe.ask(READ))["result"] == {"echo": "resources/list"}
        assert proxy.asked == []
        async with piped(prepare(tmp_path, "https://gate.example.test/mcp", patience={"server": 0.0})) as pipe:
            assert "can't be reached" in (await pipe.ask(READ))["error"]["message"]
    assert [asked.method for asked in proxy.asked] == ["CONNECT"]
