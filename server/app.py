"""The composition root: builds every object from the settings and hands each what it needs; nothing else does."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httpx2
from mcp.server.lowlevel import Server
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..policies.errors import BadConfiguration, Unavailable
from ..policies.loader import Policies, Reload
from ..policies.model import Caller
from ..tools.all import TOOLS
from ..tools.argocd.source import ArgoCD
from ..tools.environments import Environments
from ..tools.kubernetes.source import Clusters, connect
from ..tools.record import Entry, Event
from ..tools.redis.source import RedisState, open_redis_state
from ..tools.tool import Context
from ..tools.tree import AppTree
from .approvals import load_signing_key, sign_approval
from .audit import AuditLog
from .background import running
from .cursors import Cursors
from .gate import CallerPolicy, Gate
from .http import Authenticator, build_app, describe_resource, requester
from .identity.authentication import Identity, Safeguards
from .identity.callers import local_caller
from .identity.child_tokens import ChildTokens
from .identity.denylist import SharedDenyList, longest_life
from .identity.exchange import TokenExchange
from .identity.introspection import Introspection
from .identity.nonces import Nonces
from .identity.own_keys import OwnKeys
from .identity.presenting import ClientCertificates
from .identity.proofs import Proofs
from .identity.replays import Replays
from .identity.roles import limit_roles
from .limits import Limited, SharedLimits
from .mcp import build_server
from .metrics import Metrics
from .proposals import ProposalBook
from .protected import protect_approvals, protect_mcp
from .readiness import Readiness
from .record_stream import RecordStream
from .redaction import Redactor
from .settings import ClusterSettings, Settings
from .state import State, open_state

if TYPE_CHECKING:
    from anyio import AsyncFile

    from .web.logout import LogoutHook

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
    metrics: Metrics
    redactor: Redactor
    limits: SharedLimits
    denied: SharedDenyList | None
    own_keys: OwnKeys
    children: ChildTokens | None
    readiness: Readiness
    web: httpx2.AsyncClient


@asynccontextmanager
async def open_clusters(configured: tuple[ClusterSettings, ...]) -> AsyncIterator[Clusters]:
    """The clusters of the settings, connected (nothing is sent yet), closed at the end."""
    clients = {one.name: await connect(one.name, one.kubeconfig, one.context) for one in configured}
    clusters = Clusters(clients)
    try:
        yield clusters
    finally:
        await clusters.close()


@asynccontextmanager
async def open_services(settings: Settings, *, replica: str) -> AsyncIterator[Services]:
    """Builds everything and runs what runs by itself: the watches, the reload of policies, the searchable record."""
    redactor = Redactor()
    metrics = Metrics()
    policies = Policies(settings.policies.dir, surroundings=settings.surroundings)
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(AuditLog.open(settings.record.dir, replica, redactor.clean_text))
        state = open_state(settings.state)
        stack.push_async_callback(state.redis.aclose)
        records = RecordStream(state, longest=settings.record.stream_length)
        await stack.enter_async_context(records.following(audit))
        await audit.write(Entry(event=Event.POLICY_LOADED, policy_set=policies.current.digest))
        clusters = await stack.enter_async_context(open_clusters(settings.clusters))
        environments = Environments(settings.environments)
        tree = AppTree(environments, stale_after=settings.stale_after)
        argocd = ArgoCD(
            clusters,
            tree,
            environments,
            settings.ownership,
            namespaces={one.name: one.namespaces for one in settings.clusters},
            workloads={one.name for one in settings.clusters if one.workloads},
        )
        redis = open_redis_state(settings.redis)
        stack.push_async_callback(redis.close)
        proposals = ProposalBook(state, audit, settings.proposals)
        cursors = await Cursors.shared(state)
        sources: Mapping[type[Any], Any] = {ArgoCD: argocd, Clusters: clusters, RedisState: redis}
        first_sync = asyncio.create_task(argocd.wait_synced(_FIRST_SYNC_SECONDS))
        first_sync.add_done_callback(_settle_memory)
        stack.callback(first_sync.cancel)

        async def enter(caller: Caller, policy: CallerPolicy) -> Context:
            if not first_sync.done():
                await asyncio.shield(first_sync)
            return Context(
                caller=caller,
                policy=policy,
                tree=tree,
                environments=environments,
                proposals=proposals,
                records=records,
                sources=sources,
                seal=cursors,
                now=time.time(),
                pages=settings.http.url if settings.identity.pages else "",
                rehearsal_wait=settings.proposals.rehearsal_wait,
            )

        gate = Gate(
            TOOLS,
            engine=lambda: policies.current,
            context=enter,
            recorder=audit,
            cleaner=redactor,
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
        if settings.policies.reload:
            await stack.enter_async_context(running(watch_policies(policies, audit)))
        yield Services(
            settings=settings,
            gate=gate,
            identity=identity,
            policies=policies,
            audit=audit,
            records=records,
            proposals=proposals,
            state=state,
            tree=tree,
            metrics=metrics,
            redactor=redactor,
            limits=limits,
            denied=denied,
            own_keys=own,
            children=children,
            readiness=Readiness(argocd, state, policies, metrics),
            web=web,
        )


async def serve_http(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then finishes the calls in flight."""
    from .listen import listen, serve_until

    with listen(settings.http.host, settings.http.port) as socket:
        async with open_services(settings, replica=settings.replica) as services:
            app = build_app(
                settings=settings.http,
                server=build_server(services.gate, TOOLS, requester),
                gate=services.gate,
                identity=services.identity,
                resource=protect_mcp(settings.http.url, settings.identity),
                recorder=services.audit,
                metrics=services.metrics,
                readiness=services.readiness.check,
                limits=services.limits,
                certificates=read_certificates(settings),
                pages=[*build_pages(services), *build_exchange(services), *build_client_document(settings)],
            )
            await serve_until(stop, app, settings.http, socket)


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


