"""From each state a proposal goes only where the design lets it, whatever is tried and however often at once."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from arborgate.policies.errors import (
    ArborgateError,
    Conflict,
    Denied,
    Invalid,
    NotThere,
    Refused,
    Unavailable,
    Unrecorded,
)
from arborgate.server.leases import Leases, LostLease
from arborgate.server.proposal_states import TRANSITIONS
from arborgate.tools.change import Rehearsal, Rehearsed, Target
from arborgate.tools.proposal import Proposal, ProposalQuery, ProposalState, Step, Verdict, digest_content
from tests.parts.redis import RedisServer
from tests.server.applier.world import DEV, World, make_person

pytestmark = pytest.mark.anyio

S = ProposalState
REHEARSAL = Rehearsal(changes=(Rehearsed(ok=True),), at=1.0)
REFUSAL = Rehearsal(changes=(Rehearsed(ok=False, refusal="no"),), at=1.0)

Try = Callable[[World, Proposal], Awaitable[Proposal]]


async def rehearse(world: World, proposal: Proposal) -> Proposal:
    return await world.book.rehearsed(proposal.id, REHEARSAL)


async def rehearse_in_vain(world: World, proposal: Proposal) -> Proposal:
    return await world.book.rehearsed(proposal.id, REFUSAL)


async def approve(world: World, proposal: Proposal) -> Proposal:
    return await world.book.decide(world.vote(proposal))


async def break_glass(world: World, proposal: Proposal) -> Proposal:
    return await world.book.decide(world.vote(proposal, Verdict.BREAK_GLASS))


async def reject(world: World, proposal: Proposal) -> Proposal:
    return await world.book.decide(world.vote(proposal, Verdict.REJECT))


async def withdraw(world: World, proposal: Proposal) -> Proposal:
    return await world.book.withdraw(proposal.id, DEV)


async def expire(world: World, proposal: Proposal) -> Proposal:
    return await world.book.close(proposal.id, S.EXPIRED, "")


async def find_stale(world: World, proposal: Proposal) -> Proposal:
    return await world.book.close(proposal.id, S.STALE, "moved")


async def begin(world: World, proposal: Proposal) -> Proposal:
    lease = await Leases(world.state, "one", 5).acquire(proposal.id, targets(proposal))
    return await world.book.begin(proposal.id, lease, await world.book.counts(proposal))


async def finish(world: World, proposal: Proposal) -> Proposal:
    lease = await Leases(world.state, "one", 5).acquire(proposal.id, targets(proposal))
    return await world.book.finish(proposal.id, S.APPLIED, "", lease)


async def fail(world: World, proposal: Proposal) -> Proposal:
    lease = await Leases(world.state, "one", 5).acquire(proposal.id, targets(proposal))
    return await world.book.finish(proposal.id, S.FAILED, "no", lease)


async def roll_back(world: World, proposal: Proposal) -> Proposal:
    lease = await Leases(world.state, "one", 5).acquire(proposal.id, targets(proposal))
    return await world.book.finish(proposal.id, S.ROLLED_BACK, "", lease)


TRIES: dict[Try, dict[ProposalState, ProposalState]] = {
    rehearse: {S.DRAFTED: S.PROPOSED},
    rehearse_in_vain: {S.DRAFTED: S.REFUSED},
    approve: {S.PROPOSED: S.APPROVED},
    break_glass: {S.PROPOSED: S.APPROVED},
    reject: {S.PROPOSED: S.REJECTED, S.APPROVED: S.REJECTED},
    withdraw: {S.DRAFTED: S.WITHDRAWN, S.PROPOSED: S.WITHDRAWN, S.APPROVED: S.WITHDRAWN},
    expire: {S.DRAFTED: S.EXPIRED, S.PROPOSED: S.EXPIRED, S.APPROVED: S.EXPIRED},
    find_stale: {S.PROPOSED: S.STALE, S.APPROVED: S.STALE},
    begin: {S.APPROVED: S.APPLYING},
    finish: {S.APPLYING: S.APPLIED},
    fail: {S.APPLYING: S.FAILED},
    roll_back: {S.FAILED: S.ROLLED_BACK},
}
"""Everything that can be tried, and the only states it works in."""


def targets(proposal: Proposal) -> list[Target]:
    return [change.target for change in proposal.content.changes]


async def bring_to(world: World, state: ProposalState) -> Proposal:
    """A proposal in that state; the hand in Redis that the applier would not believe is good enough here."""
    proposal = await world.draft([world.scale("api")])
    if state is not S.DRAFTED:
        proposal = await world.book.rehearsed(proposal.id, REHEARSAL)
    await world.forge(proposal.id, state=state)
    return await world.book.get(proposal.id)


@pytest.mark.parametrize("attempt", TRIES, ids=lambda attempt: attempt.__name__)
@pytest.mark.parametrize("state", ProposalState)
async def test_each_state_goes_only_where_it_may(world: World, state: ProposalState, attempt: Try) -> None:
    proposal = await bring_to(world, state)
    wanted = TRIES[attempt].get(state)
    if wanted is None:
        with pytest.raises(Conflict):
            await attempt(world, proposal)
        assert await world.book.get(proposal.id) == proposal
        return
    assert (await attempt(world, proposal)).state is wanted
    assert (await world.book.get(proposal.id)).state is wanted
    event = "glass:broken" if attempt is break_glass else f"proposal:{wanted}"
    assert world.audit.told()[-2:] == [(event, "intended"), (event, "ok")]


def test_the_table_above_is_the_whole_design() -> None:
    tried = {(before, after) for table in TRIES.values() for before, after in table.items()}
    assert tried == {(before, after) for before, follow in TRANSITIONS.items() for after in follow}
    assert all(not TRANSITIONS.get(state) for state in ProposalState if state.final)


def swap_together(world: World, parties: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first swaps of so many callers are made only when all of them have read."""
    store, real, everybody, arrived = world.book.store, world.book.store.swap, asyncio.Event(), itertools.count(1)

    async def swap(*args: Any, **kwargs: Any) -> bool:
        if next(arrived) == parties:
            everybody.set()
        await everybody.wait()
        return await real(*args, **kwargs)

    monkeypatch.setattr(store, "swap", swap)


