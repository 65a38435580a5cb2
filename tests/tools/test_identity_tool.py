"""The tool `whoami`."""

from pathlib import Path

import pytest

from tests.tools.world import ADA, TOOLS, World, make_app, make_caller

pytestmark = pytest.mark.anyio


async def test_a_developer_learns_who_they_are_and_what_their_agent_may_do(tmp_path: Path) -> None:
    answer = await World(tmp_path, make_app("api")).ask("whoami")
    assert (answer["person"], answer["key"]) == ("Ada", "https://issuer.test#ada")
    assert (answer["agent"], answer["channel"], answer["actors"]) == ("ide-copilot", "mcp", [])
    assert (answer["groups"], answer["roles"]) == (["shop-team"], ["developer"])
    assert answer["may"]["propose"] == ["proposal:withdraw", "rollout:propose"]
    assert "app:read" in answer["may"]["read"]
    assert "approve" not in answer["may"]
    assert answer["tools"] == sorted(["whoami", *(tool.name for tool in TOOLS)])


async def test_who_may_not_propose_is_told_so_and_not_offered_the_tools(tmp_path: Path) -> None:
    answer = await World(tmp_path, make_app("api")).ask("whoami", make_caller("vic", "viewer"))
    assert "proposal_withdraw" not in answer["tools"]
    assert "propose" not in answer["may"]
    assert answer["changes"] == "You may not propose changes. No tool approves or applies."


async def test_the_text_says_where_and_by_whom_changes_are_approved(tmp_path: Path) -> None:
    text = (await World(tmp_path, make_app("api")).call("whoami", ADA)).text
    assert text.splitlines()[0] == '"Ada" (https://issuer.test#ada), acted for by ide-copilot, over mcp, not bound'
    assert text.splitlines()[-1] == (
        "You may propose changes; a person other than the one you act for approves them on "
        "https://gate.test/proposals. No tool approves or applies."
    )
