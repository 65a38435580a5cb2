"""Proposals are listed newest first, page by page, and what happens to them can be followed as it happens."""

import asyncio

import pytest

from arborgate.tools.change import Rehearsal
from arborgate.tools.proposal import ProposalQuery, ProposalState
from tests.server.applier.world import DEV, World, make_person

pytestmark = pytest.mark.anyio


async def test_pages_show_every_proposal_once_newest_first(world: World) -> None:
    made = []
    for _ in range(7):
        world.clock.now += 1
        made.append((await world.draft([world.scale("api")])).id)
    found: list[str] = []
    before = ""
    while True:
        page = await world.book.list(ProposalQuery(before=before, limit=3))
        found += [one.id for one in page.proposals]
        if not (before := page.next):
            break
    assert found == made[::-1]
    assert made == sorted(made)


async def test_a_list_is_filtered_by_state_requester_and_app(world: World) -> None:
    api = await world.draft([world.scale("api")])
    web = await world.draft([world.scale("web")], by=make_person("eve", "arborgate-developers"))
    await world.book.withdraw(web.id, DEV)

    async def ids(query: ProposalQuery) -> list[str]:
        return [one.id for one in (await world.book.list(query)).proposals]

    assert await ids(ProposalQuery(states=(ProposalState.WITHDRAWN,))) == [web.id]
    assert await ids(ProposalQuery(requester=DEV.key)) == [api.id]
    assert await ids(ProposalQuery(app="main/argocd/web")) == [web.id]
    assert await ids(ProposalQuery(app="main/argocd/none")) == []


async def test_one_that_cannot_be_read_does_not_hide_the_others(world: World) -> None:
    good, bad = [await world.draft([world.scale("api")]) for _ in range(2)]
    await world.forge(bad.id, content="{")
    assert [one.id for one in (await world.book.list(ProposalQuery())).proposals] == [good.id]


async def test_settling_ends_as_soon_as_the_rehearsal_is_there(world: World) -> None:
    proposal = await world.draft([world.scale("api")])
    settling = asyncio.create_task(world.book.settle(proposal.id, 10))
    await asyncio.sleep(0)
    await world.book.rehearsed(proposal.id, Rehearsal(changes=(), at=1.0))
    async with asyncio.timeout(5):
        assert (await settling).state is ProposalState.PROPOSED


async def test_settling_gives_up_after_its_time(world: World) -> None:
    proposal = await world.draft([world.scale("api")])
    assert (await world.book.settle(proposal.id, 0.05)).state is ProposalState.DRAFTED
    assert (await world.book.settle(proposal.id, 0)).state is ProposalState.DRAFTED


async def test_events_tell_every_move_in_order_and_go_on_from_a_position(world: World) -> None:
    proposal = await world.draft([world.scale("api")])
    await world.book.withdraw(proposal.id, DEV)
    seen = []
    async for event in world.book.events("0-0"):
        seen.append(event)
        if len(seen) == 2:
            break
    assert [(event.proposal, event.state, event.by) for event in seen] == [
        (proposal.id, "drafted", DEV.key),
        (proposal.id, "withdrawn", DEV.key),
    ]
    async for event in world.book.events(seen[0].position):
        assert event == seen[1]
        break


async def test_an_id_cannot_be_guessed_and_sorts_by_when_it_was_made(world: World) -> None:
    ids = {(await world.draft([world.scale("api")])).id for _ in range(20)}
    assert len(ids) == 20
    assert len({one[2:8] for one in ids}) == 1
    assert all(len(one) == 18 and one.startswith("p-") for one in ids)
