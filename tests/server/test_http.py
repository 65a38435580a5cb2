"""The HTTP doors: who may knock, who is let in, and both eras of the protocol behind them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import RequestParamsMeta

from arborgate.policies.errors import BadConfiguration
from arborgate.policies.model import Caller
from arborgate.server.audit import AuditLog
from arborgate.server.chain import read_records
from arborgate.server.gate import Gate
from arborgate.server.http import build_app, requester
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from arborgate.server.listen import listen
from arborgate.server.mcp import build_server
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp
from arborgate.server.settings import HttpSettings
from arborgate.tools.record import Event
from arborgate.tools.tool import AnyTool, Context
from tests.parts.process import find_free_ports
from tests.server.issuing import ISSUER, Issuer
from tests.server.serving import ERAS, connected, serving
from tests.server.test_gate import Asked, Told, make_tool, open_world

pytestmark = pytest.mark.anyio

DEVELOPERS = {"developer": ("arborgate-developers",)}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@dataclass
class Doors:
    url: str
    port: int
    gate: Gate
    issuer: Issuer
    log: AuditLog
    http: httpx2.AsyncClient
    stop: asyncio.Event
    released: asyncio.Event
    running: asyncio.Event

    def token(self, **changes: Any) -> str:
        return self.issuer.token(**{"aud": f"{self.url}/mcp", **changes})

    def bearer(self, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**changes)}", "Accept": "application/json, text/event-stream"}


def break_inside(caller: Caller) -> list[AnyTool]:
    raise RuntimeError(f"redis.internal.corp:6379 refused {caller.key}")


@asynccontextmanager
async def open_doors(tmp_path: Path, **changes: Any) -> AsyncIterator[Doors]:
    settings = HttpSettings(port=find_free_ports(1)[0], **changes)
    issuer = Issuer()
    metrics = Metrics()
    released, running = asyncio.Event(), asyncio.Event()

    async def run(_ctx: Context, params: Asked) -> Told:
        if params.note == "wait":
            running.set()
            await released.wait()
        return Told(app=params.app, note=params.note or "fine")

    async def readiness() -> tuple[bool, Mapping[str, Any]]:
        return True, {"ready": True}

    tool = make_tool(run)
    async with open_world(tmp_path, tool) as world, httpx2.AsyncClient(base_url=settings.url) as http, issuer.client:
        trusted = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),))
        identity = Identity(trusted, DEVELOPERS, client=issuer.client)
        app = build_app(
            settings=settings,
            server=build_server(world.gate, [tool], requester),
            gate=world.gate,
            identity=identity,
            resource=protect_mcp(settings.url, trusted),
            recorder=world.log,
            metrics=metrics,
            readiness=readiness,
        )
        async with serving(app, settings) as stop:
            yield Doors(settings.url, settings.port, world.gate, issuer, world.log, http, stop, released, running)


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_of_either_era_lists_and_calls_tools(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors, connected(f"{doors.url}/mcp", doors.token(), era) as client:
        tools = await client.list_tools()
        result = await client.call_tool("app_get", {"app": "api"})
    assert [tool.name for tool in tools.tools] == ["app_get"]
    assert result.structured_content == {"app": "api", "note": "fine", "rows": []}
    assert [block.text for block in result.content if block.type == "text"] == ["api: fine"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_wrong_argument_is_an_error_that_an_agent_can_act_on(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors, connected(f"{doors.url}/mcp", doors.token(), era) as client:
        result = await client.call_tool("app_get", {"ap": "api"})
    assert result.is_error
    assert result.content[0].type == "text"
    assert result.content[0].text == (
        "invalid [app]: app: is needed; ap: unknown field, did you mean 'app'?\nKnown here: app, note."
    )


@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_tool_is_a_protocol_error(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors, connected(f"{doors.url}/mcp", doors.token(), era) as client:
        with pytest.raises(MCPError, match="no tool of that name"):
            await client.call_tool("rm_rf", {})


async def test_no_token_gets_a_challenge_that_names_the_metadata(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        refused = await doors.http.post("/mcp", json=PING)
        metadata = f"{doors.url}/.well-known/oauth-protected-resource/mcp"
        assert refused.status_code == 401
        assert [value for name, value in refused.headers.multi_items() if name == "www-authenticate"] == [
            f'Bearer resource_metadata="{metadata}"',
            f'DPoP resource_metadata="{metadata}", algs="ES256 EdDSA Ed25519"',
        ]
        found = (await doors.http.get(metadata)).json()
        assert (found["resource"], found["authorization_servers"]) == (f"{doors.url}/mcp", [ISSUER])
        assert [record.event for record, _ in read_records(doors.log.path)] == [Event.LOG_OPENED]


@pytest.mark.parametrize("changes", [{"aud": "https://another.test"}, {"exp": 1}, {"iss": "https://evil.test"}])
async def test_a_bad_token_gets_401_and_is_on_record(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with open_doors(tmp_path) as doors:
        refused = await doors.http.post("/mcp", json=PING, headers=doors.bearer(**changes))
        records = [record for record, _ in read_records(doors.log.path)]
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert records[-1].event is Event.CALLER_REJECTED
    assert records[-1].outcome in ("audience", "expired", "issuer")


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Token x"])
async def test_another_scheme_is_refused(tmp_path: Path, value: str) -> None:
    async with open_doors(tmp_path) as doors:
        assert (await doors.http.post("/mcp", json=PING, headers={"Authorization": value})).status_code == 401


async def test_a_token_in_the_query_or_twice_in_the_headers_is_refused(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        token = doors.token()
        assert (await doors.http.post("/mcp", params={"access_token": token}, json=PING)).status_code == 401
        twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
        assert (await doors.http.post("/mcp", json=PING, headers=twice)).status_code == 400


async def test_a_foreign_host_or_origin_is_refused(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        host = await doors.http.post("/mcp", json=PING, headers={**doors.bearer(), "Host": "evil.test"})
        origin = await doors.http.post("/mcp", json=PING, headers={**doors.bearer(), "Origin": "https://evil.test"})
        probe = await doors.http.get("/healthz", headers={"Host": "10.1.2.3:8484"})
    assert (host.status_code, origin.status_code, probe.status_code) == (421, 403, 200)


@pytest.mark.parametrize(
    ("public_url", "host", "welcome"),
    [
        ("https://Gate.Example.com", "gate.example.com", True),
        ("https://gate.example.com", "GATE.example.com:443", True),
        ("https://gate.example.com:443", "gate.example.com", True),
        ("http://gate.example.com:80", "gate.example.com", True),
        ("https://gate.example.com", "gate.example.com:80", False),
        ("https://gate.example.com", "gate.example.com.evil.test", False),
        ("https://gate.example.com:8443", "gate.example.com", False),
        ("https://gate.example.com", "", False),
    ],
)
async def test_a_host_is_known_by_any_spelling_of_its_name(
    tmp_path: Path, public_url: str, host: str, welcome: bool
) -> None:
    async with open_doors(tmp_path, public_url=public_url) as doors:
        local = f"http://127.0.0.1:{doors.port}/mcp"
        knocked = await doors.http.post(local, json=PING, headers={"Host": host})
        origin = public_url.lower().removesuffix(":443").removesuffix(":80")
        browsed = await doors.http.post(local, json=PING, headers={"Origin": origin})
        foreign = await doors.http.post(local, json=PING, headers={"Origin": "null"})
    assert knocked.status_code == (401 if welcome else 421)
    assert (browsed.status_code, foreign.status_code) == (401, 403)


async def test_two_hosts_in_one_request_are_refused(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.port)
        own = f"127.0.0.1:{doors.port}"
        for first, second in ((own, "evil.test"), ("evil.test", own)):
            writer.write(f"GET /mcp HTTP/1.1\r\nHost: {first}\r\nHost: {second}\r\n\r\n".encode())
            status = await asyncio.wait_for(reader.readline(), 10)
            assert status.split()[1] in (b"400", b"421")
            if status.split()[1] == b"421":
                await reader.readuntil(b"}}")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
async def test_mcp_takes_nothing_but_posts(tmp_path: Path, method: str) -> None:
    async with open_doors(tmp_path) as doors:
        stranger = await doors.http.request(method, "/mcp")
        headers = {**doors.bearer(), "Accept": "text/event-stream"}
        known = await asyncio.wait_for(doors.http.request(method, "/mcp", headers=headers), 10)
    assert stranger.status_code == 401
    assert (known.status_code, known.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("era", ERAS)
async def test_a_failure_outside_the_gate_tells_nothing(
    tmp_path: Path, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_doors(tmp_path) as doors:
        monkeypatch.setattr(doors.gate, "offered", break_inside)
        async with connected(f"{doors.url}/mcp", doors.token(), era) as client:
            with pytest.raises(MCPError) as failed:
                await client.list_tools()
    assert "redis.internal" not in f"{failed.value.error.message}{failed.value.error.data}"


async def test_a_body_over_the_limit_is_refused_with_and_without_a_length(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100

    async with open_doors(tmp_path, body_limit=2_000) as doors:
        known = await doors.http.post("/mcp", content=b"x" * 3_000, headers=doors.bearer())
        unknown = await doors.http.post("/mcp", content=pieces(), headers=doors.bearer())
    assert (known.status_code, unknown.status_code) == (413, 413)


@pytest.mark.parametrize("version", ["2026-07-28", "2025-06-18"])
async def test_a_body_that_does_not_come_in_time_holds_no_place(tmp_path: Path, version: str) -> None:
    async with open_doors(tmp_path, call_timeout=0.2, max_in_flight=1) as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.port)
        head = {
            **doors.bearer(),
            "Host": f"127.0.0.1:{doors.port}",
            "Content-Type": "application/json",
            "Content-Length": "100",
            "MCP-Protocol-Version": version,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST /mcp HTTP/1.1\r\n{lines}\r\n{{".encode())
        status = await asyncio.wait_for(reader.readline(), 10)
        assert status.split()[1] == b"408"
        writer.close()
        await writer.wait_closed()
        assert (await doors.http.post("/mcp", json=PING)).status_code == 401


async def test_more_requests_at_once_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    async with (
        open_doors(tmp_path, max_in_flight=1) as doors,
        connected(f"{doors.url}/mcp", doors.token(), "2026-07-28") as client,
    ):
        waiting = asyncio.create_task(client.call_tool("app_get", {"app": "api", "note": "wait"}))
        await doors.running.wait()
        refused = await doors.http.post("/mcp", json=PING, headers=doors.bearer())
        healthy = await doors.http.get("/healthz")
        doors.released.set()
        assert (await waiting).structured_content is not None
    assert (refused.status_code, refused.headers["retry-after"], healthy.status_code) == (503, "1", 200)


async def test_stopping_finishes_the_calls_in_flight(tmp_path: Path) -> None:
    async with (
        open_doors(tmp_path) as doors,
        connected(f"{doors.url}/mcp", doors.token(), "2026-07-28") as client,
    ):
        waiting = asyncio.create_task(client.call_tool("app_get", {"app": "api", "note": "wait"}))
        await doors.running.wait()
        doors.stop.set()
        doors.released.set()
        assert (await waiting).structured_content is not None


async def test_the_probes_answer_without_a_token(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        await doors.http.post("/mcp", json=PING)
        answers = [await doors.http.get(path) for path in ("/healthz", "/readyz", "/metrics")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert 'arborgate_tokens_refused_total{flaw="missing"} 1.0' in answers[2].text


@pytest.mark.parametrize("era", ERAS)
async def test_a_trace_id_of_the_client_is_on_record(tmp_path: Path, era: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with open_doors(tmp_path) as doors, connected(f"{doors.url}/mcp", doors.token(), era) as client:
        await client.call_tool(
            "app_get",
            {"app": "api"},
            meta=cast("RequestParamsMeta", {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}),
        )
        records = [record for record, _ in read_records(doors.log.path)]
    assert records[-1].trace_id == trace


def test_a_port_in_use_is_a_clear_error() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(BadConfiguration, match="can't listen on"):
        listen("127.0.0.1", taken.getsockname()[1])


async def test_json_that_is_none_and_batches_are_refused(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as doors:
        headers = {**doors.bearer(), "Content-Type": "application/json", "MCP-Protocol-Version": "2026-07-28"}
        nonsense = await doors.http.post("/mcp", content=b"{nonsense", headers=headers)
        batch = await doors.http.post("/mcp", content=json.dumps([PING, PING]).encode(), headers=headers)
    assert (nonsense.status_code, batch.status_code) == (400, 400)
