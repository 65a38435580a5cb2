"""A process that ends in the middle of a move leaves it on record as intended: the next run tells what became of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import Unavailable
from arborgate.server.audit import AuditLog
from arborgate.server.chain import read_records
from arborgate.server.proposals import ProposalBook
from arborgate.server.unfinished import find_unfinished, tell_unfinished
from arborgate.tools.proposal import Proposal, Verdict
from arborgate.tools.record import Event, Record
from tests.parts.redis import RedisServer
from tests.server.applier.world import World, connected

pytestmark = pytest.mark.anyio


class Crash(BaseException):
    """The process is gone: nothing catches it."""


@pytest.fixture
async def redis(redis_url: str, anyio_backend: str) -> AsyncIterator[Redis]:
    async with connected(redis_url) as client:
        yield client


async def crash(world: World, folder: Path, move: Callable[[ProposalBook], Awaitable[Any]], *, made: bool) -> None:
    """Runs a process that ends in a move, before or after it was made."""
    async with AuditLog.open(folder, "serve-1") as audit:
        book = ProposalBook(world.state, audit, world.settings.proposals, world.clock)
        swap = book.store.swap

        async def swap_and_crash(*args: Any, **more: Any) -> bool:
            if made:
                await swap(*args, **more)
            raise Crash

        setattr(book.store, "swap", swap_and_crash)  # noqa: B010  # a method, which assigning would be an error of types
        with pytest.raises(Crash):
            await move(book)


async def start_again(world: World, folder: Path) -> None:
    async with AuditLog.open(folder, "serve-1") as audit:
        await tell_unfinished(audit, world.book.store)


def told(folder: Path, event: Event) -> list[Record]:
    return [each for each, _ in read_records(folder / "serve-1.jsonl") if each.event is event]


@pytest.mark.parametrize(("made", "outcome"), [(True, "ok"), (False, "lost")])
@pytest.mark.parametrize(
    ("verdict", "event"),
    [
        (Verdict.APPROVE, Event.PROPOSAL_APPROVED),
        (Verdict.REJECT, Event.PROPOSAL_REJECTED),
        (Verdict.BREAK_GLASS, Event.GLASS_BROKEN),
    ],
)
async def test_a_vote_is_told_as_it_was_kept_or_as_lost(
    redis: Redis, tmp_path: Path, verdict: Verdict, event: Event, made: bool, outcome: str
) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    await crash(world, tmp_path, lambda book: book.decide(world.vote(proposal, verdict)), made=made)
    assert [one.outcome for one in told(tmp_path, event)] == ["intended"]
    await start_again(world, tmp_path)
    intended, ended = told(tmp_path, event)
    assert (ended.outcome, ended.caller, ended.proposal) == (outcome, intended.caller, proposal.id)
    assert ended.arguments_digest == proposal.digest


async def test_a_state_that_has_been_left_since_is_told_too(redis: Redis, tmp_path: Path) -> None:
    world = World(redis)
    proposal = await world.approved(world.scale("api"))

    async def begin(book: ProposalBook) -> None:
        lease = await world.worker._leases.acquire(proposal.id, [change.target for change in proposal.content.changes])
        await book.begin(proposal.id, lease, await book.counts(proposal))

    await crash(world, tmp_path, begin, made=True)

    async def resumed() -> Proposal:
        await world.worker.advance(proposal.id)
        return await world.book.get(proposal.id)

    assert (await resumed()).state == "applied"
    await start_again(world, tmp_path)
    assert [one.outcome for one in told(tmp_path, Event.PROPOSAL_APPLYING)] == ["intended", "ok"]


async def test_what_is_told_once_is_not_told_again_and_what_runs_now_is_left_alone(
    redis: Redis, tmp_path: Path
) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    await crash(world, tmp_path, lambda book: book.decide(world.vote(proposal)), made=True)
    log = tmp_path / "serve-1.jsonl"
    assert find_unfinished([log]) == (), "that run has not ended as far as the log tells"
    await start_again(world, tmp_path)
    await start_again(world, tmp_path)
    assert [one.outcome for one in told(tmp_path, Event.PROPOSAL_APPROVED)] == ["intended", "ok"]


async def test_a_move_whose_answer_was_lost_is_told_once_the_state_is_back(
    redis: Redis, tmp_path: Path, redis_server: RedisServer
) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    async with AuditLog.open(tmp_path, "serve-1") as audit:
        book = ProposalBook(world.state, audit, world.settings.proposals, world.clock)
        swap = book.store.swap

        async def swap_and_lose_the_answer(*args: Any, **more: Any) -> bool:
            await swap(*args, **more)
            redis_server.kill()
            raise Unavailable("Arborgate's own state can't be reached right now.")

        setattr(book.store, "swap", swap_and_lose_the_answer)  # noqa: B010  # a method, as above
        with pytest.raises(Unavailable):
            await book.decide(world.vote(proposal))
        assert [one.outcome for one in told(tmp_path, Event.PROPOSAL_APPROVED)] == ["intended", "unavailable"]
        await asyncio.to_thread(redis_server.start)
        async with asyncio.timeout(20):
            while len(outcomes := [one.outcome for one in told(tmp_path, Event.PROPOSAL_APPROVED)]) < 3:
                await asyncio.sleep(0.05)
    assert outcomes == ["intended", "unavailable", "ok"]


async def test_a_line_that_somebody_has_changed_stops_no_start(redis: Redis, tmp_path: Path) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    await crash(world, tmp_path, lambda book: book.decide(world.vote(proposal)), made=True)
    log = tmp_path / "serve-1.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"outcome":"intended"', b'"outcome":"pretended"'))
    async with AuditLog.open(tmp_path, "serve-2") as audit:
        assert find_unfinished([log]) == ()
        await tell_unfinished(audit, world.book.store)


async def test_nothing_is_made_up_where_nothing_tells_of_it_any_more(redis: Redis, tmp_path: Path) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    await crash(world, tmp_path, lambda book: book.withdraw(proposal.id, world.approver()), made=False)
    await redis.delete("{arborgate}:events")
    await redis.xadd(
        "{arborgate}:events", {"proposal": "p-other", "state": "drafted", "at": "1", "by": "x"}, id="9999999999999-0"
    )
    await start_again(world, tmp_path)
    assert [one.outcome for one in told(tmp_path, Event.PROPOSAL_WITHDRAWN)] == ["intended", "unknown"]


async def test_it_waits_for_the_state_to_come_back(redis: Redis, tmp_path: Path, redis_server: RedisServer) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    await crash(world, tmp_path, lambda book: book.decide(world.vote(proposal)), made=True)
    redis_server.kill()
    async with AuditLog.open(tmp_path, "serve-1") as audit:
        telling = asyncio.create_task(tell_unfinished(audit, world.book.store))
        await asyncio.sleep(0)
        await asyncio.to_thread(redis_server.start)
        async with asyncio.timeout(20):
            await telling
    assert [one.outcome for one in told(tmp_path, Event.PROPOSAL_APPROVED)] == ["intended", "ok"]
