"""A parent app with three children in staging, its siblings in dev, another parent, and their keys."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
from joserfc.jwk import OKPKey
from redis.asyncio import Redis

from arborgate.policies.engine import Engine
from arborgate.server.approvals import new_signing_key
from arborgate.server.parent_desk import ParentDesk
from arborgate.server.parent_settings import ParentSettings
from arborgate.server.parent_statements import ParentVerdict, Statement, sign_statement
from arborgate.server.parent_streams import STATEMENT, asked_key, said_key
from arborgate.server.parents import Parents
from arborgate.tools.change import Change
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.proposal import Proposal
from arborgate.tools.risk import Risk
from tests.server.applier.cluster import make_app
from tests.server.applier.world import APPS, World

SHOP, BANK = "main/argocd/shop", "main/argocd/bank"
LADDER = PromotionSettings(path=("dev", "staging", "production"))


def new_key() -> OKPKey:
    return OKPKey.import_key(orjson.loads(new_signing_key()[0]))


def jwks(*keys: OKPKey) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def child_of(app: dict[str, Any], parent: str) -> dict[str, Any]:
    tracking = f"{parent}:argoproj.io/Application:argocd/{app['metadata']['name']}"
    app["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = tracking
    return app


@dataclass
class Estate:
    """The applier's world, in which `shop` and `bank` are parents that it knows; the children are `shop`'s."""

    world: World
    folder: Path
    key: OKPKey = field(default_factory=new_key)
    bank_key: OKPKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        for parent in ("shop", "bank"):
            self.add(make_app(parent, wave=0, environment="staging"))
        for name in APPS:
            self.add(child_of(self.world.cluster.get("Application", name), "shop"))
        for name in APPS:
            self.add(make_app(f"{name}-dev", wave=0, environment="dev"))
        self.trust()

    def add(self, app: dict[str, Any]) -> None:
        self.world.cluster.add(app)
        self.world.relist(app["metadata"]["name"])

    def edit(self, name: str, patch: dict[str, Any]) -> None:
        """What happens to an Application, which the tree hears of."""
        self.world.cluster.edit("Application", name, patch)
        self.world.relist(name)

    def trust(self, *keys: OKPKey, engine: Engine | None = None, **settings: Any) -> None:
        """The applier starts again and believes these keys of the shop (default: its one), by a file."""
        self.file = self.folder / "shop.jwks"
        self.file.write_bytes(orjson.dumps(jwks(*(keys or (self.key,)))))
        own = {"jwks_file": self.file, **settings}
        self.start([ParentSettings(app=SHOP, **own), ParentSettings(app=BANK, jwks=jwks(self.bank_key))], engine)

    def start(self, parents: Sequence[ParentSettings], engine: Engine | None = None) -> None:
        world = self.world
        world.engine = engine or world.engine
        self.parents = Parents(parents, tree=world.tree, clusters=("main",), ladder=LADDER)
        world.parents = self.parents
        world.worker = world.make_worker()
        self.desk = ParentDesk(
            state=world.state,
            book=world.book,
            parents=self.parents,
            engine=lambda: world.engine,
            audit=world.audit,
            clock=world.clock,
        )

    async def propose(self, *changes: Change, risk: Risk = Risk.LOW, **draft: Any) -> Proposal:
        drafted = await self.world.draft(changes, risk=risk, **draft)
        await self.world.worker.advance(drafted.id)
        proposal = await self.world.book.get(drafted.id)
        assert proposal.state == "proposed", proposal.state_note
        return proposal

    def state(self, proposal: Proposal, **fields: Any) -> Statement:
        """What the shop says of a proposal: that it approves; `fields` replace any of it."""
        told = {
            "proposal": proposal.id,
            "digest": proposal.digest,
            "verdict": ParentVerdict.APPROVE,
            "reason": "It is inside the budget.",
            "app": SHOP,
            "iat": self.world.clock(),
            "exp": self.world.clock() + 600,
            "jti": secrets.token_urlsafe(16),
        }
        return Statement(**{**told, **fields})

    def sign(self, proposal: Proposal, *, key: OKPKey | None = None, **fields: Any) -> str:
        return sign_statement(self.state(proposal, **fields), key or self.key)

    async def say(self, text: str, *, app: str = SHOP) -> str:
        """Puts a statement into the parent's stream; the applier hears all that it has not heard."""
        entry = await self.redis.xadd(said_key(self.world.state, app), {STATEMENT: text})
        await self.desk.hear(app, str(entry), text)
        return str(entry)

    async def asked(self, app: str = SHOP) -> list[dict[str, str]]:
        """What was put before a parent app."""
        entries = cast("list[tuple[str, dict[str, str]]]", await self.redis.xrange(asked_key(self.world.state, app)))
        return [fields for _, fields in entries]

    async def get(self, proposal: Proposal) -> Proposal:
        return await self.world.book.get(proposal.id)

    async def apply(self, proposal: Proposal) -> Proposal:
        await self.world.worker.advance(proposal.id)
        return await self.get(proposal)

    @property
    def redis(self) -> Redis:
        return self.world.redis

    def refused(self) -> list[str]:
        """Why statements were refused, by the record."""
        return [one.detail for one in self.world.audit.entries if one.event == "parent:refused"]

    def answered(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Outcome, deciding policies and detail of what parent apps have said, by the record."""
        return [
            (one.outcome, one.policies, one.detail)
            for one in self.world.audit.entries
            if one.event == "parent:answered"
        ]
