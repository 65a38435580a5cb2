"""The controller of a parent app: it answers each proposal once, and approves nothing that it can't check."""

from __future__ import annotations

import hashlib
from typing import cast

import pytest

from arborgate.server.parent import read_content
from arborgate.server.parent_statements import read_statement
from arborgate.server.parent_streams import CONTENT, DIGEST, STATEMENT, said_key
from tests.server.parents.estate import SHOP
from tests.server.parents.office import TEMPLATE, Office, put

pytestmark = pytest.mark.anyio


async def test_it_approves_what_its_template_allows_and_says_by_which_rule(office: Office) -> None:
    proposal = await office.estate.propose(office.estate.world.scale("api"))

    statement = await office.decide(proposal)

    assert (statement.verdict, statement.reason) == (
        "approve",
        "Inside the budget: scale of main/argocd/api by the rule small-changes.",
    )


async def test_a_child_that_is_not_healthy_goes_to_people(office: Office) -> None:
    office.estate.edit("api", {"status": {"health": {"status": "Progressing"}}})

    statement = await office.decide(await office.estate.propose(office.estate.world.scale("api")))

    assert (statement.verdict, "it is not healthy" in statement.reason) == ("pass", True)


async def test_an_environment_that_is_not_in_the_template_goes_to_people(office: Office) -> None:
    office.narrow(environments=["dev"])

    statement = await office.decide(await office.estate.propose(office.estate.world.scale("api")))

    assert (statement.verdict, "the environment staging" in statement.reason) == ("pass", True)


async def test_a_kind_that_is_not_in_the_template_goes_to_people(office: Office) -> None:
    office.narrow(kinds=["restart"])

    statement = await office.decide(await office.estate.propose(office.estate.world.scale("api")))

    assert (statement.verdict, "no such change is in the budget" in statement.reason) == ("pass", True)


async def test_outside_the_hours_it_goes_to_people(office: Office) -> None:
    office.start({**TEMPLATE, "zone": "UTC", "hours": [{"days": "mon-sun", "from": "00:00", "until": "00:01"}]})

    statement = await office.decide(await office.estate.propose(office.estate.world.scale("api")))

    assert (statement.verdict, statement.reason) == ("pass", "It is outside the hours.")


async def test_one_change_outside_leaves_all_of_them_to_people(office: Office) -> None:
    world = office.estate.world

    statement = await office.decide(await office.estate.propose(world.scale("api"), world.scale("db")))

    assert statement.verdict == "pass"


async def test_an_app_that_is_not_there_or_not_below_it_goes_to_people(office: Office) -> None:
    estate = office.estate
    office.narrow(apps=["*"])
    proposal = await estate.propose(estate.world.scale("api"))
    for name in ("main/argocd/bank", "main/argocd/ghost", SHOP, "../api", ""):
        change = proposal.content.changes[0]
        aimed = change.model_copy(update={"target": change.target.model_copy(update={"app": name})})
        await put(office, proposal.content.model_copy(update={"id": f"p-{name[-5:]}", "changes": (aimed,)}))

    await office.controller.work()

    assert {one.verdict for one in await office.said()} == {"pass"}
    assert len(await office.said()) == 5


async def test_a_proposal_that_is_not_what_its_digest_stands_for_is_not_approved(office: Office) -> None:
    proposal = await office.estate.propose(office.estate.world.scale("api"))
    await put(office, proposal.content, digest="0" * 64)
    await put(office, proposal.content, digest=proposal.digest, content=f" {proposal.content.model_dump_json()}")
    await put(office, proposal.content, proposal="p-other")
    await put(office, proposal.content, content="{}", digest=hashlib.sha256(b"{}").hexdigest())
    await put(office, proposal.content, content='{"id": 1', digest="not a digest")

    await office.controller.work()

    assert [one.verdict for one in await office.said()] == ["pass"] * 4


async def test_the_content_is_read_from_exactly_what_the_digest_is_of(office: Office) -> None:
    proposal = await office.estate.propose(office.estate.world.scale("api"))
    await office.estate.desk.ask(proposal)

    (entry,) = await office.estate.asked()

    assert entry[DIGEST] == proposal.digest == hashlib.sha256(entry[CONTENT].encode()).hexdigest()
    assert read_content(entry) == proposal.content


async def test_after_a_crash_it_says_nothing_twice(office: Office) -> None:
    proposals = [await office.estate.propose(office.estate.world.scale(name)) for name in ("api", "db")]
    for proposal in proposals:
        await office.decide(proposal)

    office.start()
    await office.controller.work()

    assert len(await office.said()) == 2


async def test_what_others_put_into_its_stream_does_not_keep_it_silent(office: Office) -> None:
    estate = office.estate
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.redis.xadd(said_key(estate.world.state, SHOP), {STATEMENT: estate.sign(proposal, key=estate.bank_key)})
    await estate.redis.xadd(said_key(estate.world.state, SHOP), {STATEMENT: "nonsense"})
    await estate.desk.ask(proposal)

    await office.controller.work()

    newest = cast("list[tuple[str, dict[str, str]]]", await estate.redis.xrevrange(said_key(estate.world.state, SHOP)))
    assert read_statement(newest[0][1][STATEMENT], {estate.key.thumbprint(): estate.key}).verdict == "approve"


async def test_while_its_view_is_out_of_date_it_waits_and_then_leaves_it_to_people(office: Office) -> None:
    estate = office.estate
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.desk.ask(proposal)
    estate.world.tree.heard("main", "1", -1_000.0)

    await office.controller.work()
    assert await office.said() == []

    estate.world.clock.now += 61
    await office.controller.work()
    (statement,) = await office.said()
    assert (statement.verdict, statement.reason) == ("pass", "What is known of main is too old to judge by.")


async def test_an_approval_lasts_no_longer_than_the_proposal(office: Office) -> None:
    proposal = await office.estate.propose(office.estate.world.scale("api"))
    office.estate.world.clock.now = proposal.content.expires_at - 10

    statement = await office.decide(proposal)

    assert statement.exp == proposal.content.expires_at
