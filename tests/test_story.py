"""The main job from start to end, as a new user would live it: `arborgate demo`, a real MCP client, a real browser."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Page

from arborgate.tools.record import Event
from tests.story import CLI, Story, run_demo, write_tour

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

DOCS = Path(__file__).parent.parent / "docs"


def verify(log: Path) -> subprocess.CompletedProcess[str]:
    argv = [*CLI, "record", "verify", str(log)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


async def test_an_agent_finds_the_broken_app_and_proposes_a_person_approves_and_it_turns_healthy(
    tmp_path: Path, page: Page
) -> None:
    pictures = DOCS / "images" if os.environ.get("ARBORGATE_TOUR") == "write" else tmp_path
    pictures.mkdir(exist_ok=True)
    async with run_demo(tmp_path) as demo:
        story = Story(demo, page, pictures)
        await story.tell()
        log = shutil.copytree(demo.record, tmp_path / "record")
    said = "\n".join(step.answer for step in story.steps)
    for event in (Event.PROPOSAL_PROPOSED, Event.PROPOSAL_APPROVED, Event.PROPOSAL_APPLIED):
        assert event in story.steps[-1].answer
    assert "Dev Developer" in story.steps[-1].answer
    assert "Ada Approver" in story.steps[-1].answer
    assert "\x1b" not in said
    whole = verify(log)
    assert (whole.returncode, whole.stdout.count("whole")) == (0, 2)
    lines = (log / "demo.jsonl").read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"caller_name":"Dev Developer"' in line)
    lines[at] = lines[at].replace(b"Dev Developer", b"Dev Developex", 1)
    (log / "demo.jsonl").write_bytes(b"".join(lines))
    broken = verify(log)
    assert broken.returncode == 1
    assert f"demo.jsonl: broken at line {at + 1}: the hash does not cover the line" in broken.stderr
    if pictures == DOCS / "images":
        (DOCS / "tour.md").write_text(write_tour(story, demo.output(), whole.stdout, broken.stderr))


def test_the_tour_tells_the_whole_story() -> None:
    tour = (DOCS / "tour.md").read_text()
    for part in ("app_diagnose", "redis_read", "rollout_propose", "approve", "record_search", "broken at line"):
        assert part in tour
