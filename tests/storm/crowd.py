"""The agents that propose and the person who approves, over HTTP, however often the server dies under them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
from redis.exceptions import RedisError

from arborgate.policies.errors import ArborgateError
from arborgate.server.audit import AuditLog
from arborgate.server.background import running
from arborgate.server.proposals import ProposalBook
from arborgate.server.settings import ProposalSettings
from arborgate.server.state import State
from arborgate.tools.proposal import ProposalQuery, ProposalState, Release, Requester
from tests.parts.process import PartFailed

from .fleet import Fleet
from .landscape import BROKEN, FORBIDDEN, STARVED, mend

Json = dict[str, Any]

PROTOCOL = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": PROTOCOL,
    "io.modelcontextprotocol/clientInfo": {"name": "storm", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_AGAIN = 0.2
_PATIENCE = 180.0
_FAILED = ProposalQuery(states=(ProposalState.FAILED,), limit=100)
_NOBODY: Json = {"groups": (), "roles": (), "agent": ""}
ENDED = frozenset({"applied", "failed", "rolled_back", "rejected", "withdrawn", "expired", "stale", "refused"})


@dataclass
class Crowd:
    """Makes proposals until there are enough. `approved` are those whose approval was answered for, by their ids."""

    fleet: Fleet
    apps: list[str]
    seed: int
    approved: set[str] = field(default_factory=set)
    proposed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(f"crowd {self.seed}")
        self._busy: set[str] = set()
        self._tokens: dict[str, str] = {}

    async def work(self, count: int, at_once: int, pace: Any) -> None:
        """`count` proposals, so many at once; `pace(number)` is awaited before each."""
        numbers = iter(range(count))
        async with httpx2.AsyncClient(base_url=self.fleet.url, trust_env=False, timeout=10) as client:

            async def one() -> None:
                for number in numbers:
                    await pace(number)
                    await self._propose_and_approve(client)
                    self.proposed += 1

            await asyncio.gather(*(one() for _ in range(at_once)))
            await self._sweep(client)

    async def _propose_and_approve(self, client: httpx2.AsyncClient) -> None:
        """One proposal to its end. Mostly of apps that no other proposal is about; what collides goes stale."""
        apps = self._pick()
        self._busy.update(apps)
        try:
            proposal = await self._propose(client, apps)
            if await self._await_state(proposal, {"proposed"} | ENDED) == "proposed":
                await self._approve(client, proposal)
                await self._await_state(proposal, ENDED)
        finally:
            self._busy.difference_update(apps)

    def _pick(self) -> list[str]:
        free = [name for name in self.apps if name not in self._busy]
        count = self._random.choice((1, 1, 1, 2, 3))
        return self._random.sample(free if len(free) >= count and self._random.random() < 0.9 else self.apps, count)

    async def _propose(self, client: httpx2.AsyncClient, apps: list[str]) -> str:
        """The id of what was proposed. Where an answer is lost it is proposed again, and then there may be two."""
        ends = time.monotonic() + _PATIENCE
        while True:
            assert time.monotonic() < ends, f"nothing could be proposed of {apps} in {_PATIENCE:g} s"
            changes = [self._invent(app) for app in apps]
            arguments = {"reason": "The storm wants it to be so.", "changes": changes}
            answer = await self._send(client, "dev", "/mcp", *_describe_call("rollout_propose", arguments))
            result = (answer or {}).get("result", {})
            if not result or result.get("isError"):
                await asyncio.sleep(_AGAIN)
                continue
            return cast("str", result["structuredContent"]["proposal"])

    def _invent(self, app: str) -> Json:
        kind = self._random.choices(("scale", "restart", "sync", "set_revision", "fail"), (4, 1, 3, 3, 3))[0]
        if kind == "scale":
            return {"app": app, "kind": kind, "workload": f"Deployment/{app}", "replicas": self._random.randint(2, 9)}
        if kind == "restart":
            return {"app": app, "kind": kind, "workload": f"Deployment/{app}"}
        if kind == "fail" and self._random.random() < 0.5:
            return {"app": app, "kind": "sync", "revision": f"{BROKEN}-{self._random.randrange(10**6)}"}
        if kind == "fail":
            replicas = self._random.choice((STARVED, FORBIDDEN))
            return {"app": app, "kind": "scale", "workload": f"Deployment/{app}", "replicas": replicas}
        return {"app": app, "kind": kind, "revision": f"v{self._random.randrange(10**6)}"}

    async def _approve(self, client: httpx2.AsyncClient, proposal: str) -> None:
        """Until it is answered, or somebody else has decided."""
        while await self._read(proposal, "state") == "proposed":
            body = {"digest": await self._read(proposal, "digest")}
            answer = await self._send(client, "april", f"/approvals/{proposal}/approve", {}, body)
            if answer and answer.get("state") == "approved":
                self.approved.add(proposal)
                return
            await asyncio.sleep(_AGAIN)

    async def _sweep(self, client: httpx2.AsyncClient) -> None:
        """What was proposed although the answer was lost has to come to an end too."""
        for proposal in await self._ask_redis(lambda: self.fleet.redis.admin.zrange("{arborgate}:proposals", 0, -1)):
            if await self._await_state(proposal.decode(), {"proposed"} | ENDED) == "proposed":
                await self._approve(client, proposal.decode())
        for proposal in await self._ask_redis(lambda: self.fleet.redis.admin.zrange("{arborgate}:proposals", 0, -1)):
            await self._await_state(proposal.decode(), ENDED)

    async def _await_state(self, proposal: str, states: set[str] | frozenset[str]) -> str:
        ends = time.monotonic() + _PATIENCE
        while (state := await self._read(proposal, "state")) not in states:
            self.fleet.watch_over()
            assert time.monotonic() < ends, f"{proposal} is still {state} after {_PATIENCE:g} s"
            await asyncio.sleep(0.1)
        return state

    async def _read(self, proposal: str, field_name: str) -> str:
        key = f"{{arborgate}}:proposal:{proposal}"
        return cast("bytes", await self._ask_redis(lambda: self.fleet.redis.admin.hget(key, field_name))).decode()

    async def _ask_redis(self, ask: Any) -> Any:
        """Past `serve`, so that looking costs it nothing; until Redis is there to answer."""
        while True:
            try:
                return await asyncio.to_thread(ask)
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN)

    async def _send(
        self, client: httpx2.AsyncClient, person: str, path: str, headers: Mapping[str, str], body: Json
    ) -> Json | None:
        """The answer to one request, or None when there was none that says anything."""
        try:
            token = await self._log_in(person)
            answer = await client.post(path, headers={**headers, "Authorization": f"Bearer {token}"}, json=body)
            return cast("Json", answer.json()) if answer.is_success else None
        except (httpx2.HTTPError, PartFailed, ValueError):
            return None

    async def _log_in(self, person: str) -> str:
        if person not in self._tokens:
            log_in = self.fleet.terminal_token if person == "april" else self.fleet.token
            self._tokens[person] = await asyncio.to_thread(log_in, person)
        return self._tokens[person]


@asynccontextmanager
async def releasing(fleet: Fleet, state: State) -> AsyncIterator[None]:
    """Somebody who mends what could not be undone, and only then lets others change it again."""
    by = Requester(key="https://issuer.test#otto", issuer="https://issuer.test", subject="otto", name="Otto", **_NOBODY)

    async def release(book: ProposalBook) -> None:
        while True:
            await asyncio.sleep(1.0)
            with suppress(ArborgateError, httpx2.HTTPError):
                for proposal in (await book.list(_FAILED)).proposals:
                    if proposal.stuck:
                        await asyncio.to_thread(mend, fleet, proposal.content.changes)
                        await book.release(proposal.id, Release(by=by, comment="Seen to.", at=time.time()))

    async with (
        AuditLog.open(fleet.record, "otto") as audit,
        running(release(ProposalBook(state, audit, ProposalSettings()))),
    ):
        yield


def _describe_call(tool: str, arguments: Mapping[str, Any]) -> tuple[dict[str, str], Json]:
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    params = {"name": tool, "arguments": dict(arguments), "_meta": _META}
    return headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
