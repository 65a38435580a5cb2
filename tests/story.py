"""The main job from start to end on the running demo, told step by step: the test checks it, the tour shows it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp_types import CallToolResult
from playwright.async_api import Page, expect

from tests.parts.process import Process, find_free_ports
from tests.server.serving import connected

CLI = (sys.executable, "-m", "arborgate.server.cli")
REASON = (
    "payments-worker crash-loops since the deploy of 2.14.0 (its settings lack PAYMENTS_LEDGER_SHARDS) and its queue "
    "grows. History entry {history} ran 2.13.1 without trouble."
)


@dataclass
class Demo:
    """A running `arborgate demo`."""

    port: int
    folder: Path
    process: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, role: str) -> str:
        """What `arborgate demo token ROLE` prints."""
        argv = [*CLI, "demo", "token", role, "--port", str(self.port)]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def output(self) -> str:
        return self.process.output.read_text()

    @property
    def record(self) -> Path:
        """Where its audit logs are, as its banner says."""
        found = re.search(r"record verify (\S+)", self.output())
        assert found is not None, self.output()
        return Path(found[1])


@asynccontextmanager
async def run_demo(folder: Path) -> AsyncIterator[Demo]:
    """Starts the demo as a person would, and stops it as Ctrl-C would."""
    (port,) = find_free_ports(1)
    process = Process("demo", [*CLI, "demo", "--port", str(port)], folder)
    demo = Demo(port, folder, process)
    try:
        await asyncio.to_thread(process.wait_ready, lambda: _answers(demo.url))
        yield demo
    finally:
        await asyncio.to_thread(process.stop)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


@dataclass
class Step:
    """One step of the story: what was asked in our words, what was called, what came back, and a picture."""

    title: str
    words: str
    call: str = ""
    answer: str = ""
    picture: str = ""
    alt: str = ""


@dataclass
class Story:
    """Goes through the main job and keeps what it saw. `pictures` is where screenshots go, if anywhere."""

    demo: Demo
    page: Page
    pictures: Path | None = None
    steps: list[Step] = field(default_factory=list)
    proposal: str = ""
    digest: str = ""

    async def tell(self) -> None:
        async with connected(f"{self.demo.url}/mcp", self.demo.token("developer"), "2026-07-28") as client:

            async def ask(title: str, words: str, tool: str, arguments: dict[str, Any]) -> CallToolResult:
                result = await client.call_tool(tool, arguments)
                shown = f"{tool} {json.dumps(arguments)}" if arguments else tool
                self.steps.append(Step(title, words, shown, read_text(result)))
                return result

            await ask("Who am I?", "The agent asks what it may do, before it does anything.", "whoami", {})
            listed = await ask(
                "What is broken?",
                "The list begins with the worst.",
                "app_list",
                {"environment": "production", "limit": 5},
            )
            broken = listed.structured_content["apps"][0]
            assert broken["app"].endswith("/payments-worker"), broken
            diagnosed = await ask(
                "Why?",
                "One call finds the deepest failing app, its messages, what changed last, and what to look at next. Text "
                "from the cluster is marked as such.",
                "app_diagnose",
                {"app": "payments-worker"},
            )
            rollback = next(
                call["arguments"]["changes"][0]
                for call in diagnosed.structured_content["next"]
                if call["tool"] == "rollout_propose"
            )
            await ask("What waits for it?", "The app owns a part of Redis.", "redis_keys", {"app": "payments-worker"})
            queue = await ask(
                "The queue, without its values",
                "Production is strict: a developer sees that the queue is there and how long it is. What its entries "
                "hold takes `redis:read_value`, which policy gives approvers.",
                "redis_read",
                {"app": "payments-worker", "key": "payments:queue:capture"},
            )
            assert not queue.is_error, read_text(queue)
            proposed = await ask(
                "A proposal",
                "The agent can't roll back. It proposes: one change, planned against the live object, rehearsed by the "
                "applier as a dry run, with its undo.",
                "rollout_propose",
                {"reason": REASON.format(history=rollback["history_id"]), "changes": [rollback]},
            )
            assert not proposed.is_error, read_text(proposed)
            self.proposal = proposed.structured_content["proposal"]
            await self._await_state(client, "proposed")
            await self._refused()
            await self._approve()
            await self._await_state(client, "applied")
            await self._await_health(client)
            await ask("Healthy again", "The applier applied it and watched.", "app_get", {"app": "payments-worker"})
            await ask("What became of it", "Each step is kept.", "proposal_get", {"proposal": self.proposal})
            await self._search()

    async def _refused(self) -> None:
        """The same agent tries the door that people use."""
        token = self.demo.token("developer")
        async with httpx2.AsyncClient(base_url=self.demo.url, headers={"Authorization": f"Bearer {token}"}) as http:
            answer = await http.post(f"/approvals/{self.proposal}/approve", json={"digest": "0" * 64})
        assert answer.status_code == 401
        self.steps.append(
            Step(
                "The agent cannot approve it",
                "No tool approves. The agent's token does not open the terminal's endpoint or the pages either:",
                f"POST /approvals/{self.proposal}/approve",
                f"{answer.status_code} {answer.json()['error']['message']}",
            )
        )

    async def _approve(self) -> None:
        page = self.page
        await page.goto(f"{self.demo.url}/proposals/{self.proposal}")
        await page.get_by_role("link", name="Log in").click()
        await self._picture(
            "login", "The sandbox's login: choose a role", "A person logs in", "In the demo by choosing who to be."
        )
        await page.get_by_role("button", name="approver").click()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await expect(page.get_by_role("button", name="Approve")).to_be_visible()
        await self._picture(
            "proposal",
            "A proposal: what changes, the diff, the agent's words marked as such",
            "An approver reads it",
            "What changes, the diff, what is under it, who asked through which agent, the agent's reason marked as the "
            "agent's words, and the digest that an approval is of.",
        )
        await page.get_by_label("Comment").fill("Rolling back; the ledger settings follow.")
        await page.get_by_role("button", name="Approve").click()
        await page.wait_for_url("**/proposals/**")
        self.steps.append(Step("… and approves", "The applier takes it from here."))

    async def _picture(self, name: str, alt: str, title: str, words: str) -> None:
        if self.pictures is not None:
            await self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)
        self.steps.append(Step(title, words, picture=f"images/{name}.png", alt=alt))

    async def _search(self) -> None:
        """The auditor's question, by the approver's own assistant."""
        async with connected(f"{self.demo.url}/mcp", self.demo.token("approver"), "2026-07-28") as client:
            arguments = {"proposal": self.proposal, "event": "proposal"}
            found = await client.call_tool("record_search", arguments)
            await expect(self.page.locator('[data-live="state"]')).to_contain_text("applied", timeout=15_000)
            await self._picture(
                "applied", "The same page, applied", "The page afterwards", "What happened, step by step."
            )
            await self.page.goto(f"{self.demo.url}/apps")
            await self._picture("apps", "The app tree, with health", "The tree", "All apps that the approver may see.")
        self.steps.append(
            Step(
                "Who did what?",
                "The record is one search away.",
                f"record_search {json.dumps(arguments)}",
                read_text(found),
            )
        )

    async def _await_state(self, client: Any, state: str) -> None:
        async with asyncio.timeout(60):
            while True:
                found = await client.call_tool("proposal_get", {"proposal": self.proposal})
                now = found.structured_content["state"]
                assert now not in {"refused", "failed", "rolled_back", "stale", "expired"} - {state}, read_text(found)
                if now == state:
                    self.digest = found.structured_content["digest"]
                    return
                await asyncio.sleep(0.1)

    async def _await_health(self, client: Any) -> None:
        async with asyncio.timeout(60):
            while True:
                found = await client.call_tool("app_get", {"app": "payments-worker"})
                if found.structured_content["health"] == "Healthy":
                    return
                await asyncio.sleep(0.1)


def read_text(result: CallToolResult) -> str:
    """The text that a model would see."""
    block = result.content[0]
    assert block.type == "text"
    return block.text


def write_tour(story: Story, banner: str, verified: str, broken: str) -> str:
    """docs/tour.md, from what a story saw."""
    lines = [
        "# A tour: from a broken app to a healthy one\n",
        "This is `make demo` and one developer's agent, with real output. `make tour` writes it anew.\n",
        "```\n" + banner.strip().replace(str(Path(sys.executable).parent), "/path/to/.venv/bin") + "\n```\n",
    ]
    for number, step in enumerate(story.steps, start=1):
        lines.append(f"## {number}. {step.title}\n\n{step.words}\n")
        if step.call:
            lines.append(f"```\n> {step.call}\n\n{step.answer.strip()}\n```\n")
        if step.picture:
            lines.append(f"![{step.alt}]({step.picture})\n")
    lines.append(
        f"## {len(story.steps) + 1}. Is the record whole?\n\nAnybody with the files can prove it, with no server:\n\n"
        f"```\n$ arborgate record verify record/\n{verified.strip()}\n```\n\n"
        f"One byte changed, and the line is named:\n\n"
        f"```\n$ arborgate record verify record/\n{broken.strip()}\n```\n"
    )
    return "\n".join(lines)
