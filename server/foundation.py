"""What `serve` and the applier both stand on: the record, the state, the policies, the clusters and the tree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ..policies.loader import Policies, Reload
from ..tools.argocd.source import ArgoCD
from ..tools.environments import Environments
from ..tools.kubernetes.source import Clusters, connect
from ..tools.record import Entry, Event
from ..tools.tree import AppTree
from .audit import AuditLog, Upkeep
from .background import finishing, running
from .proposal_store import ProposalStore
from .record_stream import RecordStream
from .redaction import Redactor
from .settings import ClusterSettings, Settings
from .state import State, open_state
from .unfinished import tell_unfinished

_FINISHES_SECONDS = 3.0
"""How long a move that nobody waits for any more may still take at the end: its outcome belongs on the record."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """The opened parts. The clusters are not watched before `argocd.run`."""

    redactor: Redactor
    policies: Policies
    audit: AuditLog
    state: State
    records: RecordStream
    clusters: Clusters
    environments: Environments
    tree: AppTree
    argocd: ArgoCD


@asynccontextmanager
async def open_foundation(
    settings: Settings, configured: tuple[ClusterSettings, ...], *, replica: str, workloads: bool
) -> AsyncIterator[Foundation]:
    """Opens the parts in the order in which they need each other, and follows changes of the policies.

    `workloads`: also watch those of the clusters that the settings say so of."""
    redactor = Redactor(settings.redaction)
    around = settings.surroundings
    policies = Policies(settings.policies.dir, surroundings=around)
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(
            AuditLog.open(
                settings.record.dir,
                replica,
                redactor.clean_text,
                lambda: policies.current.digest,
                Upkeep.read(settings.record),
            )
        )
        state = open_state(settings.state)
        stack.push_async_callback(state.redis.aclose)
        await stack.enter_async_context(finishing(_FINISHES_SECONDS))
        records = RecordStream(state, longest=settings.record.stream_length)
        await stack.enter_async_context(records.following(audit))
        await stack.enter_async_context(running(tell_unfinished(audit, ProposalStore(state))))
        await audit.write(Entry(event=Event.POLICY_LOADED, policy_set=policies.current.digest, surroundings=around))
        clusters = await stack.enter_async_context(open_clusters(configured))
        environments = Environments(settings.environments)
        tree = AppTree(environments, stale_after=settings.stale_after)
        argocd = ArgoCD(
            clusters,
            tree,
            environments,
            settings.ownership,
            namespaces={one.name: one.namespaces for one in configured},
            workloads={one.name for one in configured if workloads and one.workloads},
        )
        if settings.policies.reload:
            await stack.enter_async_context(running(_watch_policies(policies, audit)))
        yield Foundation(
            redactor=redactor,
            policies=policies,
            audit=audit,
            state=state,
            records=records,
            clusters=clusters,
            environments=environments,
            tree=tree,
            argocd=argocd,
        )


@asynccontextmanager
async def open_clusters(configured: tuple[ClusterSettings, ...]) -> AsyncIterator[Clusters]:
    """The clusters of the settings, connected (nothing is sent yet), closed at the end."""
    clients = {one.name: await connect(one.name, one.kubeconfig, one.context) for one in configured}
    clusters = Clusters(clients)
    try:
        yield clusters
    finally:
        await clusters.close()


async def _watch_policies(policies: Policies, audit: AuditLog) -> None:
    async def tell(event: Reload) -> None:
        kind = Event.POLICY_KEPT if event.refused else Event.POLICY_LOADED
        around = policies.current.surroundings
        detail = str(event.refused or "")
        await audit.write(Entry(event=kind, policy_set=event.digest, detail=detail, surroundings=around))

    await policies.watch(tell)