def read_certificates(settings: Settings) -> ClientCertificates | None:
    """How client certificates come in from the proxies; None where the settings name no header for them."""
    http = settings.http
    return ClientCertificates(http.client_cert_header, http.trusted_proxies) if http.client_cert_header else None


def build_exchange(services: Services) -> list[BaseRoute]:
    """The endpoints of child tokens; none when the settings leave them out."""
    settings = services.settings
    if services.children is None:
        return []
    exchange = TokenExchange(
        settings.http.url,
        identity=services.identity,
        tokens=services.children,
        engine=lambda: services.policies.current,
        tree=services.tree,
        limits=services.limits,
        recorder=services.audit,
        metrics=services.metrics,
        certificates=read_certificates(settings),
    )
    return [*exchange.routes(), *services.own_keys.routes()]


def build_pages(services: Services) -> list[BaseRoute]:
    """The approval pages and the terminal's endpoints; none when the settings name no login for them."""
    from .web.pages import Pages

    settings = services.settings
    login = settings.identity.pages
    if login is None:
        return []
    key = load_signing_key(settings.proposals.signing_key_file)
    url = settings.http.url

    issuer = settings.identity.pages_issuer(login)
    approvals = protect_approvals(url, settings.identity, login)
    terminal = Authenticator(
        services.identity, services.audit, services.metrics, approvals, read_certificates(settings)
    )
    described = Route(approvals.metadata_path, describe_resource(approvals))

    pages = Pages(
        settings=login,
        issuer=issuer,
        identify=services.identity.identify,
        url=url,
        roles=limit_roles(settings.roles, issuer.roles),
        state=services.state,
        engine=lambda: services.policies.current,
        tree=services.tree,
        book=services.proposals,
        records=services.records,
        audit=services.audit,
        sign=lambda approval: sign_approval(approval, key),
        terminal=terminal.authenticate,
        client=services.web,
        clean=services.redactor.clean_text,
        demo=settings.demo,
        acr_values=settings.identity.step_up.acr_values,
        denied=services.denied,
        on_logout=end_tokens_with(services) if login.logout_ends_tokens else None,
    )
    return [*pages.routes(), described]


def end_tokens_with(services: Services) -> LogoutHook:
    """What a logout at the provider does besides: shuts out the tokens that the person has."""
    denied = services.denied
    if denied is None:
        raise BadConfiguration("identity.pages.logout_ends_tokens: needs identity.deny_list.enabled")

    async def shut_out(issuer: str, subject: str) -> None:
        await denied.deny_person(f"{issuer}#{subject}", reason="logged out at the provider")

    return shut_out


def build_client_document(settings: Settings) -> list[BaseRoute]:
    """Where `arborgate connect` describes itself to providers (Client ID Metadata Documents); none without https."""
    from .connect.registration import CLIENT_DOCUMENT_PATH, client_document

    document = client_document(settings.http.url)
    if document is None:
        return []

    async def answer(_request: Request) -> Response:
        return JSONResponse(document, headers={"Cache-Control": "max-age=3600"})

    return [Route(CLIENT_DOCUMENT_PATH, answer)]


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
        server: Server[Any] = build_server(gate, TOOLS, lambda _ctx: caller)
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


async def watch_policies(policies: Policies, audit: AuditLog) -> None:
    async def tell(event: Reload) -> None:
        kind = Event.POLICY_KEPT if event.refused else Event.POLICY_LOADED
        await audit.write(Entry(event=kind, policy_set=event.digest, detail=str(event.refused or "")))

    await policies.watch(tell)
