"""The pages in a small world: real Redis, real policies, a real record on disk, apps in a real tree."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from joserfc.jwk import OKPKey
from starlette.applications import Starlette
from starlette.datastructures import Headers

from arborgate.policies.engine import Engine
from arborgate.policies.loader import Policies, read_policies
from arborgate.policies.model import Caller, Channel
from arborgate.server.approvals import sign_approval, verify_approval
from arborgate.server.audit import AuditLog
from arborgate.server.background import finishing
from arborgate.server.chain import read_records
from arborgate.server.http import Authenticator
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs
from arborgate.server.identity.replays import Replays
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings, PagesSettings
from arborgate.server.metrics import Metrics
from arborgate.server.proposals import ProposalBook
from arborgate.server.protected import protect_approvals
from arborgate.server.record_stream import RecordStream
from arborgate.server.redaction import Redactor
from arborgate.server.settings import ProposalSettings, Settings
from arborgate.server.state import State
from arborgate.server.steering import Steering
from arborgate.server.web.browsers import Browser, read_browser
from arborgate.server.web.pages import Pages
from arborgate.server.web.sessions import Person, Sessions
from arborgate.tools.change import Change, ChangeKind, Check, Precondition, Rehearsal, Rehearsed, Target
from arborgate.tools.proposal import Approval, Draft, Proposal
from arborgate.tools.record import Event, Record, RecordQuery
from arborgate.tools.redis.connection import connect
from arborgate.tools.risk import Factor, Risk, RiskFactor
from arborgate.tools.tree import AppId, AppTree, Health, Sync
from tests.policies.writing import TRUSTING, copy_shipped
from tests.tools.world import CLUSTER, ENVIRONMENTS, make_app

ROLES: dict[str, tuple[str, ...]] = {role: (f"arborgate-{role}s",) for role in Settings().roles}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
DIFF = """--- live
+++ proposed
@@ -1,3 +1,3 @@
 spec:
-  targetRevision: v2.14.0
+  targetRevision: v2.13.4
   path: orders-api
"""


@dataclass
class Clock:
    """Seconds since the epoch, moved by the test alone."""

    now: float = field(default_factory=lambda: float(int(time.time())))

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def make_change(app: str = "orders-api", **fields: Any) -> Change:
    """A roll back of one app; `fields` replace any of the change's."""
    app_id = str(AppId(CLUSTER, "argocd", app))
    change = Change(
        kind=ChangeKind.ROLLBACK,
        target=Target(
            app=app_id,
            cluster=CLUSTER,
            api="argoproj.io/v1alpha1",
            kind="Application",
            namespace="argocd",
            name=app,
        ),
        summary=f"Roll {app} back to v2.13.4",
        precondition=Precondition(uid=f"uid-{app}", resource_version="1", fields=("/spec",), digest="0" * 64),
        patch={"spec": {"source": {"targetRevision": "v2.13.4"}}},
        diff=DIFF,
        undo={"spec": {"source": {"targetRevision": "v2.14.0"}}},
        check=Check(app=app_id),
    )
    return change.model_copy(update=fields)


def make_factor(why: str, factor: Factor = Factor.STRICT_ENVIRONMENT) -> RiskFactor:
    return RiskFactor.of(factor, why)


def make_caller(subject: str, role: str, *, agent: str = "", channel: Channel = Channel.MCP, at: int = 0) -> Caller:
    return Caller(
        issuer="https://issuer.test",
        subject=subject,
        name=subject.title(),
        groups=frozenset(ROLES[role]),
        roles=frozenset({role}),
        agent=agent,
        channel=channel,
        authenticated_at=at,
    )


DEV = make_caller("dev", "developer", agent="ide-copilot")