async def test_of_two_approvers_at_once_exactly_one_makes_the_move(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    votes = [world.vote(proposal, by=world.approver(name)) for name in ("ana", "bob")]
    swap_together(world, 2, monkeypatch)
    answers = await asyncio.gather(*map(world.book.decide, votes), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Proposal"]
    kept = await world.book.get(proposal.id)
    assert (kept.state, len(kept.approvals)) == (S.APPROVED, 1)
    outcomes = [(one.caller_name, one.outcome) for one in world.audit.entries if one.event == "proposal:approved"]
    winner = kept.approvals[0].approver.name
    loser = "Bob" if winner == "Ana" else "Ana"
    assert sorted(outcomes) == sorted([(winner, "intended"), (winner, "ok"), (loser, "intended"), (loser, "conflict")])


async def test_when_two_approvals_are_needed_two_at_once_both_count(
    redis_url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(world.redis, approvals=2)
    proposal = await bring_to(world, S.PROPOSED)
    votes = [world.vote(proposal, by=world.approver(name)) for name in ("ana", "bob")]
    swap_together(world, 2, monkeypatch)
    await asyncio.gather(*map(world.book.decide, votes))
    kept = await world.book.get(proposal.id)
    assert (kept.state, len(kept.approvals)) == (S.APPROVED, 2)


async def test_a_person_votes_once(world: World) -> None:
    world = World(world.redis, approvals=2)
    proposal = await bring_to(world, S.PROPOSED)
    await world.book.decide(world.vote(proposal))
    with pytest.raises(Conflict, match="already"):
        await world.book.decide(world.vote(proposal))
    assert (await world.book.get(proposal.id)).state is S.PROPOSED


@pytest.mark.parametrize("verdict", Verdict)
async def test_the_requester_never_decides(world: World, verdict: Verdict) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    own = make_person("dev", "arborgate-approvers")
    with pytest.raises(Denied):
        await world.book.decide(world.vote(proposal, verdict, by=own))
    assert (await world.book.get(proposal.id)).state is S.PROPOSED


@pytest.mark.parametrize("verdict", Verdict)
async def test_what_has_expired_can_no_longer_be_decided(world: World, verdict: Verdict) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    world.clock.now = proposal.content.expires_at
    with pytest.raises(Refused, match="expired"):
        await world.book.decide(world.vote(proposal, verdict))
    assert (await world.book.get(proposal.id)).state is S.EXPIRED


@pytest.mark.parametrize("verdict", Verdict)
async def test_a_vote_on_another_digest_is_not_counted(world: World, verdict: Verdict) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    other = proposal.model_copy(update={"digest": "0" * 64})
    with pytest.raises(Conflict, match="not what this proposal says"):
        await world.book.decide(world.vote(other, verdict))
    await world.forge(proposal.id, digest="0" * 64)
    with pytest.raises(Conflict):
        await world.book.decide(world.vote(other, verdict))
    assert (await world.book.get(proposal.id)).state is S.PROPOSED


async def test_a_vote_without_a_signature_is_not_counted(world: World) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    with pytest.raises(Invalid):
        await world.book.decide(world.vote(proposal).model_copy(update={"signature": ""}))


async def test_what_is_due_expires_by_itself_and_nothing_else_does(world: World) -> None:
    due = [await bring_to(world, state) for state in (S.DRAFTED, S.PROPOSED, S.APPROVED)]
    applying = await bring_to(world, S.APPROVED)
    await begin(world, applying)
    world.clock.now += 3599
    assert await world.book.expire_due() == 0
    later = await world.draft([world.scale("web")])
    world.clock.now += 1
    assert await world.book.expire_due() == 3
    assert [(await world.book.get(one.id)).state for one in due] == [S.EXPIRED] * 3
    assert (await world.book.get(applying.id)).state is S.APPLYING
    assert (await world.book.get(later.id)).state is S.DRAFTED


async def test_what_cannot_be_recorded_is_not_done(world: World) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    world.audit.full = True
    for attempt in (approve, reject, withdraw):
        with pytest.raises(Unrecorded):
            await attempt(world, proposal)
    with pytest.raises(Unrecorded):
        await world.draft([world.scale("api")])
    assert await world.book.get(proposal.id) == proposal
    assert len((await world.book.list(ProposalQuery())).proposals) == 1


async def test_when_redis_is_away_the_record_says_that_the_outcome_is_unknown(
    world: World, redis_server: RedisServer
) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    redis_server.refuse_writes()
    with pytest.raises(Unavailable):
        await approve(world, proposal)
    assert world.audit.told()[-2:] == [("proposal:approved", "intended"), ("proposal:approved", "unavailable")]
    with pytest.raises(Unavailable):
        await world.draft([world.scale("api")])
    assert world.audit.told()[-1] == ("proposal:drafted", "unavailable")
    redis_server.kill()
    with pytest.raises(Unavailable):
        await world.book.get(proposal.id)


async def test_a_move_whose_answer_was_lost_is_not_made_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    store, real = world.book.store, world.book.store._transition

    async def ask_twice(keys: list[str], args: list[str]) -> int:
        await real(keys=keys, args=args)
        return int(await real(keys=keys, args=args))

    monkeypatch.setattr(store, "_transition", ask_twice)
    assert (await approve(world, proposal)).state is S.APPROVED
    assert await world.redis.xlen("{arborgate}:events") == 3


async def test_a_step_under_a_lease_that_was_taken_over_is_refused(world: World) -> None:
    proposal = await bring_to(world, S.APPROVED)
    lease = await Leases(world.state, "one", 0.001).acquire(proposal.id, targets(proposal))
    await world.book.begin(proposal.id, lease, await world.book.counts(proposal))
    second = None
    while second is None:
        with suppress(ArborgateError):
            second = await Leases(world.state, "two", 5).acquire(proposal.id, targets(proposal))
    assert [int(one.fence.partition("/")[0]) for one in (lease, second)] == [1, 2]
    with pytest.raises(LostLease):
        await world.book.step(proposal.id, 0, Step(), lease)
    with pytest.raises(LostLease):
        await world.book.finish(proposal.id, S.APPLIED, "", lease)
    with pytest.raises(LostLease):
        await Leases(world.state, "one", 5).renew(lease)
    await world.book.step(proposal.id, 0, Step(), second)


async def test_a_caller_who_goes_away_does_not_leave_a_move_half_recorded(world: World) -> None:
    proposal = await bring_to(world, S.PROPOSED)
    task = asyncio.create_task(approve(world, proposal))
    while ("proposal:approved", "intended") not in world.audit.told():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while world.audit.told()[-1] != ("proposal:approved", "ok"):
            await asyncio.sleep(0)


async def test_the_rehearsal_is_part_of_the_digest(world: World) -> None:
    one, other = [await world.draft([world.scale("api")]) for _ in range(2)]
    warned = Rehearsal(changes=(Rehearsed(ok=True, warnings=("careful",)),), at=1.0)
    first, second = await world.book.rehearsed(one.id, REHEARSAL), await world.book.rehearsed(other.id, warned)
    assert first.digest == digest_content(first.content) != second.digest
    changed = first.content.model_copy(update={"rehearsal": warned})
    assert digest_content(changed) != first.digest


async def test_a_proposal_that_does_not_exist_is_not_there(world: World) -> None:
    with pytest.raises(NotThere):
        await world.book.get("p-none")
    with pytest.raises(NotThere):
        await world.book.withdraw("p-none", DEV)
