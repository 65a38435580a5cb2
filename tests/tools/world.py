"""A small world behind a real gate: apps in a real tree, policies that hide some, and everything that is recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from joserfc.jwk import OctKey

from arborgate.policies.engine import Engine
from arborgate.policies.errors import ArborgateError, Conflict, NotThere
from arborgate.policies.loader import read_policies
from arborgate.policies.model import Caller, Channel
from arborgate.server.cursors import Cursors
from arborgate.server.gate import Answer, CallerPolicy, Gate
from arborgate.server.metrics import Metrics
from arborgate.server.record_stream import matches
from arborgate.server.redaction import Redactor
from arborgate.tools.argocd.tools import TOOLS as APP_TOOLS
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.identity.tools import build_whoami
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.proposal import Draft, Proposal, ProposalPage, ProposalQuery, ProposalState
from arborgate.tools.proposals.tools import TOOLS as PROPOSAL_TOOLS
from arborgate.tools.record import Entry, Record, RecordPage, RecordQuery
from arborgate.tools.records.tools import TOOLS as RECORD_TOOLS
from arborgate.tools.tool import AnyTool, Context
from arborgate.tools.tree import (
    App,
    AppId,
    AppTree,
    Condition,
    Deployed,
    Health,
    Managed,
    Owned,
    Sync,
)
from tests.policies.writing import TRUSTING

CLUSTER = "main"
NOW = 1_763_800_000.0
"""2025-11-22T08:26:40Z, the moment of every call."""

ENVIRONMENTS = Environments(
    (
        EnvironmentRule(name="production", strict=True, labels={"env": "prod"}),
        EnvironmentRule(name="staging", labels={"env": "staging"}),
    )
)

POLICIES = """
@id("everyone-reads")
permit (principal, action in Action::"read", resource);

@id("developers-propose")
permit (principal in Role::"developer", action in Action::"propose", resource);

@id("auditors-search-all")
permit (principal in Role::"auditor", action == Action::"record:search_all", resource);

@id("hidden-apps-are-hidden")
forbid (principal, action == Action::"app:read", resource is App)
when { resource.labels.contains("hidden=yes") }
unless { principal in Role::"auditor" };

