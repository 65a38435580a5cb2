"""The applier's desk for parent apps: whatever goes down at whatever moment, everything is done, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from arborgate.policies.errors import Unavailable, Unrecorded
from arborgate.server import parent_desk
from arborgate.server.parent_desk import GROUP, ParentDesk
from arborgate.server.parent_statements import ParentVerdict
from arborgate.server.parent_streams import STATEMENT, said_key
from tests.parts.redis import RedisServer
from tests.server.applier.world import until
from tests.server.parents.estate import BANK, SHOP, Estate

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def at_work(*desks: ParentDesk) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(desk.run()) for desk in desks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def make_desks(estate: Estate, count: int) -> list[ParentDesk]:
    desks = []
    for _ in range(count):
        estate.trust()
        desks.append(estate.desk)
    return desks


async def put(estate: Estate, text: str) -> None:
    await estate.redis.xadd(said_key(estate.world.state, SHOP), {STATEMENT: text})


async def unheard(estate: Estate) -> int:
    """How many statements were taken by an applier that has not finished with them."""
    pending = await estate.redis.xpending(said_key(estate.world.state, SHOP), GROUP)
    return int(pending["pending"])


async def test_three_appliers_ask_once_and_count_once(estate: Estate) -> None:
    before = await estate.propose(estate.world.scale("api"))
    async with at_work(*make_desks(estate, 3)):
        after = await estate.propose(estate.world.scale("web"))

        async def both_asked() -> bool:
            return len(await estate.asked()) == 2

        await until(both_asked, "both proposals are put before the parent app")
        for proposal in (before, after):
            await put(estate, estate.sign(proposal))

        async def both_approved() -> bool:
            return {(await estate.get(one)).state for one in (before, after)} == {"approved"}

        await until(both_approved, "both are approved")

        async def all_heard() -> bool:
            return await unheard(estate) == 0

        await until(all_heard, "all is acknowledged")

    assert len(await estate.asked()) == 2
    assert [len((await estate.get(one)).approvals) for one in (before, after)] == [1, 1]
    assert estate.refused() == []


async def test_what_an_applier_took_and_did_not_finish_another_does(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent_desk, "_IDLE_MS", 50)
    proposal = await estate.propose(estate.world.scale("api"))
    gone, next_one = make_desks(estate, 2)
    await gone._join({said_key(estate.world.state, SHOP): SHOP})
    await put(estate, estate.sign(proposal))
    assert len(await gone._take({said_key(estate.world.state, SHOP): SHOP})) == 1

    async with at_work(next_one):

        async def approved() -> bool:
            return (await estate.get(proposal)).state == "approved"

        await until(approved, "the other applier hears it")


async def test_what_can_not_be_read_in_one_stream_keeps_no_other_parent_app_waiting(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    bank = said_key(estate.world.state, BANK)
    async with at_work(estate.desk):
        for _ in range(3):
            await estate.redis.xadd(bank, {STATEMENT: b"\xff\xfe", b"\xff": "x"})
        await put(estate, estate.sign(proposal))

        async def approved() -> bool:
            return (await estate.get(proposal)).state == "approved"

        await until(approved, "the shop is heard")


async def test_a_crash_between_the_vote_and_its_acknowledgement_counts_it_once(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    text = estate.sign(proposal, jti="j" * 22)
    entry = await estate.say(text)
    # So far it had come: the vote is there, and that it was heard is not.
    await estate.redis.set(estate.world.state.key("parent", SHOP, "used", "j" * 22), entry)

    await estate.desk.hear(SHOP, entry, text)

    assert len((await estate.get(proposal)).approvals) == 1
    assert estate.refused() == []


async def test_a_statement_waits_while_the_tree_is_out_of_date(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    text = estate.sign(proposal)
    estate.world.tree.heard("main", "1", -1_000.0)

    with pytest.raises(Unavailable):
        await estate.desk.hear(SHOP, "1-1", text)
    with pytest.raises(Unavailable):
        await estate.desk.ask(proposal)

    assert estate.refused() == []
    assert (await estate.get(proposal)).state == "proposed"


@pytest.mark.parametrize("verdict", [ParentVerdict.APPROVE, ParentVerdict.PASS, ParentVerdict.REJECT])
async def test_nothing_that_a_parent_app_says_counts_where_it_can_not_be_recorded(
    estate: Estate, verdict: ParentVerdict
) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    text = estate.sign(proposal, verdict=verdict)
    estate.world.audit.full = True

    with pytest.raises(Unrecorded):
        await estate.desk.hear(SHOP, "1-1", text)
    assert (await estate.get(proposal)).state == "proposed"

    estate.world.audit.full = False
    await estate.desk.hear(SHOP, "1-1", text)
    assert len(estate.answered()) == 1


async def test_a_redis_that_goes_away_delays_and_loses_nothing(estate: Estate, redis_server: RedisServer) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    async with at_work(*make_desks(estate, 1)):

        async def asked() -> bool:
            return len(await estate.asked()) == 1

        await until(asked, "it is asked")
        redis_server.restart()

        async def said() -> bool:
            try:
                await put(estate, estate.sign(proposal))
            except Exception:
                return False
            return True

        await until(said, "the server is back")

        async def approved() -> bool:
            return (await estate.get(proposal)).state == "approved"

        await until(approved, "it is approved")

    assert len(await estate.asked()) == 1
