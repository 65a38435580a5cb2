"""An applier's writer beside a Git server, with the plan that it is to carry out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from arborgate.tools.change import Attribution, Change, Heed, JsonObject, Target, heed_nobody, merge
from arborgate.tools.git.changes import make_commit, plan_image_commit
from arborgate.tools.git.source import GitSource
from arborgate.tools.git.writer import GitWriter
from arborgate.tools.kubernetes.changes import MARK
from arborgate.tools.plan import Plan
from tests.parts.git import GitServer
from tests.parts.install import find_program
from tests.tools.git.repository import NAME, api_node, make_settings, make_shop, make_writing

NEW = "registry.example.org/shop/api:1.5.0"
ASKED = Attribution("p-1", 0, "Set the image of api", "Dev", "copilot", ("Ana", "Ben"))


class Desk:
    """A writer beside a server, and the plan that it is to carry out."""

    def __init__(self, server: GitServer, folder: Path, **more: Any) -> None:
        self.server = server
        settings = more.pop("settings", {})
        self.tree = make_shop(more.pop("url", f"{server.url}/{NAME}.git"), **more.pop("shop", {}))
        writing = make_writing(folder, **more)
        self.source = GitSource(make_settings(server, folder, **settings), writing.repositories)
        self.writer = GitWriter(self.source, self.tree, writing, {}, sleep=self._sleep)
        self.waited = 0

    async def _sleep(self, _: float) -> None:
        self.waited += 1

    @property
    def target(self) -> Target:
        return Target(
            app="sandbox/argocd/api",
            cluster=NAME,
            api="git",
            kind="Application",
            namespace="main",
            name="apps/api.yaml#api",
        )

    async def read(self) -> JsonObject:
        live = await self.writer.read(self.target)
        assert live is not None
        return live

    async def plan(self, image: str = NEW) -> Plan:
        live = await self.read()
        node = api_node(self.tree)
        return make_commit(plan_image_commit(node, live, image=image), node, self.target, live)

    async def apply(
        self,
        plan: Plan | Change,
        live: JsonObject | None = None,
        asked: Attribution = ASKED,
        heed: Heed = heed_nobody,
    ) -> JsonObject:
        change = plan.change if isinstance(plan, Plan) else plan
        patch = (change.undo or {}) if asked.undone else change.patch
        mark = f"{asked.proposal}/{asked.change}{'/undone' if asked.undone else ''}"
        marked = merge(patch, {"metadata": {"annotations": {MARK: mark}}})
        version = (live or await self.read())["metadata"]["resourceVersion"]
        return await self.writer.apply(self.target, marked, version, asked, heed)

    def messages(self) -> list[str]:
        return self.server.log(NAME, "%B")

    def file(self) -> str:
        return self.server.read(NAME, "apps/api.yaml")


def make_key(file: Path) -> None:
    argv = (find_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "arborgate", "-f", file)
    subprocess.run(argv, check=True)
