"""The tool `whoami`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.agents import Agents
from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies, read_policies
from arborgate.policies.model import ActionGroup, Binding, Caller
from arborgate.policies.surroundings import Surroundings
from tests.policies.writing import TRUSTING, copy_shipped
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
    assert text.splitlines()[0] == "«Ada» (https://issuer.test#ada), acted for by ide-copilot, over mcp, not bound"
    assert text.splitlines()[-1] == (
        "You may propose changes; a person other than the one you act for approves them on "
        "https://gate.test/proposals. No tool approves or applies."
    )


async def may_not(folder: Path, caller: Caller) -> Any:
    world = World(folder, make_app("api"))
    world.engine = Engine(load_policies(None), surroundings=TRUSTING)
    return (await world.ask("whoami", caller)).get("may_not")


BOTH = make_caller("ada", "developer", "approver")


async def test_what_only_the_person_may_is_told(tmp_path: Path) -> None:
    approving = {
        "approve": ["proposal:approve", "proposal:reject", "proposal:review"],
        "read_sensitive": ["policy:read"],
    }
    steering = {"propose": ["proposal:steer"]}
    proposing = {"propose": ["proposal:steer", "proposal:withdraw", "rollout:propose"]}
    sensitive = {
        "read_sensitive": [
            "personal:read outside strict environments",
            "redis:read_value outside strict environments",
        ]
    }
    unnamed = replace(ADA, agent="")
    assert await may_not(tmp_path, ADA) == steering
    assert await may_not(tmp_path, BOTH) == {**approving, **steering}
    assert await may_not(tmp_path, unnamed) == {**proposing, **sensitive}
    assert await may_not(tmp_path, replace(ADA, itself=True)) == {**proposing, **sensitive}
    assert await may_not(tmp_path, replace(ADA, withheld=((ActionGroup.PROPOSE, "propose"),))) == proposing


async def test_an_agent_that_is_not_trusted_learns_that_it_may_only_look(tmp_path: Path) -> None:
    world = World(tmp_path, make_app("api"))
    world.engine = Engine(load_policies(None), surroundings=Surroundings(agents=Agents(trusted=("ide",))))
    answer, known = [await world.ask("whoami", replace(ADA, agent=name)) for name in ("some-client", "ide")]
    text = (await world.call("whoami", replace(ADA, agent="some-client"))).text

    assert (answer["trust"], known["trust"]) == ("unknown", "trusted")
    assert (list(answer["may"]), "rollout_propose" in answer["tools"]) == (["read"], False)
    assert answer["changes"].startswith(
        "You may not propose changes: the platform team has not said that it trusts this"
    )
    assert text.splitlines()[0].endswith("acted for by some-client (not trusted here), over mcp, not bound")


async def test_a_bearer_token_learns_what_it_is_not_bound_enough_for(tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text(
        '@id("bound") forbid (principal, action == Action::"rollout:propose", resource) '
        "when { context.strict } unless { context.bound };"
    )
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world", make_app("api"))
    world.engine = Engine(read_policies(folder)[0], surroundings=TRUSTING)

    bearer = await world.ask("whoami", ADA)
    bound = await world.ask("whoami", replace(ADA, binding=Binding.DPOP))

    assert bearer["may_not"] == {"propose": ["proposal:steer", "rollout:propose in strict environments"]}
    assert (bearer["binding"], bound["binding"], bound["may_not"]["propose"]) == ("bearer", "dpop", ["proposal:steer"])


async def test_a_narrowed_caller_learns_what_is_left(tmp_path: Path) -> None:
    narrow = replace(
        make_caller("ctl", agent="ctl"),
        itself=True,
        binding=Binding.DPOP,
        actors=("parent",),
        within="dev/argocd/api",
        grants=frozenset({("controller", "dev/argocd/shop"), ("developer", "dev/argocd/shop")}),
        withheld=((ActionGroup.PROPOSE, "arborgate:propose"),),
    )
    world = World(tmp_path, make_app("api"))
    answer = await world.ask("whoami", narrow)
    text = (await world.call("whoami", narrow)).text
    assert (answer["itself"], answer["within"], answer["scopes"]) == (True, "dev/argocd/api", ["arborgate:propose"])
    assert answer["roles_at"] == {"dev/argocd/shop": ["controller", "developer"]}
    assert "propose" in answer["may_not"]
    assert "propose" not in answer["may"]
    assert "delegate" not in answer["may"]
    assert text.splitlines()[:6] == [
        "«Ctl» (https://issuer.test#ctl), acting for itself via parent, over mcp, bound by dpop",
        "Roles: none; groups: shop-team",
        "At dev/argocd/shop and below: controller, developer",
        "The token is good for dev/argocd/api and what is below it alone.",
        "The token lacks the scopes arborgate:propose",
        text.splitlines()[5],
    ]
    assert "May not, though the person alone may, propose: proposal:steer, proposal:withdraw, rollout:propose" in text
