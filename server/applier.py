"""The applier: the only process that holds credentials to change anything, and it listens to nobody."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path

from ..tools.kubernetes.changes import ClusterWriter
from .approvals import load_verify_key
from .approvers import Pinned, read_approvers
from .background import running
from .foundation import open_foundation
from .gates import Gates
from .holds import Holds
from .leases import Leases
from .pace import Pace
from .parent_desk import ParentDesk
from .parents import Parents
from .passkeys import RelyingParty
from .probes import open_prober
from .proposals import ProposalBook
from .settings import Settings
from .siblings import Baselines
from .uses import Uses
from .verification import Verifier
from .worker import Worker
from .writers import open_writers

_FIRST_SYNC = 10.0
"""Seconds to wait for the first list of the clusters; what comes before that is told to wait."""

_LOOK_SOON, _LOOK_LATER = 0.5, 5.0
"""Seconds between two looks at the health of what was changed, at first and at most."""


async def run_applier(settings: Settings, stop: asyncio.Event) -> None:
    """Runs an applier until `stop`: its own credentials, its own tree, its own policies, its own record.

    Raises `BadConfiguration` when it can't be started safely."""
    key = load_verify_key(settings.proposals.verify_key_file)
    configured = settings.applier.clusters or settings.clusters
    replica = f"{settings.replica}-applier"  # a chain of its own beside a server's in the same folder
    pinned = _pin_approvers(settings, settings.record.dir / f"{replica}-passkeys.json")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(open_foundation(settings, configured, replica=replica, workloads=False))
        await stack.enter_async_context(running(base.argocd.run()))
        writer = await stack.enter_async_context(open_writers(ClusterWriter(base.clusters), settings, base.tree))
        prober = await stack.enter_async_context(open_prober(settings))
        book = ProposalBook(base.state, base.audit, settings.proposals, clean=base.redactor.clean_text)
        parents = Parents.of(settings, base.tree, base.clusters.names, base.redactor.clean_text)
        worker = Worker(
            state=base.state,
            book=book,
            leases=Leases(base.state, f"{replica}-{secrets.token_hex(4)}", settings.applier.lease),
            verifier=Verifier(
                engine=lambda: base.policies.current,
                tree=base.tree,
                environments=base.environments,
                key=key,
                settings=settings,
                clusters=base.clusters.names,
                pinned=pinned,
                parents=parents,
                clean=base.redactor.clean_text,
            ),
            writer=writer,
            pace=Pace(asyncio.sleep, time.time, _LOOK_SOON, _LOOK_LATER, settings.applier.health_timeout),
            holds=Holds(base.state),
            gates=Gates(
                writer=writer,
                tree=base.tree,
                prober=prober,
                baselines=Baselines(base.state),
                settings=settings.applier,
                clock=time.time,
            ),
        )
        await base.argocd.wait_synced(_FIRST_SYNC)
        if settings.parents:
            desk = ParentDesk(
                state=base.state,
                book=book,
                parents=parents,
                engine=lambda: base.policies.current,
                audit=base.audit,
                clock=time.time,
                clean=base.redactor.clean_text,
            )
            await stack.enter_async_context(running(desk.run()))
        await worker.run(stop)


def _pin_approvers(settings: Settings, uses: Path) -> Pinned | None:
    """Whom the settings say to believe; None: whom `serve` does."""
    path = settings.applier.approvers_file
    if path is None:
        return None
    party = RelyingParty.of(settings.http.url)
    return Pinned(read_approvers(path), party, Uses(uses), settings.applier.session_approvals)
