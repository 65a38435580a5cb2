"""Broken glass: what it sets aside and what never, whom the applier believes, and how soon it lapses."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.calendar import Calendar
from arborgate.policies.engine import Engine
from arborgate.policies.errors import ArborgateError, Conflict, Denied, Invalid, Refused
from arborgate.policies.loader import load_policies
from arborgate.server.approvals import sign_approval
from arborgate.tools.proposal import (
    Approval,
    Finding,
    GlassReview,
    Proposal,
    ProposalState,
    Requester,
    Verdict,
)
from tests.policies.writing import TRUSTING
from tests.server.applier.test_trust import dump
from tests.server.applier.world import DEV, EMERGENCY, World, make_person, signing_key

pytestmark = pytest.mark.anyio

ALWAYS = {"freezes": [{"name": "Stop", "from": "2000-01-01", "until": "2100-01-01"}]}


@cache
def frozen_engine() -> Engine:
    return Engine(load_policies(None), surroundings=replace(TRUSTING, calendar=Calendar.model_validate(ALWAYS)))


@pytest.fixture
async def frozen(redis_world: Callable[..., World]) -> World:
    return redis_world(approvals=2, engine=frozen_engine())


async def broken(world: World, *names: str, **fields: Any) -> Proposal:
    proposal = await world.propose(*(world.scale(name) for name in names or ("api",)))
    return await world.book.decide(world.vote(proposal, Verdict.BREAK_GLASS, **fields))


async def end(world: World, proposal: Proposal) -> tuple[ProposalState, str]:
    await world.worker.advance(proposal.id)
    now = await world.book.get(proposal.id)
    return now.state, now.state_note


async def test_one_person_is_enough_in_a_freeze_where_two_were_needed(frozen: World) -> None:
    proposal = await broken(frozen)
    assert (proposal.state, proposal.breaker) == ("approved", frozen.responder().key)
    assert await end(frozen, proposal) == ("applied", "")
    assert frozen.replicas()["api"] == 3


async def test_in_a_freeze_nothing_else_is_enough(frozen: World) -> None:
    proposal = await frozen.propose(frozen.scale("api"))
    for name in ("ana", "bob"):
        await frozen.book.decide(frozen.vote(proposal, by=frozen.approver(name)))
    state, note = await end(frozen, proposal)
    assert state == "rejected"
    assert "(nothing-changes-in-a-freeze)" in note
    assert not frozen.cluster.patched


async def test_breaking_the_glass_is_told_as_itself_with_its_reason(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    proposal = await broken(world)
    entries = [entry for entry in world.audit.entries if entry.event == "glass:broken"]
    assert [(one.outcome, one.caller, one.detail, one.proposal) for one in entries] == [
        (outcome, world.responder().key, EMERGENCY, proposal.id) for outcome in ("intended", "ok")
    ]
    assert "proposal:approved" not in [entry.event for entry in world.audit.entries]
    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert line.getMessage().startswith(f"the glass was broken for proposal {proposal.id} by ")


async def test_it_lapses_when_applying_has_not_begun_in_time(world: World) -> None:
    proposal = await broken(world)
    world.clock.now += 899
    assert await world.book.expire_due() == 0
    world.clock.now += 1
    assert await end(world, proposal) == ("expired", "")
    assert not world.cluster.patched


async def test_it_lapses_by_itself(world: World) -> None:
    proposal = await broken(world)
    world.clock.now += 901
    assert await world.book.expire_due() == 1
    assert (await world.book.get(proposal.id)).state == "expired"
    assert [one.id for one in await world.book.unreviewed()] == [proposal.id]


async def test_what_was_begun_in_time_is_finished_after_that(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = world.cluster.apply
    proposal = await broken(world, "db", "api")

    async def apply(*asked: Any) -> Any:
        world.clock.now += 600  # the second change is started when the glass has lapsed
        return await real(*asked)

    monkeypatch.setattr(world.cluster, "apply", apply)
    assert await end(world, proposal) == ("applied", "")


@pytest.mark.parametrize("steps", ["kept", "forged"])
async def test_a_state_put_into_redis_does_not_begin_what_has_lapsed(world: World, steps: str) -> None:
    proposal = await broken(world)
    state = "pending" if steps == "kept" else "started"
    forged = f'[{{"state":"{state}","message":"","at":{world.clock()},"seen":"","digest":""}}]'
    await world.forge(proposal.id, state="applying", steps=forged)
    world.clock.now += 901
    state_now, note = await end(world, proposal)
    assert (state_now, note) == ("rolled_back", "The broken glass had lapsed before anything was begun.")
    assert not world.cluster.patched


FORGED: dict[str, dict[str, Any]] = {
    "a longer time": {"until": 2e9},
    "another reason": {"comment": "Nothing of this was ever said by anybody."},
    "no reason": {"comment": ""},
    "another digest": {"digest": "0" * 64},
    "another proposal": {"proposal": "p-other"},
    "a fresher login": {"authenticated_at": 1_899_999_999.0},
}


@pytest.mark.parametrize("what", FORGED)
async def test_an_edited_approval_is_not_believed(world: World, what: str) -> None:
    proposal = await broken(world)
    assert proposal.glass
    await world.forge(proposal.id, approvals=dump(proposal.glass.model_copy(update=FORGED[what])))
    state, note = await end(world, proposal)
    assert state in ("rejected", "expired")
    assert "not validly signed" in note
    assert not world.cluster.patched


async def test_an_ordinary_approval_does_not_turn_into_broken_glass(redis_world: Callable[..., World]) -> None:
    world = redis_world(approvals=2)
    proposal = await world.propose(world.scale("api"))
    vote = world.vote(proposal)
    posing = vote.model_copy(
        update={"verdict": Verdict.BREAK_GLASS, "comment": EMERGENCY, "until": world.clock() + 900}
    )
    await world.forge(proposal.id, approvals=dump(posing), state="approved")
    assert (await end(world, proposal))[0] == "rejected"
    assert not world.cluster.patched


async def test_broken_glass_for_one_proposal_serves_no_other(world: World) -> None:
    first = await broken(world)
    other = await world.propose(world.scale("db"))
    assert first.glass
    await world.forge(other.id, approvals=dump(first.glass), state="approved")
    state, note = await end(world, other)
    assert (state, note) == ("rejected", "The approval by Rita is about something else.")


WRONG: dict[str, Callable[[World, Proposal], Approval]] = {
    "an approver": lambda world, proposal: world.vote(proposal, Verdict.BREAK_GLASS, by=world.approver()),
    "the requester": lambda world, proposal: world.vote(
        proposal, Verdict.BREAK_GLASS, by=replace(DEV, groups=frozenset({"arborgate-responders"}))
    ),
    "an old login": lambda world, proposal: world.vote(
        proposal, Verdict.BREAK_GLASS, by=replace(world.responder(), authenticated_at=int(world.clock()) - 301)
    ),
    "an agent for itself": lambda world, proposal: world.vote(
        proposal, Verdict.BREAK_GLASS, by=replace(world.responder(), itself=True)
    ),
    "a token that is not bound": lambda world, proposal: world.vote(
        proposal, Verdict.BREAK_GLASS, by=replace(world.responder(), binding=DEV.binding)
    ),
    "no reason": lambda world, proposal: world.vote(proposal, Verdict.BREAK_GLASS, comment=" short " * 3),
    "no end": lambda world, proposal: world.vote(proposal, Verdict.BREAK_GLASS, until=0.0),
    "for too long": lambda world, proposal: world.vote(proposal, Verdict.BREAK_GLASS, until=world.clock() + 901),
    "before it was asked for": lambda world, proposal: world.vote(
        proposal, Verdict.BREAK_GLASS, at=world.clock() - 60, until=world.clock() + 800
    ),
}


@pytest.mark.parametrize("who", WRONG)
async def test_who_may_not_break_the_glass_is_not_believed_even_with_the_key(world: World, who: str) -> None:
    """As if `serve` had been talked into signing: the applier decides by its own policies."""
    proposal = await world.propose(world.scale("api"))
    world.clock.now += 1
    await world.forge(proposal.id, approvals=dump(WRONG[who](world, proposal)), state="approved")
    assert (await end(world, proposal))[0] in ("rejected", "expired")
    assert not world.cluster.patched


@pytest.mark.parametrize("who", ["no reason", "no end", "for too long", "the requester"])
async def test_the_book_takes_no_such_glass_either(world: World, who: str) -> None:
    proposal = await world.propose(world.scale("api"))
    with pytest.raises((Invalid, Denied)):
        await world.book.decide(WRONG[who](world, proposal))
    assert (await world.book.get(proposal.id)).state == "proposed"


async def test_broken_glass_does_not_set_the_preconditions_aside(frozen: World) -> None:
    proposal = await broken(frozen)
    frozen.cluster.edit("Deployment", "api", {"spec": {"replicas": 7}})
    assert (await end(frozen, proposal))[0] == "stale"


async def test_broken_glass_does_not_set_the_dry_run_aside(frozen: World) -> None:
    drafted = await frozen.draft([frozen.scale("api")])
    with pytest.raises((Conflict, Refused)):
        await frozen.book.decide(frozen.vote(drafted, Verdict.BREAK_GLASS))


async def test_an_approver_can_still_stop_it(world: World) -> None:
    proposal = await broken(world)
    stopped = await world.book.decide(world.vote(proposal, Verdict.REJECT))
    assert (stopped.state, stopped.unreviewed) == ("rejected", True)
    await world.worker.advance(proposal.id)
    assert not world.cluster.patched


async def test_of_many_who_break_it_at_once_one_does(world: World) -> None:
    proposal = await world.propose(world.scale("api"))
    votes = [world.vote(proposal, Verdict.BREAK_GLASS, by=world.responder(f"rita-{number}")) for number in range(8)]
    done = await asyncio.gather(*(world.book.decide(vote) for vote in votes), return_exceptions=True)
    assert sum(isinstance(one, Proposal) for one in done) == 1
    assert all(isinstance(one, Proposal | Conflict) for one in done)
    assert len((await world.book.get(proposal.id)).approvals) == 1


def look(world: World, by: str = "otto", finding: Finding = Finding.JUSTIFIED) -> GlassReview:
    who = make_person(by, "arborgate-auditors")
    return GlassReview(finding=finding, reviewer=Requester.of(who), comment="It was down.", at=world.clock())


async def test_every_use_is_open_until_somebody_else_has_reviewed_it(world: World) -> None:
    proposal = await broken(world)
    with pytest.raises(Conflict, match="can't be reviewed yet"):
        await world.book.review(proposal.id, look(world))
    await world.worker.advance(proposal.id)
    assert [one.id for one in await world.book.unreviewed()] == [proposal.id]
    for somebody in (world.responder(), DEV):
        own = look(world).model_copy(update={"reviewer": Requester.of(somebody)})
        with pytest.raises(Denied):
            await world.book.review(proposal.id, own)
    done = await world.book.review(proposal.id, look(world, finding=Finding.NOT_JUSTIFIED))
    assert (done.state, done.unreviewed) == ("applied", False)
    assert await world.book.unreviewed() == ()
    assert (world.audit.entries[-1].event, world.audit.entries[-1].detail) == (
        "glass:reviewed",
        "not justified: It was down.",
    )
    with pytest.raises(Conflict, match="already"):
        await world.book.review(proposal.id, look(world, "olga"))


async def test_where_no_glass_was_broken_there_is_nothing_to_review(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    await world.worker.advance(proposal.id)
    with pytest.raises(Refused):
        await world.book.review(proposal.id, look(world))


async def test_who_left_one_unreviewed_for_too_long_breaks_no_other(world: World) -> None:
    first = await broken(world)
    await world.worker.advance(first.id)
    world.clock.now += 259_201
    second = await broken(world, "db")
    state, note = await end(world, second)
    assert (state, "(old-broken-glass-is-reviewed-first)" in note) == ("rejected", True)
    third = await world.propose(world.scale("web"))
    await world.book.review(first.id, look(world))
    await world.book.review(second.id, look(world))
    await world.book.decide(world.vote(third, Verdict.BREAK_GLASS))
    assert await end(world, third) == ("applied", "")


async def test_what_waits_for_a_review_is_never_forgotten(world: World) -> None:
    proposal = await broken(world)
    await world.worker.advance(proposal.id)
    for name in (f"proposal:{proposal.id}", "glass"):
        assert await world.redis.ttl(world.state.key(*name.split(":"))) == -1
    world.clock.now += 10 * 365 * 86_400
    await world.book.expire_due()
    assert [one.id for one in await world.book.unreviewed()] == [proposal.id]


async def test_a_signature_of_another_key_breaks_no_glass(world: World, tmp_path: Path) -> None:
    proposal = await broken(world)
    assert proposal.glass
    again = sign_approval(proposal.glass, signing_key())
    assert again == proposal.glass  # the signature is over all of it, so it is the same again
    with pytest.raises(ArborgateError):
        await world.book.decide(again)
