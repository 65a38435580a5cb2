"""Change budgets: what counts, for how long, and that two can't have the last place."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from arborgate.policies.errors import Busy, Unavailable
from arborgate.server.counts import DAY, Begun, Counts
from arborgate.tools.proposal import Proposal, ProposalState, Verdict
from tests.server.applier.world import APPS, CLUSTER, World, until

pytestmark = pytest.mark.anyio

API = f"{CLUSTER}/argocd/api"
FULL = "(strict-apps-change-six-times-a-day)."


async def apply(world: World, name: str, replicas: int) -> Proposal:
    proposal = await world.approved(world.scale(name, replicas))
    await world.worker.advance(proposal.id)
    return await world.book.get(proposal.id)


async def use(world: World, times: int) -> None:
    for number in range(times):
        assert (await apply(world, "api", 10 + number)).state == "applied"


async def test_six_changes_of_an_app_are_applied_and_a_seventh_is_not(world: World) -> None:
    await use(world, 6)
    seventh = await apply(world, "api", 3)
    assert seventh.state == "rejected"
    assert seventh.state_note.endswith(FULL)
    assert world.replicas()["api"] == 15
    assert (await apply(world, "db", 3)).state == "applied"


async def test_a_place_is_free_again_after_24_hours_and_not_before(world: World) -> None:
    await use(world, 6)
    counts = await world.book.counts(await world.propose(world.scale("api")))
    first = counts.begun[API][0][1]
    world.clock.now = first + DAY - 1
    assert (await apply(world, "api", 3)).state == "rejected"
    world.clock.now = first + DAY
    assert (await apply(world, "api", 3)).state == "applied"


async def test_one_that_fails_and_is_undone_counts_as_well(redis_world: Callable[..., World]) -> None:
    world = redis_world(health_timeout=2.0)
    world.cluster.breaks.add("api")
    for number in range(6):
        assert (await apply(world, "api", 10 + number)).state == "rolled_back"
    world.cluster.breaks.clear()
    assert (await apply(world, "api", 3)).state_note.endswith(FULL)


async def test_what_never_begins_does_not_count(world: World) -> None:
    for number in range(8):
        proposal = await world.propose(world.scale("api", 10 + number))
        await world.book.decide(world.vote(proposal, Verdict.REJECT if number % 2 else Verdict.APPROVE))
        world.cluster.edit("Deployment", "api", {"spec": {"replicas": 20 + number}})
        await world.worker.advance(proposal.id)
    assert (await world.book.store.counts([API])).applied(API, world.clock()) == 0


async def test_where_it_is_not_strict_there_is_no_budget(redis_world: Callable[..., World]) -> None:
    world = redis_world(environment="staging")
    await use(world, 8)


async def test_a_proposal_fits_into_the_budget_as_a_whole_or_not_at_all(world: World) -> None:
    await use(world, 5)
    both = await world.approved(world.scale("api", 3), world.sync("api"))
    await world.worker.advance(both.id)
    assert (await world.book.get(both.id)).state_note.endswith(FULL)
    assert (await apply(world, "api", 3)).state == "applied"


async def test_changes_of_one_proposal_do_not_stand_in_their_own_way(world: World) -> None:
    await use(world, 4)
    both = await world.approved(world.scale("api", 3), world.sync("api"))
    await world.worker.advance(both.id)
    assert (await world.book.get(both.id)).state == "applied"


async def test_of_two_approved_for_the_last_place_one_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await use(world, 5)
    two = [await world.approved(world.scale("api", 3)), await world.approved(world.sync("api"))]
    meeting = asyncio.Barrier(2)

    async def race(proposal: Proposal) -> None:
        worker = world.make_worker(book := world.make_book())
        real = book.begin

        async def begin(*args: Any) -> Proposal:
            if not raced:
                await asyncio.wait_for(meeting.wait(), 5)  # both have counted, and both found a place
                raced.append(proposal.id)
            return await real(*args)

        raced: list[str] = []
        monkeypatch.setattr(book, "begin", begin)

        async def advanced() -> bool:
            try:
                await worker.advance(proposal.id)
            except Busy:
                return False
            return True

        await until(advanced, "it is decided")

    await asyncio.gather(*map(race, two))
    ended = [await world.book.get(one.id) for one in two]
    assert sorted(one.state for one in ended) == ["applied", "rejected"]
    assert {one.state_note for one in ended} == {"", f"Policy does not let the applier apply this {FULL}"}
    assert (await world.book.counts(two[0])).applied(API, world.clock()) == 6


async def test_broken_glass_needs_no_place_but_takes_one(world: World) -> None:
    await use(world, 6)
    proposal = await world.propose(world.scale("api", 3))
    await world.book.decide(world.vote(proposal, Verdict.BREAK_GLASS))
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert (await world.book.counts(proposal)).applied(API, world.clock()) == 7


async def test_what_is_under_way_keeps_its_place_whatever_begins_after_it(world: World) -> None:
    await use(world, 4)
    both = await world.approved(world.scale("api", 3), world.sync("api"))
    counts = await world.book.counts(both)
    began = world.clock() + 1
    later = Counts({API: [*counts.begun[API], (f"{both.id}/1", began), (f"{both.id}/2", began)]}, ())
    assert later.before(both, API, began) == 5
    crowded = Counts({API: [*later.begun[API], *((f"p-other/{n}", began + n) for n in range(1, 9))]}, ())
    assert crowded.before(both, API, began + 100) == 5


async def test_a_count_that_can_not_be_read_denies(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    await world.redis.set(world.state.key("ledger", API), "nonsense")
    with pytest.raises(Unavailable):
        await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "approved"
    assert not world.cluster.patched


async def test_an_approval_is_judged_by_what_was_known_when_it_was_given(world: World) -> None:
    """Five then, six by now: the approval stands, applying does not."""
    await use(world, 5)
    late = await world.approved(world.scale("api", 3))
    world.clock.now += 1
    await use(world, 1)
    await world.worker.advance(late.id)
    assert (await world.book.get(late.id)).state_note == f"Policy does not let the applier apply this {FULL}"


async def test_the_ledger_forgets_what_no_budget_asks_for(world: World) -> None:
    await use(world, 2)
    world.clock.now += 31 * DAY
    await use(world, 1)
    (left,) = (await world.book.counts(await world.propose(world.scale("api")))).begun[API]
    assert left[1] >= world.clock() - DAY


async def test_begun_again_after_a_crash_counts_once(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    await world.worker.advance(proposal.id)
    await world.forge(proposal.id, state="approved")
    await world.worker.advance(proposal.id)
    assert (await world.book.counts(proposal)).applied(API, world.clock()) == 1
    assert len(world.cluster.patched) == 1


@pytest.mark.parametrize(
    ("begun", "at", "past", "before"),
    [
        ([], 100.0, False, 0),
        ([("a/1", 100.0)], 100.0, True, 1),
        ([("a/1", 100.5)], 100.0, True, 0),
        ([("a/1", 100.5)], 100.0, False, 1),  # by a clock that is ahead of this one
        ([("a/1", 100.0 - DAY)], 100.0, False, 0),
        ([("a/1", 100.1 - DAY)], 100.0, False, 1),
    ],
)
async def test_a_day_is_the_24_hours_before(
    world: World, begun: Sequence[Begun], at: float, past: bool, before: int
) -> None:
    proposal = await world.draft([world.scale("api")])
    assert Counts({API: begun}, ()).before(proposal, API, at, past=past) == before


async def test_who_had_something_applied_is_new_no_more(world: World) -> None:
    key = (await world.propose(world.scale("api"))).content.requester.key
    assert not await world.book.has_applied(key)
    assert (await apply(world, "db", 3)).state is ProposalState.APPLIED
    assert await world.book.has_applied(key)
    assert set(world.replicas()) == set(APPS)
