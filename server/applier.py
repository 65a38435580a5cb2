"""The applier: the only process that holds credentials to change anything, and it listens to nobody."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack

from ..policies.loader import Policies
from ..tools.argocd.source import ArgoCD
from ..tools.environments import Environments
from ..tools.kubernetes.changes import ClusterWriter
from ..tools.record import Entry, Event
from ..tools.tree import AppTree
from .app import open_clusters, watch_policies
from .applying import Pace
from .approvals import load_verify_key
from .audit import AuditLog
from .background import running
from .leases import Leases
from .proposals import ProposalBook
from .record_stream import RecordStream
from .redaction import Redactor
from .settings import Settings
from .state import open_state
from .verification import Verifier
from .worker import Worker

_FIRST_SYNC = 10.0
"""Seconds to wait for the first list of the clusters; what comes before that is told to wait."""

_LOOK_SOON, _LOOK_LATER = 0.5, 5.0
"""Seconds between two looks at the health of what was changed, at first and at most."""


async def run_applier(settings: Settings, stop: asyncio.Event) -> None:
    """Runs an applier until `stop`: its own credentials, its own tree, its own policies, its own record.

    Raises `BadConfiguration` when it can't be started safely."""
    key = load_verify_key(settings.proposals.verify_key_file)
    policies = Policies(settings.policies.dir, surroundings=settings.surroundings)
    configured = settings.applier.clusters or settings.clusters
    async with AsyncExitStack() as stack:
        replica = f"{settings.replica}-applier"  # a chain of its own beside a server's in the same folder
        audit = await stack.enter_async_context(AuditLog.open(settings.record.dir, replica, Redactor().clean_text))
        state = open_state(settings.state)
        stack.push_async_callback(state.redis.aclose)
        records = RecordStream(state, longest=settings.record.stream_length)
        await stack.enter_async_context(records.following(audit))
        await audit.write(Entry(event=Event.POLICY_LOADED, policy_set=policies.current.digest))
        clusters = await stack.enter_async_context(open_clusters(configured))
        environments = Environments(settings.environments)
        tree = AppTree(environments, stale_after=settings.stale_after)
        argocd = ArgoCD(
            clusters,
            tree,
            environments,
            settings.ownership,
            namespaces={one.name: one.namespaces for one in configured},
            workloads=frozenset(),
        )
        await stack.enter_async_context(running(argocd.run()))
        if settings.policies.reload:
            await stack.enter_async_context(running(watch_policies(policies, audit)))
        worker = Worker(
            state=state,
            book=ProposalBook(state, audit, settings.proposals),
            leases=Leases(state, f"{replica}-{secrets.token_hex(4)}", settings.applier.lease),
            verifier=Verifier(
                engine=lambda: policies.current,
                tree=tree,
                environments=environments,
                key=key,
                settings=settings,
                clusters=clusters.names,
            ),
            writer=ClusterWriter(clusters),
            pace=Pace(asyncio.sleep, time.time, _LOOK_SOON, _LOOK_LATER, settings.applier.health_timeout),
        )
        await argocd.wait_synced(_FIRST_SYNC)
        await worker.run(stop)
