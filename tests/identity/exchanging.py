"""Replicas that exchange tokens, behind one public URL: real sockets, a real Redis, proofs, policies and gate, one issuer,
and a tree with the apps of a shop."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies
from arborgate.policies.model import Caller, Channel
from arborgate.server.http import build_app, requester
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.child_tokens import ChildTokens
from arborgate.server.identity.exchange import ACCESS_TOKEN, EXCHANGE_PATH, GRANT_TYPE, TokenExchange
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.own_keys import OwnKeys
from arborgate.server.identity.presenting import Presented, Scheme
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import (
    DpopSettings,
    ExchangeSettings,
    Grant,
    IdentitySettings,
    IssuerSettings,
    LimitSettings,
)
from arborgate.server.limits import SharedLimits
from arborgate.server.mcp import build_server
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp
from arborgate.server.settings import HttpSettings, StateSettings
from arborgate.server.state import open_state
from tests.identity.proving import Prover
from tests.parts.process import find_free_ports
from tests.policies.writing import TRUSTING
from tests.server.issuing import ISSUER, Issuer
from tests.server.serving import serving
from tests.server.test_shortcut import HEADERS, make_call
from tests.tools.world import TOOLS, World, make_app

URL = "http://127.0.0.1:8484"
SHOP = "main/argocd/shop"
CHILD = "main/argocd/orders-api"
ROLES = {
    "controller": (Grant(group="shop-controllers", at=SHOP), "platform-controllers"),
    "viewer": (Grant(group="shop-controllers", at=SHOP), "viewers"),
    "developer": (Grant(group="shop-controllers", at=SHOP), "arborgate-developers"),
}
POLICIES = load_policies(None)


class Clock:
    """The time of day, put forward by the test alone."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Replica:
    """One replica; `world` has its tree and its record."""

    http: httpx2.AsyncClient
    world: World
    issuer: Issuer
    keys: OwnKeys
    tokens: ChildTokens
    identity: Identity
    clock: Clock

    def controller(self, **changes: Any) -> str:
        """The access token of the shop's controller, which acts for itself."""
        names = {"sub": "shop-controller", "client_id": "shop-controller", "name": "Shop controller"}
        ends = int(self.clock()) + 600  # well behind the end of what it is exchanged for
        return self.issuer.token(**{**names, "groups": ["shop-controllers"], "jti": "t-1", "exp": ends, **changes})

    async def exchange(
        self, token: str, prover: Prover, *, proof: str | None = None, form: Any = None, **fields: str | None
    ) -> httpx2.Response:
        """One exchange for the child; None takes a field of the form away, `proof=""` the proof."""
        asked = {
            "grant_type": GRANT_TYPE,
            "subject_token": token,
            "subject_token_type": ACCESS_TOKEN,
            "audience": CHILD,
            **fields,
        }
        headers = {"DPoP": self.prove(prover, EXCHANGE_PATH) if proof is None else proof}
        if form is not None:
            return await self.http.post(EXCHANGE_PATH, headers=headers, **form)
        data = {name: value for name, value in asked.items() if value is not None}
        return await self.http.post(EXCHANGE_PATH, headers={k: v for k, v in headers.items() if v}, data=data)

    async def child_token(self, prover: Prover, token: str = "", **fields: str) -> str:
        """A token for the child; the exchange must succeed."""
        answer = await self.exchange(token or self.controller(), prover, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def call(self, token: str, prover: Prover, tool: str = "app_get", **arguments: Any) -> httpx2.Response:
        """One call of a tool with a bound token."""
        headers = {
            **HEADERS,
            "Mcp-Name": tool,
            "Authorization": f"DPoP {token}",
            "DPoP": self.prove(prover, "/mcp", token),
        }
        return await self.http.post("/mcp", headers=headers, content=json.dumps(make_call(arguments, name=tool)))

    async def authenticate(
        self, token: str, prover: Prover, *, audience: str = f"{URL}/mcp", channel: Channel = Channel.MCP
    ) -> Caller:
        presented = Presented(Scheme.DPOP, self.prove(prover, "/mcp", token), "POST", f"{URL}/mcp")
        return await self.identity.authenticate(token, audience=audience, channel=channel, presented=presented)

    def prove(self, prover: Prover, path: str, token: str = "", **claims: Any) -> str:
        return prover.prove(token, **{"htu": f"{URL}{path}", "iat": int(self.clock()), **claims})


@asynccontextmanager
async def open_replicas(
    folder: Path,
    redis_url: str,
    count: int = 1,
    *,
    issuer: Mapping[str, Any] | None = None,
    burst: int = 100,
    **exchange: Any,
) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as stack:
        provider = Issuer()
        await stack.enter_async_context(provider.client)
        clock = Clock()
        trusted = IssuerSettings.model_validate({"issuer": ISSUER, **(issuer or {})})
        settings = IdentitySettings(
            issuers=(trusted,),
            exchange=ExchangeSettings(**exchange),
            limits=LimitSettings(rate=0.5, burst=burst),
        )
        replicas = []
        for number in range(count):
            state = open_state(StateSettings(url=redis_url, timeout=2.0))
            stack.push_async_callback(state.redis.aclose)
            keys = OwnKeys(state, rotate=settings.exchange.rotate, clock=clock)
            stack.push_async_callback(keys.close)
            tokens = ChildTokens(URL, settings.exchange, settings.issuers, ROLES, keys, clock=clock)
            dpop = DpopSettings()
            proofs = Proofs(dpop, Replays(state, dpop), Nonces(state, dpop, clock=clock), clock=clock)
            safeguards = Safeguards(proofs=proofs, own=tokens.trusted)
            identity = Identity(settings, ROLES, client=provider.client, safeguards=safeguards, clock=clock)
            place = folder / str(number)
            place.mkdir()
            apps = [make_app("shop"), make_app("bank"), make_app("orders-api", parent="shop")]
            apps += [make_app("payments", parent="shop"), make_app("vault", parent="bank")]
            world = World(place, *apps)
            world.engine = Engine(POLICIES, surroundings=TRUSTING)
            limits = SharedLimits(settings.limits, state, world.records)
            stack.push_async_callback(limits.close)
            endpoint = TokenExchange(
                URL,
                identity=identity,
                tokens=tokens,
                engine=lambda world=world: world.engine,  # type: ignore[misc]  # bound now, as a default
                tree=world.tree,
                limits=limits,
                recorder=world.records,
                metrics=Metrics(),
            )
            http_settings = HttpSettings(port=find_free_ports(1)[0], public_url=URL)
            app = build_app(
                settings=http_settings,
                server=build_server(world._gate, TOOLS, requester),
                gate=world._gate,
                identity=identity,
                resource=protect_mcp(URL, settings),
                recorder=world.records,
                metrics=Metrics(),
                readiness=_ready,
                limits=limits,
                pages=[*endpoint.routes(), *keys.routes()],
            )
            await stack.enter_async_context(serving(app, http_settings))
            address = f"http://127.0.0.1:{http_settings.port}"
            http = await stack.enter_async_context(httpx2.AsyncClient(base_url=address, trust_env=False))
            replicas.append(Replica(http, world, provider, keys, tokens, identity, clock))
        yield replicas


async def _ready() -> tuple[bool, Mapping[str, Any]]:
    return True, {}
