"""A gate with `rollout_propose` on live objects of a cluster, and proposals kept in a real Redis."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from redis.asyncio import Redis

from arborgate.policies.engine import Engine
from arborgate.policies.errors import ArborgateError
from arborgate.policies.loader import read_policies
from arborgate.policies.model import Caller
from arborgate.server.gate import Answer, CallerPolicy, Gate
from arborgate.server.metrics import Metrics
from arborgate.server.proposals import ProposalBook
from arborgate.server.redaction import Redactor
from arborgate.server.settings import ProposalSettings
from arborgate.server.state import State
from arborgate.tools.change import Rehearsal
from arborgate.tools.kubernetes.changes import ClusterWriter
from arborgate.tools.kubernetes.source import Clusters, connect
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.proposal import Proposal, ProposalQuery, ProposalState
from arborgate.tools.rollouts.tools import TOOLS
from arborgate.tools.tool import AnyTool, Context
from tests.contract.clusters import Sandbox, run_sandbox
from tests.parts.kube import Identity
from tests.policies.writing import TRUSTING
from tests.tools.rollouts.applications import (
    CLUSTER,
    ENVIRONMENTS,
    SELF_HEAL,
    make_application,
    make_tree,
    make_workload,
)
from tests.tools.world import ADA, NOW, MemoryRecords, make_caller

API = "registry.example.org/shop/api"
REASON = "The release of this morning fails its health check."
VIEWER = make_caller("vera")

POLICIES = """
@id("everyone-reads")
permit (principal, action in Action::"read", resource);

@id("developers-propose")
permit (principal in Role::"developer", action in Action::"propose", resource);

@id("hidden-apps-are-hidden")
forbid (principal, action in [Action::"app:read", Action::"rollout:propose"], resource is App)
when { resource.labels.contains("hidden=yes") };

@id("nobody-proposes-on-vault")
forbid (principal, action == Action::"rollout:propose", resource is App)
when { resource.name == "vault" };
"""


NEW = "Nothing that this person proposed was applied before."


@dataclass
class Bench:
    """A gate with the one tool (or others), and what stands behind it."""

    gate: Gate
    book: ProposalBook
    records: MemoryRecords
    sandbox: Sandbox
    clusters: Clusters

    async def call(self, *changes: dict[str, Any], caller: Caller = ADA, reason: str = REASON, **more: Any) -> Answer:
        return await self.gate.call(caller, "rollout_propose", {"reason": reason, "changes": list(changes), **more})

    async def propose(self, *changes: dict[str, Any]) -> tuple[dict[str, Any], Proposal]:
        """The structured answer of a call that must succeed, and the proposal that is kept."""
        answer = await self.call(*changes)
        assert answer.error is None, (answer.error, self.records.written[-1].detail)
        assert answer.structured is not None
        return dict(answer.structured), await self.book.get(answer.structured["proposal"])

    async def fail(self, *changes: dict[str, Any], caller: Caller = ADA) -> ArborgateError:
        """The error of a call that must not succeed, which leaves no proposal behind."""
        answer = await self.call(*changes, caller=caller)
        assert answer.error is not None
        assert not (await self.book.list(ProposalQuery())).proposals
        return answer.error


def make_world() -> list[dict[str, Any]]:
    hidden = make_application("hidden")
    hidden["metadata"]["labels"]["hidden"] = "yes"
    child = make_application("child")
    child["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "root:argoproj.io/Application:argocd/child"
    return [
        make_application("api"),
        make_application("web", wave=1),
        make_application("healing", policy=SELF_HEAL),
        make_application("live", env="prod"),
        make_application("vault"),
        make_application("root", policy=SELF_HEAL),
        child,
        hidden,
        *(make_application(f"app-{number}") for number in range(4)),
    ]


@asynccontextmanager
async def running(
    redis: Redis,
    folder: Path,
    *more: dict[str, Any],
    rehearsal_wait: float = 3.0,
    sources: Mapping[type[Any], Any] | None = None,
    tools: Sequence[AnyTool] = TOOLS,
    ladder: PromotionSettings = PromotionSettings(),  # noqa: B008  # a constant
) -> AsyncIterator[Bench]:
    (folder / "policies.cedar").write_text(POLICIES)
    engine = Engine(read_policies(folder)[0], surroundings=TRUSTING)
    records = MemoryRecords()
    book = ProposalBook(State(redis, "arborgate:"), records, ProposalSettings(approvals_high=2))
    async with run_sandbox() as sandbox:
        applications = [*make_world(), *more]
        for each in (*applications, make_workload("Deployment", "api"), make_workload("Deployment", "healing")):
            sandbox.put(each)
        clusters = Clusters({CLUSTER: await connect(CLUSTER, sandbox.kubeconfig(Identity.SERVE, folder), "")})
        tree = make_tree(*applications)

        async def enter(caller: Caller, policy: CallerPolicy) -> Context:
            return Context(
                rehearsal_wait=rehearsal_wait,
                caller=caller,
                policy=policy,
                tree=tree,
                environments=ENVIRONMENTS,
                proposals=book,
                records=records,
                ladder=ladder,
                sources={Clusters: clusters, **(sources or {})},
                seal=None,  # type: ignore[arg-type]  # this tool has no pages
                now=NOW,
                pages="https://gate.test",
            )

        gate = Gate(
            tools,
            engine=lambda: engine,
            context=enter,
            recorder=records,
            cleaner=Redactor(),
            metrics=Metrics(),
            timeout=10.0,
        )
        try:
            yield Bench(gate, book, records, sandbox, clusters)
        finally:
            await clusters.close()


@asynccontextmanager
async def rehearsing_as(identity: Identity, redis: Redis, folder: Path) -> AsyncIterator[Bench]:
    """A bench with a rehearsal beside it: real dry runs of what is drafted, with the rights of that identity."""
    place = folder / "applier"
    place.mkdir()
    async with running(redis, folder) as bench, anyio.create_task_group() as tasks:
        clusters = Clusters({CLUSTER: await connect(CLUSTER, bench.sandbox.kubeconfig(identity, place), "")})
        position = await bench.book.store.last_event()
        tasks.start_soon(_rehearse_drafts, bench.book, ClusterWriter(clusters), position)
        yield bench
        tasks.cancel_scope.cancel()
        await clusters.close()


async def _rehearse_drafts(book: ProposalBook, writer: ClusterWriter, position: str) -> None:
    async for event in book.events(position):
        if event.state is ProposalState.DRAFTED:
            changes = (await book.get(event.proposal)).content.changes
            said = [await writer.rehearse(change.target, change.patch) for change in changes]
            await book.rehearsed(event.proposal, Rehearsal(changes=tuple(said), at=NOW))
