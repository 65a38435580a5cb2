"""A small world for the applier: three apps in waves, people who ask and approve, real Redis, shipped policies."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from typing import Any

import orjson
from joserfc.jwk import OKPKey
from redis.asyncio import Redis

from arborgate.policies.engine import Engine
from arborgate.policies.errors import Unrecorded
from arborgate.policies.loader import read_policies
from arborgate.policies.model import Binding, Caller, Channel
from arborgate.server.approvals import new_signing_key, sign_approval
from arborgate.server.approvers import Pinned
from arborgate.server.background import finishing
from arborgate.server.gates import Gates
from arborgate.server.holds import Holds
from arborgate.server.identity.roles import roles_of
from arborgate.server.leases import Leases
from arborgate.server.pace import Pace
from arborgate.server.parents import Parents
from arborgate.server.probes import Prober
from arborgate.server.proposals import ProposalBook
from arborgate.server.settings import ProposalSettings, Settings
from arborgate.server.siblings import Baselines
from arborgate.server.state import State
from arborgate.server.verification import Verifier
from arborgate.server.worker import Worker
from arborgate.tools.argocd.changes import app_target, plan_set_revision, plan_sync
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.change import Change
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.plan import write_title
from arborgate.tools.proposal import Approval, Draft, Hold, Order, Proposal, Requester, Verdict
from arborgate.tools.record import Entry, Record
from arborgate.tools.redis.connection import connect
from arborgate.tools.redis.source import RedisState
from arborgate.tools.risk import Risk, find_factors
from arborgate.tools.rollouts.changes import plan_restart, plan_scale, workload_target
from arborgate.tools.tree import AppId, AppTree, Node
from tests.policies.writing import TRUSTING
from tests.server.applier.cluster import StandInCluster, make_app, make_deployment

PREFIX = "{arborgate}:"
CLUSTER = "main"
APPS = {"db": 0, "api": 1, "web": 2}
LEASE = 0.02
DEADLINE = 20.0
EMERGENCY = "Checkout is down for everybody since 02:40."


class Clock:
    """Time that only passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Recorded:
    """An audit log in memory, which can be full."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.full = False

    async def write(self, entry: Entry) -> Record:
        if self.full:
            raise Unrecorded("The audit log can't be written.")
        self.entries.append(entry)
        return Record(**asdict(entry), seq=len(self.entries), time="", replica="test", prev="", hash="")

    def told(self, *, outcome: str = "") -> list[tuple[str, str]]:
        """Event and outcome of each entry, in order."""
        return [(one.event, one.outcome) for one in self.entries if not outcome or one.outcome == outcome]


def make_person(name: str, group: str, *, channel: Channel = Channel.MCP, logged_in: float = 0) -> Caller:
    return Caller(
        issuer="https://issuer.test",
        subject=name,
        name=name.title(),
        groups=frozenset({group}),
        roles=roles_of({group}, Settings().roles),
        agent="" if channel is Channel.PAGES else "copilot",
        channel=channel,
        binding=Binding.SESSION if channel is Channel.PAGES else Binding.BEARER,
        authenticated_at=int(logged_in),
    )


DEV = make_person("dev", "arborgate-developers")


@cache
def signing_key() -> OKPKey:
    return OKPKey.import_key(orjson.loads(new_signing_key()[0]))


@cache
def load_engine() -> Engine:
    return Engine(read_policies(None)[0], surroundings=TRUSTING)


class World:
    """Everything one applier works with; `make_worker` makes another one, as another process would be."""

    def __init__(
        self,
        redis: Redis,
        *,
        environment: str = "production",
        approvals: int = 1,
        health_timeout: float = 300.0,
        engine: Engine | None = None,
    ) -> None:
        self.engine = engine or load_engine()
        self.redis = redis
        self.clock = Clock()
        self.health_timeout = health_timeout
        self.audit = Recorded()
        self.cluster = StandInCluster()
        self.state = State(redis, PREFIX)
        rules = (EnvironmentRule(name="production", strict=True, labels={"env": "production"}),)
        lower = [EnvironmentRule(name=name, labels={"env": name}) for name in ("staging", "dev")]
        self.environments = Environments((*rules, *lower))
        self.settings = Settings(
            environments=rules,
            proposals=ProposalSettings(expire_after=3600, approvals_low=1, approvals_high=approvals),
        )
        self.tree = AppTree(self.environments, now=self.clock)
        self.tree.heard(CLUSTER, "1", time.monotonic())
        for name, wave in APPS.items():
            self.cluster.add(make_app(name, wave=wave, environment=environment))
            self.cluster.add(make_deployment(name))
            self.relist(name)
        self.pinned: Pinned | None = None
        self.parents: Parents | None = None
        self.prober: Prober | None = None
        self.holds = Holds(self.state)
        self.book = self.make_book()
        self.worker = self.make_worker()

    def relist(self, name: str) -> None:
        parser = AppParser(CLUSTER, self.environments, {})
        self.tree.put(parser.parse(self.cluster.get("Application", name)))

    def node(self, name: str) -> Node:
        node = self.tree.get(AppId(CLUSTER, "argocd", name))
        assert node is not None
        return node

    def make_book(self) -> ProposalBook:
        return ProposalBook(self.state, self.audit, self.settings.proposals, self.clock)

    def make_verifier(self, engine: Engine | None = None) -> Verifier:
        return Verifier(
            engine=lambda: engine or self.engine,
            tree=self.tree,
            environments=self.environments,
            key=OKPKey.import_key(signing_key().as_dict(private=False)),
            settings=self.settings,
            clusters=(CLUSTER,),
            pinned=self.pinned,
            clock=self.clock,
            parents=self.parents,
        )

    def make_worker(self, book: ProposalBook | None = None, *, seconds: float = LEASE) -> Worker:
        return Worker(
            state=self.state,
            book=book or self.book,
            leases=Leases(self.state, secrets.token_hex(8), seconds),
            verifier=self.make_verifier(),
            writer=self.cluster,
            pace=Pace(self.clock.sleep, self.clock, 1.0, 5.0, self.health_timeout),
            holds=self.holds,
            gates=self.make_gates(),
        )

    def make_gates(self) -> Gates:
        return Gates(
            writer=self.cluster,
            tree=self.tree,
            prober=self.prober or Prober(self.settings.applier.probes, RedisState({}), {}),
            baselines=Baselines(self.state),
            settings=self.settings.applier,
            clock=self.clock,
        )

    async def order(self, proposal: Proposal, order: Order | None, comment: str = "Look at the logs.") -> None:
        """What somebody tells the applier, or takes back."""
        who = Requester.of(self.approver())
        hold = Hold(order=order, by=who, comment=comment, at=self.clock()) if order else None
        await self.state.redis.delete(self.holds._key(proposal.id))
        if hold is not None:
            await self.state.redis.set(self.holds._key(proposal.id), hold.model_dump_json())

    def scale(self, name: str, replicas: int = 3) -> Change:
        node = self.node(name)
        live = self.cluster.get("Deployment", name)
        return plan_scale(node, workload_target(node, f"Deployment/{name}", ()), live, replicas=replicas).change

    def restart(self, name: str) -> Change:
        node = self.node(name)
        target = workload_target(node, f"Deployment/{name}", ())
        return plan_restart(node, target, self.cluster.get("Deployment", name), now=self.clock()).change

    def sync(self, name: str) -> Change:
        return plan_sync(self.node(name), self.cluster.get("Application", name)).change

    def set_revision(self, name: str, revision: str = "v2") -> Change:
        node = self.node(name)
        live = self.cluster.get("Application", app_target(node.app).name)
        return plan_set_revision(node, live, revision=revision).change

    def environments_of(self, changes: Iterable[Change]) -> tuple[str, ...]:
        nodes = [self.tree.find(one.target.app) for one in changes]
        return tuple(sorted({node.app.environment for node in nodes if node}))

    async def draft(self, changes: Iterable[Change], *, by: Caller = DEV, risk: Risk = Risk.HIGH) -> Proposal:
        planned = tuple(changes)
        draft = Draft(
            title=write_title(planned),
            reason="It is slow.",
            changes=planned,
            environments=self.environments_of(planned),
            risk=risk,
            factors=find_factors(planned, self.tree, self.environments),
        )
        return await self.book.draft(by, draft)

    async def propose(self, *changes: Change) -> Proposal:
        """Drafted and rehearsed."""
        drafted = await self.draft(changes)
        await self.worker.advance(drafted.id)
        return await self.book.get(drafted.id)

    async def approved(self, *changes: Change) -> Proposal:
        proposal = await self.propose(*changes)
        assert proposal.state == "proposed", proposal.state_note
        return await self.book.decide(self.vote(proposal))

    def approver(self, name: str = "ana") -> Caller:
        return make_person(name, "arborgate-approvers", channel=Channel.PAGES, logged_in=self.clock() - 60)

    def responder(self, name: str = "rita") -> Caller:
        return make_person(name, "arborgate-responders", channel=Channel.PAGES, logged_in=self.clock() - 60)

    def vote(
        self,
        proposal: Proposal,
        verdict: Verdict = Verdict.APPROVE,
        *,
        by: Caller | None = None,
        key: OKPKey | None = None,
        **fields: Any,
    ) -> Approval:
        """A signed one; `fields` replace any of its own."""
        breaking = verdict is Verdict.BREAK_GLASS
        caller = by or (self.responder() if breaking else self.approver())
        approval = Approval(
            proposal=proposal.id,
            digest=proposal.digest,
            verdict=verdict,
            approver=Requester.of(caller),
            comment=EMERGENCY if breaking else "",
            at=self.clock(),
            authenticated_at=caller.authenticated_at,
            session="session",
            until=self.clock() + self.settings.proposals.break_glass_lasts if breaking else 0.0,
        )
        return sign_approval(approval.model_copy(update=fields), key or signing_key())

    def replicas(self) -> dict[str, int]:
        return {name: self.cluster.get("Deployment", name)["spec"]["replicas"] for name in APPS}

    async def forge(self, proposal_id: str, **fields: str) -> None:
        """What somebody with write access to Redis could do by hand."""
        for name, value in fields.items():
            await self.redis.hset(f"{PREFIX}proposal:{proposal_id}", name, value)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """A client of a test's own. What still asks by it once the test is over is ended first: the tests share an event loop,
    and it would connect anew, for nobody to close."""
    async with connect(url) as client, finishing(0.0):
        yield client


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Looks until it holds; fails naming `what` when that takes too long."""
    ends = time.monotonic() + DEADLINE
    while not await condition():
        assert time.monotonic() < ends, f"not in time: {what}"
        await asyncio.sleep(0.005)
