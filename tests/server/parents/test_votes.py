"""What a parent app approves counts as far as its budget goes, and no further."""

import pytest

from tests.server.parents.estate import BANK, SHOP, Estate

pytestmark = pytest.mark.anyio


async def test_what_the_parent_app_approves_inside_its_budget_is_applied_without_a_person(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.desk.ask(proposal)
    await estate.say(estate.sign(proposal))

    approved = await estate.get(proposal)
    assert (approved.state, [one.approver.key for one in approved.approvals]) == ("approved", [f"arborgate:app#{SHOP}"])
    assert (await estate.apply(approved)).state == "applied"
    assert estate.world.replicas()["api"] == 3
    assert estate.answered() == [
        ("ok", ("parents-approve-small-changes",), "approve: It is inside the budget."),
    ]


async def test_only_the_parent_app_above_all_targets_is_asked(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"), estate.world.scale("db"))

    await estate.desk.ask(proposal)
    await estate.desk.ask(proposal)

    assert [one["proposal"] for one in await estate.asked(SHOP)] == [proposal.id]
    assert await estate.asked(BANK) == []
    assert [str(one.event) for one in estate.world.audit.entries].count("parent:asked") == 1
