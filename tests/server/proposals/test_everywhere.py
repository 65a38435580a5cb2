"""The same scripts on each Redis that Arborgate may run on: one server, a Cluster, and the demo's pure-Python one."""

from collections.abc import AsyncIterator

import pytest

from arborgate.tools.proposal import ProposalQuery
from tests.parts.redis import RedisCluster
from tests.server.applier.world import World, connected

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["server", "cluster", "fake"])
async def anywhere(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[World]:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        cluster.flush()
        url = cluster.url().replace("redis://", "redis+cluster://").removesuffix("/0")
    else:
        url = request.getfixturevalue("redis_url" if request.param == "server" else "fake_url")
    async with connected(url) as client:
        yield World(client)


async def test_a_proposal_goes_all_its_way(anywhere: World) -> None:
    world = anywhere
    await world.worker._join()
    drafted = await world.draft([world.scale("db"), world.scale("api")])
    taken = [*await world.worker._take_over(), *await world.worker._take_new()]
    assert [one for _, one in taken] == [drafted.id]
    await world.worker.advance(drafted.id)
    proposal = await world.book.get(drafted.id)
    await world.book.decide(world.vote(proposal))
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert [one.id for one in (await world.book.list(ProposalQuery())).proposals] == [proposal.id]
    states = []
    async for event in world.book.events("0-0"):
        states.append(event.state)
        if event.state == "applied":
            break
    assert states[:4] == ["drafted", "proposed", "approved", "applying"]


async def test_a_race_has_one_winner(anywhere: World) -> None:
    world = anywhere
    drafted = await world.draft([world.scale("db")])
    kept = await world.book.store.read(drafted.id)
    after = kept.proposal.model_copy(update={"state_note": "x"})
    answers = [await world.book.store.swap(kept, after, by="somebody") for _ in range(2)]
    assert answers == [True, False]
