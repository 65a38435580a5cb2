"""A controller of the shop over the estate's own tree, and what is put before it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import rfc8785
import yaml

from arborgate.server.parent import Controller
from arborgate.server.parent_statements import Statement, read_statement
from arborgate.server.parent_streams import CONTENT, DIGEST, PROPOSAL, STATEMENT, asked_key, said_key
from arborgate.server.parent_template import Judge, read_template
from arborgate.tools.proposal import Content, Proposal
from tests.server.parents.estate import LADDER, SHOP, Estate

RULE: dict[str, Any] = {
    "name": "small-changes",
    "apps": ["main/argocd/api", "main/argocd/web"],
    "environments": ["staging"],
    "kinds": ["restart", "scale", "set_image", "set_revision", "sync"],
    "images": ["registry.example.com/shop/*"],
    "versions": ">=1.0.0,<3.0.0",
    "replicas": {"least": 1, "most": 4},
}


TEMPLATE: dict[str, Any] = {"rules": [RULE], "most_changes": 2}


@dataclass
class Office:
    """A controller of the shop over the estate's own tree, and its ear at the applier."""

    estate: Estate
    folder: Path

    def __post_init__(self) -> None:
        self.start()

    def start(self, template: dict[str, Any] = TEMPLATE) -> None:
        """The controller starts again, with this template."""
        path = self.folder / "template.yaml"
        path.write_text(yaml.safe_dump(template))
        world = self.estate.world
        self.controller = Controller(
            app=SHOP,
            key=self.estate.key,
            judge=Judge(read_template(path), world.tree, LADDER),
            tree=world.tree,
            state=world.state,
            life=600,
            patience=60,
            clock=world.clock,
        )

    def narrow(self, **rule: Any) -> None:
        self.start({**TEMPLATE, "rules": [{**RULE, **rule}]})

    async def said(self) -> list[Statement]:
        entries = cast(
            "list[tuple[str, dict[str, str]]]", await self.estate.redis.xrange(said_key(self.estate.world.state, SHOP))
        )
        keys = {self.estate.key.thumbprint(): self.estate.key}
        return [read_statement(fields[STATEMENT], keys) for _, fields in entries]

    async def decide(self, proposal: Proposal) -> Statement:
        """What the controller says of it, which the applier hears."""
        await self.estate.desk.ask(proposal)
        await self.controller.work()
        said = [one for one in await self.said() if one.proposal == proposal.id]
        (statement,) = said
        return statement


async def put(office: Office, told: Content, **fields: str) -> None:
    """What somebody who can write to the stream puts before the controller."""
    text = rfc8785.dumps(told.model_dump(mode="json")).decode()
    entry = {PROPOSAL: told.id, DIGEST: hashlib.sha256(text.encode()).hexdigest(), CONTENT: text, **fields}
    await office.estate.redis.xadd(asked_key(office.estate.world.state, SHOP), cast("Any", entry))
