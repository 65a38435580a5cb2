"""The bridge before the real doors of Arborgate: a real MCP client on a pipe, a real server over HTTP."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
from mcp.shared.exceptions import MCPError

from arborgate.policies.errors import BadConfiguration
from arborgate.server.connect.bridge import LINE_LIMIT
from arborgate.server.connect.endpoint import check_url
from tests.connect.bridging import SECONDS, connected, piped, prepare, request
from tests.parts.process import find_free_ports
from tests.server.serving import ERAS
from tests.server.test_http import Doors, open_doors

pytestmark = pytest.mark.anyio

CALL = {"name": "app_get", "arguments": {"app": "api"}}
WAIT = {"name": "app_get", "arguments": {"app": "api", "note": "wait"}}


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_of_either_era_lists_and_calls_tools_through_the_bridge(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token())
        async with connected(login, era) as client:
            tools = await client.list_tools()
            result = await client.call_tool("app_get", {"app": "api", "note": "größer"})
    assert [tool.name for tool in tools.tools] == ["app_get"]
    assert result.structured_content == {"app": "api", "note": "größer", "rows": []}
    assert login.told() == ""


@pytest.mark.parametrize("era", ERAS)
async def test_a_protocol_error_and_a_name_that_no_header_can_hold_come_through(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token())
        async with connected(login, era) as client:
            with pytest.raises(MCPError, match="no tool of that name"):
                await client.call_tool("lösche alles\n", {})


async def test_the_answer_is_what_the_server_says_byte_for_byte(tmp_path: Path) -> None:
    asked = request(1, "tools/call", name="app_get", arguments={"app": "api", "note": "\u2028 é \ud800"})
    async with open_doors(tmp_path) as doors:
        headers = {
            **doors.bearer(),
            "Content-Type": "application/json",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "app_get",
        }
        direct = await doors.http.post("/mcp", content=json.dumps(asked).encode(), headers=headers)
        async with piped(prepare(tmp_path, f"{doors.url}/mcp", doors.token())) as pipe:
            assert await pipe.ask(asked) == json.loads(direct.content)


async def test_many_requests_are_under_way_at_once_and_answered_in_any_order(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors, piped(prepare(tmp_path, f"{doors.url}/mcp", doors.token())) as pipe:
        await pipe.send(request(0, "tools/call", **WAIT))
        await doors.running.wait()
        await pipe.send(*(request(number, "tools/call", **CALL) for number in range(1, 400)))
        answered = [(await pipe.read())["id"] for _ in range(399)]
        doors.released.set()
        assert (await pipe.read())["id"] == 0
    assert sorted(answered) == list(range(1, 400))


async def test_lines_that_are_no_messages_are_answered_and_end_nothing(tmp_path: Path) -> None:
    lines = {
        b"{": (-32700, None),
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}': (-32700, None),
        b"[" * 100_000: (-32700, None),
        b"\xff": (-32700, None),
        b"[]": (-32600, None),
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}': (-32600, None),
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}': (-32600, None),
        b'{"jsonrpc":"2.0","id":"a","method":5}': (-32600, "a"),
        b'{"jsonrpc":"2.0","id":"b"}': (-32600, "b"),
        b'"' + b"x" * (LINE_LIMIT + 1) + b'"': (-32600, None),
    }
    async with open_doors(tmp_path) as doors, piped(prepare(tmp_path, f"{doors.url}/mcp", doors.token())) as pipe:
        for line, expected in lines.items():
            refused = await pipe.ask(line)
            assert (refused["error"]["code"], refused["id"]) == expected, line[:60]
        await pipe.send(b"", b"  \r")
        assert "result" in await pipe.ask(request(1, "tools/list"))


async def test_a_refused_token_is_replaced_and_the_request_sent_once_more(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token(exp=1), doors.token())
        async with piped(login) as pipe:
            assert "result" in await pipe.ask(request(1, "tools/call", **CALL))


async def test_a_login_that_is_refused_for_good_is_said_in_plain_words(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        token = doors.token(exp=1)
        login = prepare(tmp_path, f"{doors.url}/mcp", token)
        async with piped(login) as pipe:
            error = (await pipe.ask(request("x", "tools/call", **CALL)))["error"]
    assert error["data"]["reason"] == "denied"
    assert error["message"].startswith("Arborgate refuses this login: ")
    assert "arborgate login" in error["message"]
    assert login.told().count("Arborgate refuses this login") == 1
    assert token not in login.told() + json.dumps(error)


async def test_a_missing_login_fails_requests_and_not_the_bridge(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token(), login="needed")
        async with piped(login) as pipe:
            error = (await pipe.ask(request(1, "tools/list")))["error"]
            assert error["message"] == "You are not logged in. Run `arborgate login` in a terminal."
            login.change(login="ready")
            assert "result" in await pipe.ask(request(2, "tools/list"))
    assert login.told().splitlines() == [
        "arborgate connect: You are not logged in. Run `arborgate login` in a terminal.",
        "arborgate connect: Arborgate answers again.",
    ]


async def test_requests_wait_for_a_person_who_is_logging_in(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token(), login="pending", patience={"ping": 0.1})
        async with piped(login) as pipe:
            await pipe.send(request(1, "tools/list"))
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            assert await pipe.ask(ping) == {"jsonrpc": "2.0", "id": 2, "result": {}}
            login.change(login="ready")
            assert (await pipe.read())["id"] == 1


async def test_a_login_that_takes_too_long_is_said_before_the_client_gives_up(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token(), login="pending", patience={"login": 0.1})
        async with piped(login) as pipe:
            error = (await pipe.ask(request(1, "tools/list")))["error"]
            assert error["message"].startswith("The login is not finished. Finish it in the browser")
            login.change(login="ready")
            assert "result" in await pipe.ask(request(2, "tools/list"))


async def test_a_fault_of_the_bridge_is_an_answer_and_not_an_end(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token(), login="broken")
        async with piped(login) as pipe:
            error = (await pipe.ask(request(1, "tools/list")))["error"]
            assert (error["code"], error["message"]) == (-32603, "Something failed in the bridge.")
            login.change(login="ready")
            assert "result" in await pipe.ask(request(2, "tools/list"))
    assert "the keyring is on fire" in login.told()


async def test_the_end_of_input_ends_the_bridge_after_what_is_under_way(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors, piped(prepare(tmp_path, f"{doors.url}/mcp", doors.token())) as pipe:
        await pipe.send(*(request(number, "tools/call", **CALL) for number in range(5)))
        rest = await pipe.end()
    assert sorted(message["id"] for message in rest) == [0, 1, 2, 3, 4]


async def _await_call(doors: Doors) -> None:
    async with asyncio.timeout(SECONDS):
        await doors.running.wait()


@pytest.mark.parametrize("how", ["input", "signal", "output"])
async def test_what_does_not_finish_in_its_moment_of_grace_is_left_behind(tmp_path: Path, how: str) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token(), patience={"grace": 0.1})
        async with piped(login) as pipe:
            await pipe.send(request(1, "tools/call", **WAIT))
            await _await_call(doors)
            if how == "input":
                assert await pipe.end() == []
            elif how == "signal":
                pipe.process.send_signal(signal.SIGTERM)
            else:
                pipe.close_output()
                await pipe.send(request(2, "tools/call", **CALL))
            async with asyncio.timeout(SECONDS):
                assert await pipe.process.wait() == 0
        doors.released.set()
    assert login.told() == ""


async def test_a_server_that_is_gone_is_said_in_plain_words(tmp_path: Path) -> None:
    (port,) = find_free_ports(1)
    login = prepare(tmp_path, f"http://127.0.0.1:{port}/mcp", "secret", patience={"server": 0.3})
    async with piped(login) as pipe:
        error = (await pipe.ask(request(1, "tools/call", **CALL)))["error"]
        assert error["data"]["reason"] == "unavailable"
        assert error["message"] == (
            "Arborgate can't be reached from this machine. Check the network, the VPN and the URL, or ask who runs it; "
            "then try again."
        )
        assert await pipe.ask({"jsonrpc": "2.0", "id": 2, "method": "ping"}) == {
            "jsonrpc": "2.0",
            "id": 2,
            "result": {},
        }
        assert await pipe.end() == []
    assert login.told().count("\n") == 1


@pytest.mark.parametrize(
    "url", ["http://gate.example.com/mcp", "ftp://127.0.0.1/mcp", "gate.example.com", "https:///mcp"]
)
def test_no_login_is_sent_in_the_clear(url: str) -> None:
    with pytest.raises(BadConfiguration, match="must begin with https"):
        check_url(url)