@dataclass
class World:
    """The running pages and what is behind them."""

    url: str
    pages: Pages
    app: Starlette
    clock: Clock
    book: ProposalBook
    tree: AppTree
    state: State
    audit: AuditLog
    key: OKPKey

    def change(self, **fields: Any) -> None:
        """Opens the pages anew, with other fields of `Pages`."""
        self.pages = replace(self.pages, **fields)
        self.app = Starlette(routes=self.pages.routes())

    def demand(self, policy: str, folder: Path) -> None:
        """Adds a policy to the shipped ones; `folder` is for its files."""
        copy_shipped(folder)
        (folder / "added.cedar").write_text(policy)
        engine = Engine(read_policies(folder)[0], surroundings=TRUSTING)
        self.change(engine=lambda: engine)

    async def propose(self, *changes: Change, caller: Caller = DEV, **fields: Any) -> Proposal:
        """A proposal that has been rehearsed and can be decided on."""
        changes = changes or (make_change(),)
        draft = Draft(
            **{
                "title": "Roll orders-api back to v2.13.4",
                "reason": "orders-api fails since 08:02: its pods can't pull v2.14.0.",
                "changes": changes,
                "environments": ("production",),
                "risk": Risk.HIGH,
                "factors": (make_factor("production is strict"),),
                **fields,
            }
        )
        drafted = await self.book.draft(caller, draft)
        rehearsal = Rehearsal(changes=tuple(Rehearsed(ok=True) for _ in changes), at=self.clock())
        return await self.book.rehearsed(drafted.id, rehearsal)

    @property
    def steering(self) -> Steering:
        return Steering(self.state, self.book, self.audit, self.clock)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.pages.settings, self.state, ROLES, self.audit, clock=self.clock)

    async def start_session(
        self, subject: str, role: str = "", *, age: float | None = 0, acr: str = "", sid: str = "", agent: str = AGENT
    ) -> str:
        """A session's id for somebody who logged in `age` seconds ago (None: the provider does not say)."""
        person = Person(
            issuer="https://issuer.test",
            subject=subject,
            sub=subject,
            name=subject.title(),
            groups=tuple(ROLES[role]) if role else (),
            authenticated_at=0 if age is None else int(self.clock() - age),
            acr=acr,
            sid=sid,
        )
        browser = read_browser(Headers(headers={"user-agent": agent}))
        return (await self.sessions.start(person, browser, issued_at=self.clock()))[0]

    @property
    def browser(self) -> Browser:
        """What every `Visitor` looks like."""
        return read_browser(Headers(headers={"user-agent": AGENT}))

    async def enter(
        self, subject: str, role: str = "", *, age: float | None = 0, acr: str = "", sid: str = ""
    ) -> "Visitor":
        """A browser's worth of HTTP, logged in."""
        visitor = self.visit()
        session_id = await self.start_session(subject, role, age=age, acr=acr, sid=sid)
        visitor.client.cookies.set("arborgate", session_id, domain="127.0.0.1")
        return visitor

    def visit(self) -> "Visitor":
        """A browser's worth of HTTP, not logged in."""
        transport = httpx2.ASGITransport(app=self.app)
        return Visitor(self, httpx2.AsyncClient(transport=transport, base_url=self.url, headers={"User-Agent": AGENT}))

    def records(self, *events: Event) -> list[Record]:
        """What is on disk, all or of these events, oldest first."""
        return [record for record, _ in read_records(self.audit.path) if not events or record.event in events]

    async def wait_searchable(self, proposal: Proposal) -> None:
        """Until what is on disk about the proposal can be searched too: that copy is made in the background."""
        written = {record.seq for record in self.records() if record.proposal == proposal.id}
        query = RecordQuery(proposal=proposal.id, limit=1_000)
        async with asyncio.timeout(10):
            while not written <= {record.seq for record in (await self.pages.records.search(query)).records}:
                await asyncio.sleep(0.01)

    def check_signature(self, approval: Approval) -> None:
        verify_approval(approval, self.key)


@dataclass
class Visitor:
    """Gets pages and sends their forms as a browser would."""

    world: World
    client: httpx2.AsyncClient

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.client.get(path, headers=headers)

    async def post(self, path: str, form: dict[str, str], **headers: str) -> httpx2.Response:
        """Sends a form from one of our own pages, unless `headers` say otherwise (an empty one is left out)."""
        sent = {"Origin": self.world.url, "Sec-Fetch-Site": "same-origin"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, data=form, headers={name: value for name, value in sent.items() if value})

    async def read_form(self, path: str) -> dict[str, str]:
        """The hidden fields of a page, as its forms would send them."""
        return hidden_fields((await self.get(path)).text)

    async def decide(self, proposal: Proposal, verdict: str = "approve", **changed: str) -> httpx2.Response:
        """Reads the proposal's page and decides; `changed` replaces fields of the form."""
        form = await self.read_form(f"/proposals/{proposal.id}")
        return await self.post(f"/proposals/{proposal.id}/{verdict}", {**form, **changed})


