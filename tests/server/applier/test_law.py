"""The law of the whole thing: nothing reaches `applied` without an approval by somebody else, whatever happens; and in a
freeze nothing without glass that somebody else broke."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from arborgate.policies.errors import ArborgateError
from arborgate.policies.model import Caller, Channel
from arborgate.tools.proposal import Approval, Proposal, ProposalState, Verdict
from tests.server.applier.test_crashes import crash
from tests.server.applier.test_glass import frozen_engine
from tests.server.applier.test_trust import FORGERIES, dump
from tests.server.applier.world import DEV, World, make_person

pytestmark = pytest.mark.anyio

GROUPS = {
    "ana": ("arborgate-approvers",),
    "bob": ("arborgate-approvers",),
    "dev": ("arborgate-approvers", "arborgate-responders"),
    "rita": ("arborgate-responders",),
    "vera": ("none",),
}
PEOPLE = tuple(GROUPS)
ENTITLED = {
    Verdict.APPROVE: frozenset({"ana", "bob"}),
    Verdict.BREAK_GLASS: frozenset({"rita"}),
    Verdict.REJECT: frozenset[str](),
}

happening = st.one_of(
    st.tuples(st.just("approve"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("reject"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("break_glass"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("forge_state"), st.sampled_from(list(ProposalState))),
    st.tuples(st.just("forge_approval"), st.sampled_from(range(len(FORGERIES)))),
    st.tuples(st.just("forget_approvals"), st.none()),
    st.tuples(st.just("crash"), st.integers(1, 60)),
    st.tuples(st.just("advance"), st.none()),
    st.tuples(st.just("withdraw"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from((60, 600, 1800, 3600))),
    st.tuples(st.just("edit"), st.integers(2, 5)),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(happening, min_size=2, max_size=10))
async def test_nothing_is_applied_without_an_approval_by_somebody_else(
    redis: Redis, happenings: list[tuple[str, object]]
) -> None:
    world = World(redis)
    proposal = await world.propose(world.scale("api"))
    consent: set[str] = set()
    for what, how in happenings:
        with suppress(ArborgateError):
            await happen(world, proposal, what, how, consent)
        if world.cluster.patched:
            assert consent, "changed without anybody's consent"
        if "proposal:applied" in [entry.event for entry in world.audit.entries]:
            assert consent, "applied without anybody's consent"
            assert world.cluster.patched


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(happening, min_size=2, max_size=10))
async def test_in_a_freeze_nothing_is_applied_without_glass_that_somebody_else_broke(
    redis: Redis, happenings: list[tuple[str, object]]
) -> None:
    world = World(redis, engine=frozen_engine())
    proposal = await world.propose(world.scale("api"))
    consent: set[str] = set()
    for what, how in happenings:
        with suppress(ArborgateError):
            await happen(world, proposal, what, how, consent)
        if world.cluster.patched or "proposal:applied" in [entry.event for entry in world.audit.entries]:
            assert Verdict.BREAK_GLASS in consent, "changed in a freeze"
            assert "glass:broken" in [entry.event for entry in world.audit.entries]


async def happen(world: World, proposal: Proposal, what: str, how: object, consent: set[str]) -> None:
    """Makes one thing happen; `consent` collects what somebody entitled to it has signed."""
    match what, how:
        case (("approve" | "break_glass" | "reject"), str(name)):
            verdict = Verdict(what)
            vote = world.vote(proposal, verdict, by=person(world, name))
            await world.book.decide(vote)
            if name in ENTITLED[verdict]:
                consent.add(verdict)
        case "forge_state", ProposalState() as state:
            await world.forge(proposal.id, state=state)
        case "forge_approval", int(which):
            await FORGERIES[which](world, proposal)
        case "forget_approvals", _:
            none: tuple[Approval, ...] = ()
            await world.forge(proposal.id, approvals=dump(*none))
        case "crash", int(at):
            await crash(world, proposal, at)
        case "advance", _:
            await world.worker.advance(proposal.id)
        case "withdraw", _:
            await world.book.withdraw(proposal.id, DEV)
        case "wait", int(seconds):
            world.clock.now += seconds
        case "edit", int(replicas):
            world.cluster.edit("Deployment", "api", {"spec": {"replicas": replicas}})


def person(world: World, name: str) -> Caller:
    caller = make_person(name, GROUPS[name][0], channel=Channel.PAGES, logged_in=world.clock() - 60)
    return replace(caller, groups=frozenset(GROUPS[name]))
