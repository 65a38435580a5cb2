"""The pages of the policies: who may read them, and that what they say is what the engine decides."""

import re
from pathlib import Path

import pytest

from arborgate.policies.model import Action
from arborgate.tools.record import Event
from tests.server.web.world import World

pytestmark = pytest.mark.anyio

PATHS = ("/policies", "/policies/record", "/policies/who", "/policies/what", "/policies/why")


@pytest.mark.parametrize("path", PATHS)
async def test_a_developer_may_not_read_policies_and_that_is_on_record(world: World, path: str) -> None:
    dev = await world.enter("dev", "developer")

    answer = await dev.get(path)

    assert answer.status_code == 403
    assert "@id" not in answer.text
    (denied,) = world.records(Event.CALL_DENIED)
    assert (denied.action, denied.decision) == (Action.POLICY_READ, "deny")


async def test_every_policy_in_force_is_shown_as_it_is_written(world: World) -> None:
    otto = await world.enter("otto", "auditor")

    page = (await otto.get("/policies")).text

    statements = world.pages.engine().loaded.statements
    assert set(re.findall(r'<details class="policy" id="([^"]+)"', page)) == set(statements)
    assert "when { resource.requester == principal.key };" in page.replace("&#34;", '"')
    assert [record.decision for record in world.records(Event.CALL_ANSWERED)] == ["allow"]


async def test_who_can_approve_names_the_policy_the_role_and_its_groups(world: World) -> None:
    otto = await world.enter("otto", "auditor")

    page = (await otto.get("/policies/who?action=proposal:approve&app=orders-api&risk=high")).text

    assert "approvers-decide" in page
    assert "arborgate-approvers" in page
    assert "nobody-decides-on-their-own" in page
    assert "context.interactive" in page


async def test_nobody_can_is_said_of_what_no_policy_permits(world: World, tmp_path: Path) -> None:
    world.demand('@id("shut") forbid (principal, action == Action::"redis:read", resource);', tmp_path / "set")
    otto = await world.enter("otto", "auditor")

    page = (await otto.get("/policies/who?action=redis:read&app=orders-api-staging")).text

    assert "nobody" in page
    assert "taken away by" in page
    assert "shut" in page


async def test_what_somebody_can_do_counts_the_apps_of_now(world: World) -> None:
    otto = await world.enter("otto", "auditor")

    viewer = (await otto.get("/policies/what?role=viewer&agent=copilot")).text
    nobody = (await otto.get("/policies/what?agent=copilot")).text

    assert row_of(viewer, "app:read")[1] == "yes 12 of 12 now"
    assert row_of(nobody, "app:read")[1].startswith("no")
    assert row_of(nobody, "caller:read")[1].startswith("yes")


def row_of(page: str, action: str) -> tuple[str, ...]:
    """The cells behind the action, without their markup, in its first row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    (row, *_) = [each for each in rows if f">{action}<" in each]
    cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
    return tuple(" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells)


async def test_a_policy_that_fails_by_halves_is_told_and_not_a_fault_of_the_page(world: World, tmp_path: Path) -> None:
    overflow = "9223372036854775807 + 1 > 0"
    world.demand(
        f'@id("odd") forbid (principal, action == Action::"app:read", resource) when {{ {overflow} }};',
        tmp_path / "set",
    )
    otto = await world.enter("otto", "auditor")

    answer = await otto.get("/policies/what?role=viewer")

    assert answer.status_code == 409
    assert "a policy fails on it" in answer.text


async def test_a_denial_tells_which_permit_came_nearest_and_what_it_lacked(world: World) -> None:
    otto = await world.enter("otto", "auditor")

    page = (await otto.get("/policies/why?action=personal:read&app=orders-api&role=developer&channel=pages")).text

    assert "denied" in page
    assert "no policy permits it" in page
    assert "developers-read-personal-data" in page
    assert "context.strict is true" in page


async def test_a_decision_is_explained_by_the_text_of_its_policies(world: World) -> None:
    otto = await world.enter("otto", "auditor")

    query = "action=proposal:approve&app=orders-api&role=approver&channel=pages&own=1"
    page = (await otto.get(f"/policies/why?{query}")).text

    assert "denied" in page
    assert '<details class="policy" id="nobody-decides-on-their-own"' in page


async def test_a_past_denial_is_told_again_with_what_would_be_today(world: World, tmp_path: Path) -> None:
    proposal = await world.propose()
    april = await world.enter("april", "approver", age=2_000)
    await april.decide(proposal)
    (denied,) = world.records(Event.CALL_DENIED)
    await world.wait_searchable(proposal)
    otto = await world.enter("otto", "auditor")

    page = (await otto.get(f"/policies/record?ref={denied.replica}:{denied.seq}")).text

    assert "risky-approvals-need-a-recent-login" in page
    assert "the same set" in page
    assert "April" in page
    assert (
        f'href="/policies/record?ref={denied.replica}:{denied.seq}"'
        in (await otto.get(f"/proposals/{proposal.id}")).text
    )


async def test_the_past_of_everybody_needs_the_right_to_search_it(world: World, tmp_path: Path) -> None:
    shut = '@id("shut") forbid (principal, action == Action::"record:search_all", resource);'
    world.demand(shut, tmp_path / "set")
    otto = await world.enter("otto", "auditor")

    assert (await otto.get("/policies/record?ref=serve-1:1")).status_code == 403


@pytest.mark.parametrize("ref", ["serve-1:99999", "nothing", "../../etc/passwd:1", "%22%7B:3"])
async def test_a_record_that_is_not_there_is_told(world: World, ref: str) -> None:
    otto = await world.enter("otto", "auditor")

    answer = await otto.get(f"/policies/record?ref={ref}")

    assert answer.status_code == 404
    assert "No decision like that" in answer.text


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("action=app:raed", "action"),
        ("action=proposal:approve", "is asked of something of one app"),
        ("action=proposal:approve&app=nowhere", "There is no such app that you may see"),
        ("action=caller:read&app=orders-api", "is asked of the whole installation"),
        ("action=app:read&app=orders-api&login_age=soon", "login_age"),
    ],
)
async def test_a_question_that_makes_no_sense_is_told_with_its_field(world: World, query: str, problem: str) -> None:
    otto = await world.enter("otto", "auditor")

    for path in ("/policies/who", "/policies/why"):
        answer = await otto.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert problem in answer.text


async def test_what_is_typed_comes_back_as_text(world: World) -> None:
    otto = await world.enter("otto", "auditor")

    page = (await otto.get("/policies/why?action=app:read&app=%3Cscript%3Ealert(1)%3C/script%3E")).text

    assert "<script>alert" not in page
