"""The gate before what a credential is not good for: a scope it lacks, a login too old or too weak, another app."""

from dataclasses import replace
from pathlib import Path

import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import LoginNeeded, Reason, ScopeNeeded
from arborgate.policies.loader import read_policies
from arborgate.policies.model import Action, ActionGroup
from arborgate.tools.record import Event
from arborgate.tools.tool import Effect
from tests.policies.writing import write_policies
from tests.server.test_gate import make_caller, make_tool, open_world

pytestmark = pytest.mark.anyio

SCOPES = ((ActionGroup.PROPOSE, "arborgate:propose"), (ActionGroup.READ, "arborgate:read"))


async def test_a_scope_that_the_token_lacks_is_named_and_on_record(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        answer = await world.gate.call(replace(make_caller("viewer"), withheld=SCOPES), "app_get", {"app": "api"})
        (record,) = world.records()
    assert isinstance(answer.error, ScopeNeeded)
    assert (answer.error.scope, answer.error.reason) == ("arborgate:read", Reason.DENIED)
    assert (record.event, record.decision, record.policies) == (Event.CALL_DENIED, "deny", ("token-lacks-scope",))
    assert "arborgate:read" in record.detail


async def test_what_a_lacking_scope_is_answered_tells_nothing_of_what_is_there(tmp_path: Path) -> None:
    caller = replace(make_caller("viewer"), withheld=SCOPES)
    async with open_world(tmp_path) as world:
        told = [(await world.gate.call(caller, "app_get", {"app": name})).error for name in ("api", "missing")]
    assert [str(error) for error in told] == ["The token lacks the scope 'arborgate:read' for this."] * 2


async def test_who_could_do_it_nowhere_is_not_sent_for_a_scope(tmp_path: Path) -> None:
    caller = replace(make_caller(), withheld=SCOPES)
    async with open_world(tmp_path) as world:
        told = [(await world.gate.call(caller, "app_get", {"app": name})).error for name in ("api", "missing")]
    assert [error.reason for error in told if error] == [Reason.NOT_THERE] * 2


async def test_a_tool_that_waits_for_a_scope_is_offered(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        assert [tool.name for tool in world.gate.offered(replace(make_caller("viewer"), withheld=SCOPES))] == [
            "app_get"
        ]
        assert world.gate.offered(replace(make_caller(), withheld=SCOPES)) == []


FRESH = """
@id("all") permit (principal, action, resource);
@id("fresh") forbid (principal, action == Action::"rollout:propose", resource)
when { context.login_age > 600 || context.acr != "key" };
"""


async def test_a_proposal_that_waits_for_a_login_names_the_login_that_would_do(tmp_path: Path) -> None:
    engine = Engine(read_policies(write_policies(tmp_path / "set", FRESH))[0])
    tool = make_tool(action=Action.ROLLOUT_PROPOSE, effect=Effect.PROPOSES)
    async with open_world(tmp_path, tool, engine=engine, acr_values=("pwd", "key")) as world:
        assert [each.name for each in world.gate.offered(make_caller())] == ["app_get"]
        answer = await world.gate.call(make_caller(), "app_get", {"app": "api"})
        (record,) = world.records()
    assert isinstance(answer.error, LoginNeeded)
    assert (answer.error.max_age, answer.error.acr_values) == (600, ("key",))
    assert answer.error.message == str(answer.error)
    assert (record.event, record.policies) == (Event.CALL_DENIED, ("fresh",))


async def test_a_token_for_one_app_finds_nothing_elsewhere_whatever_the_policies(tmp_path: Path) -> None:
    loaded, _ = read_policies(write_policies(tmp_path / "set", '@id("all") permit (principal, action, resource);'))
    caller = replace(make_caller(), within="dev/argocd/api")
    async with open_world(tmp_path, engine=Engine(loaded)) as world:
        inside = await world.gate.call(caller, "app_get", {"app": "api"})
        outside = await world.gate.call(caller, "app_get", {"app": "bank"})
        records = world.records()
    assert inside.error is None
    assert outside.error is not None
    assert outside.error.reason is Reason.NOT_THERE
    assert records[-1].policies == ("token-is-for-one-app",)
