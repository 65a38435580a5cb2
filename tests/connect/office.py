"""An Arborgate to log in at: the real door, gate and proofs, and tools that ask for more than a plain login."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx2

from arborgate.policies.errors import LoginNeeded, ScopeNeeded
from arborgate.server.audit import AuditLog
from arborgate.server.chain import read_records
from arborgate.server.connect.asking import Manner
from arborgate.server.connect.authorization import Authorization
from arborgate.server.connect.discovery import find_mcp
from arborgate.server.connect.entries import Entry, Place, Slot, Tokens
from arborgate.server.connect.session import Session
from arborgate.server.connect.store import Store
from arborgate.server.connect.web import Web
from arborgate.server.http import build_app, requester
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import ConnectSettings, DpopSettings, IdentitySettings, IssuerSettings
from arborgate.server.mcp import build_server
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp
from arborgate.server.settings import HttpSettings
from arborgate.server.state import State
from arborgate.tools.identity.tools import build_whoami
from arborgate.tools.record import Event, Record
from arborgate.tools.redis.connection import connect
from arborgate.tools.tool import Context, Tool
from tests.parts.oidc import TWO_FACTORS, OidcProvider
from tests.parts.process import find_free_ports
from tests.server.serving import serving
from tests.server.test_gate import Asked, Told, make_tool, open_world
from tests.server.web.walk import walk

VIEWERS = {"viewer": ("arborgate-viewers",), "developer": ("arborgate-developers",)}
WIDER = "arborgate:propose"
"""The scope that the tool wants for the note `wider`."""


@dataclass
class Office:
    """The Arborgate at `url`. `state` is where logins are kept, `said` what people were told, `shown` which URLs were
    opened for them."""

    url: str
    provider: OidcProvider
    log: AuditLog
    state: Path
    said: list[str] = field(default_factory=list)
    shown: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    walking: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def slot(self) -> Slot:
        return Slot(f"{self.url}/mcp")

    def store(self) -> Store:
        return Store(self.state, self.said.append, lambda: None)

    def kept(self) -> Entry:
        entry = self.store().read(self.slot)
        assert entry is not None
        return entry

    def expire(self) -> None:
        """Makes the kept access token one that has run out, for whoever reads it from now on."""
        entry = self.kept()
        assert entry.tokens is not None
        self.store().write(
            self.slot, entry.model_copy(update={"tokens": entry.tokens.model_copy(update={"ends": 1.0})})
        )

    def session(self, *, person: str = "", find: Any = None, **manner: Any) -> Session:
        """With `person`, their browser goes through every login by itself."""

        async def find_here(web: Web) -> Place:
            return await find_mcp(web, self.slot.resource)

        def show(url: str) -> None:
            self.shown.put_nowait(url)
            if person:
                self.walking.append(asyncio.create_task(asyncio.to_thread(walk, url, person)))

        store = self.store()
        clock = manner.pop("clock", time.time)
        settings = {"show": show, "command": f"arborgate login {self.url}", "wait": 10.0, **manner}
        return Session(
            self.slot, store, find or find_here, manner=Manner(**settings), say=self.said.append, clock=clock
        )

    async def ask(self, session: Session, note: str = "", app: str = "api") -> httpx2.Response:
        """Calls the tool as the session's person."""
        params = {"name": "app_get", "arguments": {"app": app, "note": note}}
        accept = {"Accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(auth=Authorization(session), trust_env=False) as client:
            asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            return await client.post(self.slot.resource, json=asked, headers=accept)

    def records(self, *events: Event) -> list[Record]:
        return [record for record, _ in read_records(self.log.path) if record.event in events]


async def log_in(office: Office, person: str = "vera", **settings: Any) -> Tokens:
    """Logs in and returns what is kept."""
    async with office.session(person=person, **settings) as session:
        await session.log_in()
    tokens = office.kept().tokens
    assert tokens is not None
    return tokens


def kept_tokens(office: Office) -> Tokens:
    tokens = office.kept().tokens
    assert tokens is not None
    return tokens


@asynccontextmanager
async def open_office(
    folder: Path,
    redis_url: str,
    provider: OidcProvider,
    *,
    connect_as: Mapping[str, Any] | None = None,
    dpop: Mapping[str, Any] | None = None,
    **issuer: Any,
) -> AsyncIterator[Office]:
    """`issuer` are settings of the one issuer, `connect_as` and `dpop` of those parts of identity."""
    http = HttpSettings(port=find_free_ports(1)[0])
    settings = IdentitySettings(
        issuers=(IssuerSettings(issuer=provider.issuer, **issuer),),
        connect=ConnectSettings(**(connect_as or {})),
        dpop=DpopSettings(**(dpop or {})),
    )

    async def run(ctx: Context, params: Asked) -> Told:
        if params.note == "strong" and ctx.caller.acr != TWO_FACTORS:
            raise LoginNeeded(300, (TWO_FACTORS,))
        if params.note == "wider" and any(scope == WIDER for _, scope in ctx.caller.withheld):
            raise ScopeNeeded(WIDER)
        return Told(app=params.app, note=f"{ctx.caller.binding}: {ctx.caller.subject}")

    tool = make_tool(run)
    tools = [cast("Tool[Asked, Told]", build_whoami([tool])), tool]
    state = State(connect(redis_url), "arborgate:")
    proofs = Proofs(settings.dpop, Replays(state, settings.dpop), Nonces(state, settings.dpop))
    async with open_world(folder / "record", *tools) as world, httpx2.AsyncClient(trust_env=False) as client:
        app = build_app(
            settings=http,
            server=build_server(world.gate, tools, requester),
            gate=world.gate,
            identity=Identity(settings, VIEWERS, client=client, safeguards=Safeguards(proofs=proofs)),
            resource=protect_mcp(http.url, settings),
            recorder=world.log,
            metrics=Metrics(),
            readiness=_ready,
        )
        async with serving(app, http):
            office = Office(http.url, provider, world.log, folder / "state" / "arborgate")
            yield office
            await asyncio.gather(*office.walking)
    await state.redis.aclose()


async def _ready() -> tuple[bool, Mapping[str, Any]]:
    return True, {}
