"""`arborgate parent`: the controller of one parent app. It looks at what is proposed for the apps below it, approves what
its template allows, and leaves the rest to people, saying why.

It keeps nothing of its own: what it has answered already it reads from the stream of its own statements, so a crash at any
moment costs nothing, and no proposal gets two answers from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import cast

from joserfc.jwk import OKPKey
from pydantic import ValidationError

from ..policies.errors import BadConfiguration, Refused, Unavailable
from ..tools.app import AppId
from ..tools.argocd.source import ArgoCD
from ..tools.environments import Environments
from ..tools.proposal import Content, digest_content
from ..tools.text import quote_name
from ..tools.tree import AppTree, Node
from .approvals import load_private_key
from .background import running
from .foundation import open_clusters
from .parent_statements import ParentVerdict, Statement, read_statement, sign_statement
from .parent_streams import CONTENT, DIGEST, LENGTH, PROPOSAL, STATEMENT, asked_key, said_key
from .parent_template import Finding, Judge, read_template
from .parents import lies_below
from .settings import Settings
from .state import State, open_state, reaching_state

_FIRST_SYNC = 10.0
_BLOCK_MS = 300
_ROUND = 0.5
_REASON = 1_000

Entry = Mapping[str, str]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A proposal that waits for an answer, and since when."""

    entry: Entry
    since: float


class Controller:
    """Speaks for one parent app, by its id. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        app: str,
        key: OKPKey,
        judge: Judge,
        tree: AppTree,
        state: State,
        life: float,
        patience: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._key = key
        self._judge = judge
        self._tree = tree
        self._state = state
        self._life = life
        self._patience = patience
        self._clock = clock
        self._position = "0-0"
        self._answered: set[tuple[str, str]] | None = None
        self._waiting: dict[tuple[str, str], _Asked] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. What it can't reach it waits for."""
        while not stop.is_set():
            try:
                await self.work()
            except Unavailable as error:
                log.warning("waiting: %s %s", error.message, error.detail)
                await asyncio.sleep(_ROUND)

    async def work(self) -> None:
        """One round: takes what was asked since the last, and answers all that can be answered now. Raises
        `Unavailable`."""
        if self._answered is None:
            self._answered = await self._recall()
        with reaching_state():
            answer = await self._state.redis.xread(
                {asked_key(self._state, self._app): self._position}, count=100, block=_BLOCK_MS
            )
        for _, entries in cast("list[tuple[str, list[tuple[str, Entry]]]]", answer or []):
            for position, entry in entries:
                self._position = position
                named = (entry.get(PROPOSAL, ""), entry.get(DIGEST, ""))
                if named not in self._answered:
                    self._waiting[named] = _Asked(entry, self._clock())
        for named, asked in list(self._waiting.items()):
            try:
                content = read_content(asked.entry)
                finding = self._look(content)
            except Unavailable as error:
                if self._clock() - asked.since < self._patience:
                    continue
                content, finding = None, Finding(False, error.message)
            except Refused as error:
                content, finding = None, Finding(False, error.message)
            await self._answer(named, content, finding)
            self._answered.add(named)
            del self._waiting[named]

    def _look(self, content: Content) -> Finding:
        """What the template says, by how the apps are now; raises `Refused` or `Unavailable`."""
        nodes = [self._find(change.target.app) for change in content.changes]
        return self._judge.judge(content, nodes, self._clock())

    def _find(self, app: str) -> Node:
        cluster, *rest = app.split("/")
        node = self._tree.get(AppId(cluster, *rest)) if len(rest) == 2 else None
        if node is None:
            if any(self._tree.freshness(one.app.id.cluster).stale for one in self._tree.nodes()):
                raise Unavailable("What is known of the clusters is too old to judge by.")
            raise Refused("It changes an app that is not there.")
        if self._tree.freshness(cluster).stale:
            raise Unavailable(f"What is known of {cluster} is too old to judge by.")
        if not lies_below(self._tree, node, self._app):
            raise Refused(f"{node.app.id} does not lie below {self._app}.")
        return node

    async def _answer(self, named: tuple[str, str], content: Content | None, finding: Finding) -> None:
        proposal, digest = named
        now = self._clock()
        approves = finding.allowed and content is not None and now < content.expires_at
        try:
            statement = Statement(
                proposal=proposal,
                digest=digest,
                verdict=ParentVerdict.APPROVE if approves else ParentVerdict.PASS,
                reason=finding.why[:_REASON],
                app=self._app,
                iat=now,
                exp=min(now + self._life, content.expires_at) if approves and content else now + self._life,
                jti=secrets.token_urlsafe(16),
            )
        except ValidationError:
            log.warning("an entry that is no proposal is passed over: %s", quote_name(proposal[:40]))
            return
        with reaching_state():
            await self._state.redis.xadd(
                said_key(self._state, self._app),
                {STATEMENT: sign_statement(statement, self._key)},
                maxlen=LENGTH,
                approximate=True,
            )
        verb = "approves" if approves else "passes on"
        log.info("%s %s %s: %s", self._app, verb, proposal, finding.why)

    async def _recall(self) -> set[tuple[str, str]]:
        """What it has answered, by its own signature: nobody else can make it hold its tongue."""
        keys = {self._key.thumbprint(): self._key}
        with reaching_state():
            entries = await self._state.redis.xrange(said_key(self._state, self._app))
        known: set[tuple[str, str]] = set()
        for _, entry in cast("list[tuple[str, Entry]]", entries):
            try:
                said = read_statement(entry.get(STATEMENT, ""), keys)
            except Refused:
                continue
            known.add((said.proposal, said.digest))
        return known


def read_content(entry: Entry) -> Content:
    """The proposal of an entry: the digest is that of exactly this text, and of what is read from it. Raises `Refused`."""
    text = entry.get(CONTENT, "")
    if hashlib.sha256(text.encode()).hexdigest() != entry.get(DIGEST, ""):
        raise Refused("What the proposal says is not what its digest stands for.")
    try:
        content = Content.model_validate_json(text)
    except ValidationError as error:
        raise Refused("The proposal has a form that this version does not know.") from error
    if content.id != entry.get(PROPOSAL, "") or digest_content(content) != entry.get(DIGEST, ""):
        raise Refused("What the proposal says is not what its digest stands for.")
    return content


async def run_parent(settings: Settings, stop: asyncio.Event) -> None:
    """Runs the controller of the settings until `stop`; raises `BadConfiguration` when it can't be started."""
    own = settings.controller
    if own is None:
        raise BadConfiguration(
            "controller is not set: whom does it speak for, and what may it approve?",
            hint="deploy/parent.yaml has settings to begin with; docs/parent-protocol.md says the rest.",
        )
    key = load_private_key(own.signing_key_file, "controller.signing_key_file")
    template = read_template(own.template_file)
    state = open_state(settings.state)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(state.redis.aclose)
        clusters = await stack.enter_async_context(open_clusters(settings.clusters))
        environments = Environments(settings.environments)
        tree = AppTree(environments, stale_after=settings.stale_after)
        namespaces = {one.name: one.namespaces for one in settings.clusters}
        argocd = ArgoCD(clusters, tree, environments, settings.ownership, namespaces=namespaces, workloads=set())
        await stack.enter_async_context(running(argocd.run()))
        await argocd.wait_synced(_FIRST_SYNC)
        controller = Controller(
            app=own.app,
            key=key,
            judge=Judge(template, tree, settings.promotion),
            tree=tree,
            state=state,
            life=own.life,
            patience=own.patience,
        )
        await controller.run(stop)
