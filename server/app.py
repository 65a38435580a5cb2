"""The composition root: builds every object from the settings and hands each what it needs; nothing else does."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpx2
from mcp.server.lowlevel import Server

from ..policies.errors import BadConfiguration, Unavailable
from ..policies.loader import Policies
from ..policies.model import Caller
from ..tools.all import TOOLS
from ..tools.argocd.source import ArgoCD
from ..tools.git.source import GitSource
from ..tools.kubernetes.source import Clusters
from ..tools.redis.source import RedisState, open_redis_state
from ..tools.tool import Context, Effect
from ..tools.tree import AppTree
from .audit import AuditLog
from .background import running
from .cursors import Cursors
from .fingerprints import Fingerprints
from .foundation import open_foundation
from .gate import CallerPolicy, Gate
from .gates import hold_to
from .http import build_app, requester
from .identity.authentication import Identity, Safeguards
from .identity.callers import local_caller
from .identity.child_tokens import ChildTokens
from .identity.denylist import SharedDenyList, longest_life
from .identity.introspection import Introspection
from .identity.nonces import Nonces
from .identity.own_keys import OwnKeys
from .identity.proofs import Proofs
from .identity.replays import Replays
from .limits import Limited, SharedLimits
from .masking import Masker
from .mcp import build_server, waiting_tools
from .metrics import Metrics
from .proposals import ProposalBook
from .protected import protect_mcp
from .readiness import Readiness
from .record_stream import RecordStream
from .redaction import Redactor
from .settings import Settings
from .showing import Showing, open_showing
from .state import State
from .subscriptions import Listening
from .thresholds import Thresholds

if TYPE_CHECKING:
    from anyio import AsyncFile

_PROPOSING = tuple(tool.name for tool in TOOLS if tool.effect is Effect.PROPOSES)

_FIRST_SYNC_SECONDS = 5.0
"""How long a call may wait for the first list of the clusters; afterwards it answers and says how old its facts are."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything one process serves with."""

    settings: Settings
    gate: Gate
    identity: Identity
    policies: Policies
    audit: AuditLog
    records: RecordStream
    proposals: ProposalBook
    state: State
    tree: AppTree
    clusters: Clusters
    metrics: Metrics
    redactor: Redactor
    limits: SharedLimits
    denied: SharedDenyList | None
    own_keys: OwnKeys
    children: ChildTokens | None
    readiness: Readiness
    showing: Showing | None
    web: httpx2.AsyncClient


@asynccontextmanager
async def open_services(settings: Settings, *, replica: str) -> AsyncIterator[Services]:
    """Builds everything and runs what runs by itself: the watches, the reload of policies, the searchable record."""
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(
            open_foundation(settings, settings.clusters, replica=replica, workloads=True)
        )
        audit, state, policies, argocd = base.audit, base.state, base.policies, base.argocd
        redis = open_redis_state(settings.redis)
        stack.push_async_callback(redis.close)
        git = GitSource(settings.git)
        stack.push_async_callback(git.close)
        thresholds = Thresholds(lambda: policies.current, base.tree.resource, settings.proposals)
        proposals = ProposalBook(
            state,
            audit,
            settings.proposals,
            count_broken=metrics.count_broken_glass,
            clean=base.redactor.clean_text,
            quorum=thresholds.find_needed,
            hold=partial(hold_to, tree=base.tree, settings=settings.applier),
        )
        stack.push_async_callback(proposals.follower.close)
        cursors = await Cursors.shared(state)
        fingerprints = await Fingerprints.shared(state, settings.redaction.fingerprint_key_file)
        sources: Mapping[type[Any], Any] = {ArgoCD: argocd, Clusters: base.clusters, RedisState: redis, GitSource: git}
        first_sync = asyncio.create_task(argocd.wait_synced(_FIRST_SYNC_SECONDS))
        first_sync.add_done_callback(_settle_memory)
        stack.callback(first_sync.cancel)

        async def enter(caller: Caller, policy: CallerPolicy) -> Context:
            if not first_sync.done():
                await asyncio.shield(first_sync)
            return Context(
                caller=caller,
                policy=policy,
                tree=base.tree,
                environments=base.environments,
                proposals=proposals,
                records=base.records,
                sources=sources,
                seal=cursors,
                now=time.time(),
                pages=settings.http.url if settings.identity.pages else "",
                rehearsal_wait=settings.proposals.rehearsal_wait,
                calendar=settings.calendar,
                ladder=settings.promotion,
            )

        gate = Gate(
            TOOLS,
            engine=lambda: policies.current,
            context=enter,
            recorder=audit,
            cleaner=base.redactor.with_fingerprints(fingerprints),
            masker=Masker(settings.personal),
            metrics=metrics,
            timeout=settings.http.call_timeout,
            acr_values=settings.identity.step_up.acr_values,
        )
        web = await stack.enter_async_context(httpx2.AsyncClient(timeout=5.0, follow_redirects=False))
        limits = SharedLimits(settings.identity.limits, state, audit)
        stack.push_async_callback(limits.close)
        own = OwnKeys(state, rotate=settings.identity.exchange.rotate)
        stack.push_async_callback(own.close)
        children = build_child_tokens(settings, own)
        denied = build_deny_list(settings, state)
        safeguards = build_safeguards(settings, state, web, denied, children)
        identity = Identity(settings.identity, settings.roles, client=web, safeguards=safeguards)
        await stack.enter_async_context(running(identity.watch()))
        if denied is not None:
            with suppress(Unavailable):  # until it is known nobody is let in: better not at the first call
                await denied.refresh()
            await stack.enter_async_context(running(denied.run()))
        await stack.enter_async_context(running(argocd.run()))
        yield Services(
            settings=settings,
            gate=gate,
            identity=identity,
            policies=policies,
            audit=audit,
            records=base.records,
            proposals=proposals,
            state=state,
            tree=base.tree,
            clusters=base.clusters,
            metrics=metrics,
            redactor=base.redactor,
            limits=limits,
            denied=denied,
            own_keys=own,
            children=children,
            readiness=Readiness(argocd, proposals, policies, metrics),
            showing=await stack.enter_async_context(open_showing(settings.notify.elicit, state, proposals, audit)),
            web=web,
        )