@id("proposals-on-vault-are-hidden")
forbid (principal, action == Action::"proposal:read", resource in App::"main/argocd/vault")
unless { principal in Role::"auditor" };
"""

TOOLS: tuple[AnyTool, ...] = (*APP_TOOLS, *PROPOSAL_TOOLS, *RECORD_TOOLS)


def make_caller(subject: str = "ada", *roles: str, agent: str = "ide-copilot") -> Caller:
    return Caller(
        issuer="https://issuer.test",
        subject=subject,
        name=subject.title(),
        groups=frozenset({"shop-team"}),
        roles=frozenset(roles),
        agent=agent,
        channel=Channel.MCP,
    )


ADA = make_caller("ada", "developer")
AUDITOR = make_caller("olga", "auditor")


def make_app(name: str, *, parent: str = "", hidden: bool = False, env: str = "staging", **fields: Any) -> App:
    """An app that is healthy and synced, under `parent` by its tracking id; `fields` replace any others."""
    labels = {"env": env, **({"hidden": "yes"} if hidden else {}), **fields.pop("labels", {})}
    app = App(
        id=AppId(CLUSTER, "argocd", name),
        uid=f"uid-{name}",
        resource_version="1",
        project="shop",
        labels=labels,
        wave=0,
        sources=(),
        destination_cluster="in-cluster",
        destination_namespace=name,
        automated=False,
        self_heal=False,
        prune=False,
        health=Health.HEALTHY,
        health_message="",
        sync=Sync.SYNCED,
        revision="3f2c1ab",
        images=(),
        conditions=(),
        operation_phase="Succeeded",
        operation_message="successfully synced (all tasks run)",
        operation_at="2025-11-22T08:00:00Z",
        history=(),
        managed=(),
        reconciled_at="2025-11-22T08:00:00Z",
        created_at="2025-01-01T00:00:00Z",
        deleting_since="",
        finalizers=(),
        owned=Owned(),
        environment=ENVIRONMENTS.assign(cluster=CLUSTER, project="shop", namespace=name, labels=labels),
        tracking_id=f"{parent}:argoproj.io/Application:argocd/{name}" if parent else "",
        instance="",
        owner_set="",
    )
    return replace(app, **fields)


def make_managed(kind: str, name: str, **fields: Any) -> Managed:
    group = "argoproj.io" if kind == "Application" else "apps"
    managed = Managed(group, "v1", kind, "argocd", name, sync="Synced", health="Healthy", message="", wave=0)
    return managed._replace(**fields)


def make_deploy(number: int, revision: str, at: str) -> Deployed:
    return Deployed(id=number, revision=revision, at=at, by="argocd")


def make_condition(message: str, at: str = "2025-11-22T08:10:00Z") -> Condition:
    return Condition(type="SyncError", message=message, at=at)


@dataclass
class MemoryProposals:
    """Proposals as `server/proposals.py` keeps them, newest first, without a Redis."""

    kept: list[Proposal] = field(default_factory=list)
    later: list[Proposal] = field(default_factory=list)

    def new_id(self) -> str:
        raise NotImplementedError

    async def draft(self, caller: Caller, draft: Draft) -> Proposal:
        raise NotImplementedError

    async def wait(self, proposal: Proposal, by: str, timeout: float) -> Proposal:
        """The next version that a test has put into `later`, or the same once there is none."""
        return self.later.pop(0) if self.later else proposal

    async def settle(self, proposal_id: str, timeout: float) -> Proposal:  # the seam's own
        raise NotImplementedError

    async def get(self, proposal_id: str) -> Proposal:
        found = [proposal for proposal in self.kept if proposal.id == proposal_id]
        if not found:
            raise NotThere("no such proposal")
        return found[0]

    async def list(self, query: ProposalQuery) -> ProposalPage:
        ids = [proposal.id for proposal in self.kept]
        start = ids.index(query.before) + 1 if query.before else 0
        found: list[Proposal] = []
        for proposal in self.kept[start:]:
            apps = {change.target.app for change in proposal.content.changes}
            if (
                (not query.states or proposal.state in query.states)
                and (not query.requester or proposal.content.requester.key == query.requester)
                and (not query.app or query.app in apps)
            ):
                found.append(proposal)
                if len(found) == query.limit:
                    return ProposalPage(found, proposal.id)
        return ProposalPage(found, "")

    async def has_applied(self, requester: str) -> bool:
        return any(one.content.requester.key == requester and one.state == "applied" for one in self.kept)

    async def withdraw(self, proposal_id: str, caller: Caller) -> Proposal:
        proposal = await self.get(proposal_id)
        if proposal.state.final:
            raise Conflict("It is past withdrawing.")
        taken = proposal.model_copy(update={"state": ProposalState.WITHDRAWN, "state_at": NOW})
        self.kept[self.kept.index(proposal)] = taken
        return taken


@dataclass
class MemoryRecords:
    """The audit log of one replica in memory: what the gate writes can be searched."""

    written: list[Record] = field(default_factory=list)

    async def write(self, entry: Entry) -> Record:
        number = len(self.written) + 1
        stamp = f"2025-11-22T08:{number // 60:02}:{number % 60:02}.000000Z"
        line = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
        record = Record(**line, seq=number, time=stamp, replica="serve-1", prev="", hash="")
        self.written.append(record)
        return record

    async def search(self, query: RecordQuery) -> RecordPage:
        newest = self.written[::-1]
        start = next((i + 1 for i, record in enumerate(newest) if str(record.seq) == query.before), 0)
        found: list[Record] = []
        for record in newest[start:]:
            if matches(record, query):
                found.append(record)
                if len(found) == query.limit:
                    return RecordPage(found, str(record.seq))
        return RecordPage(found, "")


class World:
    """A gate with the reading tools over these apps. The clocks of tree and calls stand still."""

    def __init__(
        self, folder: Path, *apps: App, stale: bool = False, sources: Mapping[type[Any], Any] | None = None
    ) -> None:
        (folder / "policies.cedar").write_text(POLICIES)
        self.engine = Engine(read_policies(folder)[0], surroundings=TRUSTING)
        self.tree = AppTree(ENVIRONMENTS, monotonic=lambda: 1_000.0, now=lambda: NOW)
        self.tree.replace(CLUSTER, apps)
        self.tree.heard(CLUSTER, "4711", 800.0 if stale else 998.5)
        self.proposals = MemoryProposals()
        self.records = MemoryRecords()
        self.sources = sources or {}
        self.ladder = PromotionSettings()
        self._cursors = Cursors(OctKey.generate_key(256))
        self._gate = Gate(
            (*TOOLS, build_whoami(TOOLS)),
            engine=lambda: self.engine,
            context=self.enter,
            recorder=self.records,
            cleaner=Redactor(),
            metrics=Metrics(),
            timeout=5.0,
        )

    async def enter(self, caller: Caller, policy: CallerPolicy | None = None) -> Context:
        return Context(
            caller=caller,
            policy=policy or CallerPolicy(self.engine, caller),
            tree=self.tree,
            environments=ENVIRONMENTS,
            proposals=self.proposals,
            records=self.records,
            sources=self.sources,
            seal=self._cursors,
            now=NOW,
            pages="https://gate.test",
            ladder=self.ladder,
        )

    async def call(self, tool: str, caller: Caller = ADA, /, **arguments: Any) -> Answer:
        return await self._gate.call(caller, tool, arguments)

    async def ask(self, tool: str, caller: Caller = ADA, /, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a call that must succeed."""
        answer = await self.call(tool, caller, **arguments)
        assert answer.error is None, (answer.error.message, self.records.written[-1].detail)
        assert answer.structured is not None
        return dict(answer.structured)

    async def fail(self, tool: str, caller: Caller = ADA, /, **arguments: Any) -> ArborgateError:
        """The error of a call that must not succeed."""
        answer = await self.call(tool, caller, **arguments)
        assert answer.error is not None
        return answer.error


def names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The bare names of the apps in rows, in their order."""
    return [str(row["app"]).rpartition("/")[2] for row in rows]
