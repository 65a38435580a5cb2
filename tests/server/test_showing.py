"""The page of a proposal is shown to the agent's person where the client can, in both eras, and it decides nothing."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from arborgate.policies.errors import Unrecorded
from arborgate.server.chain import read_records
from arborgate.server.http import build_app, requester
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from arborgate.server.mcp import build_server
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp
from arborgate.server.settings import HttpSettings
from arborgate.server.showing import Showing
from arborgate.tools.proposal import ProposalQuery, ProposalState
from arborgate.tools.record import Entry, Event
from tests.connect import bridging
from tests.parts.process import find_free_ports
from tests.server.issuing import ISSUER, Issuer
from tests.server.proposing import make_gate, make_proposing
from tests.server.serving import ERAS, serving
from tests.server.web.world import World, open_world

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
Action = Literal["accept", "decline", "cancel"]


@dataclass
class Person:
    """Who sits before the client: what they were shown, and what they do with it."""

    action: Action = "accept"
    shown: list[types.ElicitRequestURLParams] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    completed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ready.set()

    async def answer(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestURLParams)
        self.shown.append(params)
        await self.ready.wait()
        return types.ElicitResult(action=self.action)

    async def hear(self, message: Any) -> None:
        if isinstance(message, types.ElicitCompleteNotification):
            self.completed.append(message.params.elicitation_id)


@dataclass
class Doors:
    world: World
    url: str
    issuer: Issuer

    def token(self, subject: str = "ada") -> str:
        return self.issuer.token(aud=self.url, sub=subject, groups=["arborgate-developers"])

    @asynccontextmanager
    async def connected(self, era: str, person: Person | None, subject: str = "ada") -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {self.token(subject)}"}
        async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30.0) as http:
            answer = person.answer if person else None
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, mode=era, elicitation_callback=answer) as client:
                yield client

    async def ids(self) -> list[str]:
        return [one.id for one in (await self.world.book.list(ProposalQuery())).proposals]

    def shown(self) -> list[tuple[str, str]]:
        return [(record.outcome, record.detail) for record in self.world.records(Event.PAGE_SHOWN)]


@asynccontextmanager
async def open_doors(
    folder: Path, redis_url: str, *, showing: bool = True, recorder: Any = None
) -> AsyncIterator[Doors]:
    settings = HttpSettings(port=find_free_ports(1)[0])
    issuer = Issuer()
    async with open_world(folder / "record", redis_url) as world, issuer.client:
        tool = make_proposing(world)
        gate = make_gate(world, tool)
        shows = Showing(world.state, world.book, recorder or world.audit) if showing else None
        trusted = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),))
        app = build_app(
            settings=settings,
            server=build_server(gate, [tool], requester, shows),
            gate=gate,
            identity=Identity(trusted, {"developer": ("arborgate-developers",)}, client=issuer.client),
            resource=protect_mcp(settings.url, trusted),
            recorder=world.audit,
            metrics=Metrics(),
            readiness=_ready,
            showing=[tool.name] if showing else (),
        )
        async with serving(app, settings):
            yield Doors(world, f"{settings.url}/mcp", issuer)


async def _ready() -> tuple[bool, dict[str, Any]]:
    return True, {}


async def call(client: Client, **arguments: Any) -> types.CallToolResult:
    return await client.call_tool("rollout_propose", {"app": "orders-api", **arguments})


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_a_client_that_can_shows_the_page_and_then_gets_the_answer(
    tmp_path: Path, redis_url: str, action: Action
) -> None:
    person = Person(action)
    async with open_doors(tmp_path, redis_url) as doors, doors.connected("2026-07-28", person) as client:
        result = await call(client)
        (proposal,) = await doors.ids()
        page = f"{doors.world.url}/proposals/{proposal}"
        assert result.structured_content == {"proposal": proposal, "state": "proposed", "page": page}
        assert [one.url for one in person.shown] == [page]
        assert proposal in person.shown[0].message
        assert (await doors.world.book.get(proposal)).state is ProposalState.PROPOSED, "it approves nothing"
        said = {"accept": "opened", "decline": "declined", "cancel": "dismissed, or never seen"}[action]
        assert doors.shown() == [("intended", ""), ("ok", said)]
        events = [one.event for one in doors.world.records() if one.caller == "https://issuer.test#ada"]
        assert events.index(Event.CALL_ANSWERED) < events.index(Event.PAGE_SHOWN), "the call is on record before"


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_can_not_gets_the_link_in_the_answer_at_once(
    tmp_path: Path, redis_url: str, era: str
) -> None:
    async with open_doors(tmp_path, redis_url) as doors, doors.connected(era, None) as client:
        result = await call(client)
        assert result.structured_content is not None
        assert result.structured_content["page"].endswith(result.structured_content["proposal"])
        assert doors.shown() == []


async def test_over_http_without_a_way_back_the_older_eras_get_the_link(tmp_path: Path, redis_url: str) -> None:
    person = Person()
    async with open_doors(tmp_path, redis_url) as doors, doors.connected("legacy", person) as client:
        result = await call(client)
        assert result.structured_content is not None
        assert result.structured_content["page"]
        assert (person.shown, doors.shown()) == ([], [])


async def test_the_setting_leaves_it_out(tmp_path: Path, redis_url: str) -> None:
    person = Person()
    async with (
        open_doors(tmp_path, redis_url, showing=False) as doors,
        doors.connected("2026-07-28", person) as client,
    ):
        assert (await call(client)).structured_content is not None
        assert (person.shown, doors.shown()) == ([], [])


async def test_what_waits_for_nobody_is_not_shown(tmp_path: Path, redis_url: str) -> None:
    person = Person()
    async with open_doors(tmp_path, redis_url) as doors, doors.connected("2026-07-28", person) as client:
        result = await call(client, refused=True)
        assert result.structured_content is not None
        assert result.structured_content["state"] == "withdrawn"
        assert person.shown == []


async def ask_raw(doors: Doors, subject: str = "ada", **more: Any) -> tuple[int, dict[str, Any]]:
    """One request of the 2026 protocol, as it is."""
    meta = {**bridging.META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}}
    params = {"name": "rollout_propose", "arguments": {"app": "orders-api"}, "_meta": meta, **more}
    headers = {
        "Authorization": f"Bearer {doors.token(subject)}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "rollout_propose",
    }
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30.0) as http:
        answer = await http.post(doors.url, content=json.dumps(body))
    return answer.status_code, answer.json()


async def test_to_ask_again_gives_the_same_answer_and_never_proposes_again(tmp_path: Path, redis_url: str) -> None:
    async with open_doors(tmp_path, redis_url) as doors:
        _, first = await ask_raw(doors)
        assert first["result"]["resultType"] == "input_required"
        assert first["result"]["inputRequests"]["page"]["params"]["mode"] == "url"
        state = first["result"]["requestState"]
        answers = [await ask_raw(doors, requestState=state) for _ in range(3)]
        assert len({answer["result"]["structuredContent"]["proposal"] for _, answer in answers}) == 1
        assert len(await doors.ids()) == 1


ELSEWHERE: dict[str, dict[str, Any]] = {
    "a state that nobody gave": {"requestState": "x" * 43},
    "an empty state": {"requestState": ""},
    "half a character": {"requestState": "\ud800"},
    "other arguments": {"arguments": {"app": "payments-api"}},
    "somebody else": {"subject": "eve"},
}


@pytest.mark.parametrize("changed", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_a_state_opens_only_its_own_answer_and_proposes_nothing(
    tmp_path: Path, redis_url: str, changed: dict[str, Any]
) -> None:
    async with open_doors(tmp_path, redis_url) as doors:
        _, first = await ask_raw(doors)
        (proposal,) = await doors.ids()
        _, answer = await ask_raw(doors, **{"requestState": first["result"]["requestState"], **changed})
        assert "error" in answer
        assert proposal not in str(answer)
        assert await doors.ids() == [proposal]


async def test_what_opens_an_answer_is_not_in_redis(tmp_path: Path, redis_url: str) -> None:
    async with open_doors(tmp_path, redis_url) as doors:
        _, first = await ask_raw(doors)
        redis, state = doors.world.state.redis, first["result"]["requestState"]
        assert not await redis.exists(doors.world.state.key("shown", state))
        kept = doors.world.state.key("shown", hashlib.sha256(state.encode()).hexdigest())
        assert 0 < await redis.ttl(kept) <= 900


async def test_a_page_that_can_not_be_recorded_is_not_shown_and_the_answer_goes_out(
    tmp_path: Path, redis_url: str
) -> None:
    class Full:
        async def write(self, entry: Entry) -> Any:
            raise Unrecorded("The log is full.")

    person = Person()
    async with (
        open_doors(tmp_path, redis_url, recorder=Full()) as doors,
        doors.connected("2026-07-28", person) as client,
    ):
        assert (await call(client)).structured_content is not None
        assert person.shown == []


async def test_with_showing_off_a_state_proposes_nothing_either(tmp_path: Path, redis_url: str) -> None:
    async with open_doors(tmp_path, redis_url, showing=False) as doors:
        _, answer = await ask_raw(doors, requestState="x" * 43)
        assert answer["error"]["data"]["field"] == "requestState"
        assert await doors.ids() == []


@pytest.mark.parametrize("era", ERAS)
async def test_through_the_bridge_the_page_is_shown_as_over_http(tmp_path: Path, redis_url: str, era: str) -> None:
    person = Person()
    async with open_doors(tmp_path, redis_url) as doors:
        login = bridging.prepare(tmp_path, doors.url, doors.token())
        async with bridging.connected(login, era, elicitation_callback=person.answer) as client:
            result = await call(client)
        assert result.structured_content is not None
        assert len(await doors.ids()) == 1
        assert len(person.shown) == (1 if era == "2026-07-28" else 0)


@asynccontextmanager
async def piped(
    folder: Path, redis_url: str, era: str, person: Person, patience: str = "3"
) -> AsyncIterator[tuple[World, Client]]:
    """A client over a pipe to a server of its own, and the world that they share."""
    program = Path(__file__).parent / "proposing.py"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "REDIS_URL": redis_url,
        "PATIENCE": patience,
    }
    parameters = StdioServerParameters(
        command=sys.executable, args=[str(program), str(folder / "its")], env=environment
    )
    with (folder / "errors.txt").open("w") as errors:
        transport = stdio_client(parameters, errlog=errors)
        callbacks: dict[str, Any] = {"elicitation_callback": person.answer, "message_handler": person.hear}
        async with (
            open_world(folder / "ours", redis_url) as world,
            Client(transport, mode=era, **callbacks) as client,
        ):
            yield world, client


@pytest.mark.parametrize("era", ERAS)
async def test_over_a_pipe_both_eras_are_shown_the_page(tmp_path: Path, redis_url: str, era: str) -> None:
    person = Person()
    async with piped(tmp_path, redis_url, era, person) as (world, client):
        result = await call(client)
        assert result.structured_content is not None
        assert [one.url for one in person.shown] == [result.structured_content["page"]]
        assert len((await world.book.list(ProposalQuery())).proposals) == 1
    told = [
        record for record, _ in read_records(tmp_path / "its" / "serve-1.jsonl") if record.event is Event.PAGE_SHOWN
    ]
    assert [(record.outcome, record.detail) for record in told] == [("intended", ""), ("ok", "opened")]


async def test_over_a_pipe_nobody_who_is_slow_holds_up_the_answer(tmp_path: Path, redis_url: str) -> None:
    person = Person()
    person.ready.clear()
    async with piped(tmp_path, redis_url, "legacy", person, patience="0.2") as (_, client), asyncio.timeout(30):
        assert (await call(client)).structured_content is not None
        assert len(person.shown) == 1
        person.ready.set()


async def test_over_a_pipe_the_client_hears_when_it_was_decided(tmp_path: Path, redis_url: str) -> None:
    person = Person()
    async with piped(tmp_path, redis_url, "legacy", person) as (world, client):
        result = await call(client)
        assert result.structured_content is not None
        proposal = await world.book.get(result.structured_content["proposal"])
        assert person.completed == []
        april = await world.enter("april", "approver")
        assert (await april.decide(proposal)).status_code == 303
        async with asyncio.timeout(10):
            while not person.completed:
                await asyncio.sleep(0.02)
        assert person.completed == [person.shown[0].elicitation_id]


async def test_a_client_that_fails_to_show_it_gets_the_answer(tmp_path: Path, redis_url: str) -> None:
    class Clumsy(Person):
        async def answer(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
            raise MCPError(code=types.INTERNAL_ERROR, message="no browser here")

    async with piped(tmp_path, redis_url, "legacy", Clumsy()) as (_, client):
        assert (await call(client)).structured_content is not None