def hidden_fields(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))


@cache
def read_shipped() -> Engine:
    """The shipped policies: to read them and try their cases takes longer than most tests."""
    return Policies(None, surroundings=TRUSTING).current


@asynccontextmanager
async def open_world(
    folder: Path,
    redis_url: str,
    *,
    url: str = "http://127.0.0.1:8484",
    issuer: str = "http://127.0.0.1:9",
    proposals: ProposalSettings | None = None,
    demo: bool = False,
    **settings: Any,
) -> AsyncIterator[World]:
    """`settings` are of `PagesSettings`."""
    clock = Clock()
    state = State(connect(redis_url), "arborgate:")
    key = OKPKey.generate_key("Ed25519", private=True)
    tree = make_tree()
    identity_settings = IdentitySettings(issuers=(IssuerSettings(issuer=issuer),))
    async with (
        aclosing(state.redis),
        finishing(0.0),
        AuditLog.open(folder, "serve-1", Redactor().clean_text) as audit,
        httpx2.AsyncClient(trust_env=False, timeout=20.0) as client,
    ):
        records = RecordStream(state, longest=10_000)
        book = ProposalBook(state, audit, proposals or ProposalSettings(), clock)
        dpop = identity_settings.dpop
        safeguards = Safeguards(proofs=Proofs(dpop, Replays(state, dpop), Nonces(state, dpop)))
        identity = Identity(identity_settings, ROLES, client=client, safeguards=safeguards)

        login = PagesSettings(issuer=issuer, **settings)
        approvals = protect_approvals(url, identity_settings, login)
        terminal = Authenticator(identity, audit, Metrics(), approvals)
        pages = Pages(
            settings=login,
            issuer=identity_settings.pages_issuer(login),
            url=url,
            roles=ROLES,
            state=state,
            engine=read_shipped,
            tree=tree,
            book=book,
            records=records,
            audit=audit,
            sign=lambda approval: sign_approval(approval, key),
            terminal=terminal.authenticate,
            client=client,
            clean=Redactor().clean_text,
            demo=demo,
            logs=folder,
            clock=clock,
        )
        async with records.following(audit), AsyncExitStack() as stack:
            stack.push_async_callback(book.follower.close)
            yield World(url, pages, Starlette(routes=pages.routes()), clock, book, tree, state, audit, key)


def make_tree() -> AppTree:
    """A shop in two environments: one app of production can't pull its image, and its parent tells."""
    tree = AppTree(ENVIRONMENTS)
    down = 'Back-off pulling image "registry.test/shop/orders-api:v2.14.0"'
    apps = [
        make_app("platform", env="prod"),
        make_app("shop", env="prod", parent="platform", health=Health.DEGRADED),
        make_app("orders", env="prod", parent="shop", health=Health.DEGRADED),
        make_app("orders-api", env="prod", parent="orders", health=Health.DEGRADED, health_message=down),
        make_app("orders-queue", env="prod", parent="orders"),
        make_app("orders-worker", env="prod", parent="orders", health=Health.PROGRESSING, sync=Sync.OUT_OF_SYNC),
        make_app("payments", env="prod", parent="shop"),
        make_app("payments-api", env="prod", parent="payments"),
        make_app("search", env="prod", parent="platform", health=Health.SUSPENDED),
        make_app("shop-staging", env="staging"),
        make_app("orders-api-staging", env="staging", parent="shop-staging"),
        make_app("payments-api-staging", env="staging", parent="shop-staging", sync=Sync.OUT_OF_SYNC),
    ]
    tree.replace(CLUSTER, apps)
    tree.heard(CLUSTER, "1", time.monotonic())
    return tree