async def serve_http(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then finishes the calls in flight."""
    from .listen import listen, serve_until
    from .notifications.opening import open_notifications
    from .routes import build_client_document, build_exchange, build_pages, read_certificates

    with listen(settings.http.host, settings.http.port) as socket:
        async with open_services(settings, replica=settings.replica) as services, open_notifications(services):
            app = build_app(
                settings=settings.http,
                server=build_server(
                    services.gate,
                    TOOLS,
                    requester,
                    services.showing,
                    Listening(services.gate, requester, services.proposals.follower),
                ),
                showing=_PROPOSING if services.showing else (),
                gate=services.gate,
                identity=services.identity,
                resource=protect_mcp(settings.http.url, settings.identity),
                recorder=services.audit,
                metrics=services.metrics,
                readiness=services.readiness.check,
                limits=services.limits,
                certificates=read_certificates(settings),
                waiting=waiting_tools(TOOLS),
                pages=[*build_pages(services), *build_exchange(services), *build_client_document(settings)],
            )
            await serve_until(stop, app, settings.http, socket, services.proposals.follower.end)


def build_safeguards(
    settings: Settings,
    state: State,
    web: httpx2.AsyncClient,
    denied: SharedDenyList | None,
    children: ChildTokens | None,
) -> Safeguards:
    """What tokens are held to besides their issuers' word."""
    identity = settings.identity
    return Safeguards(
        proofs=Proofs(identity.dpop, Replays(state, identity.dpop), Nonces(state, identity.dpop)),
        denied=denied,
        introspectors=[
            Introspection(issuer, issuer.introspection, web) for issuer in identity.issuers if issuer.introspection
        ],
        own=children.trusted if children else None,
    )


def build_child_tokens(settings: Settings, own: OwnKeys) -> ChildTokens | None:
    """The maker of tokens for child apps; None where the settings leave them out."""
    identity = settings.identity
    if not identity.exchange.enabled:
        return None
    return ChildTokens(settings.http.url, identity.exchange, identity.issuers, settings.roles, own)


def build_deny_list(settings: Settings, state: State) -> SharedDenyList | None:
    """The deny list, unless the settings leave it out."""
    identity = settings.identity
    if not identity.deny_list.enabled:
        return None
    return SharedDenyList(state, identity.deny_list, life=longest_life(identity))


async def serve_stdio(settings: Settings, acting_as: str, stop: asyncio.Event) -> None:
    """Serves one local copilot as the configured caller until its end of the pipe closes or `stop` is set."""
    from mcp.server.stdio import stdio_server

    from .stdio import Lines

    local = settings.identity.stdio.get(acting_as)
    if local is None:
        known = ", ".join(settings.identity.stdio) or "none yet"
        raise BadConfiguration(f"--as: {acting_as!r} is not in identity.stdio of the settings (there: {known})")
    caller = local_caller(acting_as, local, settings.roles)
    async with open_services(settings, replica=_stdio_replica(settings.replica)) as services:
        gate = Limited(services.gate, services.limits)
        listening = Listening(gate, lambda _ctx: caller, services.proposals.follower)
        server: Server[Any] = build_server(gate, TOOLS, lambda _ctx: caller, services.showing, listening)
        lines = Lines()
        # Of a file, the SDK asks only for its lines.
        async with stdio_server(stdin=cast("AsyncFile[str]", lines)) as (read, write):
            serving = asyncio.create_task(server.run(read, write, server.create_initialization_options()))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (serving, stopping):
                task.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)
            lines.end()


def _settle_memory(_synced: object) -> None:
    """Once the tree is in memory: the collector need not walk it again and again, and calls leave no cycles to speak of."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _stdio_replica(replica: str) -> str:
    """A chain of its own for each local session: several may run at once, beside a server."""
    return f"{replica}-stdio-{os.getpid()}"
