"""No time that a proposal or an approval claims is believed past the applier's own clock and settings."""

from typing import Any

import pytest

from arborgate.server.lifetimes import LEEWAY
from arborgate.tools.proposal import Approval, Content, Proposal, digest_content
from tests.server.applier.test_trust import dump
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio


async def approve_as(world: World, content: dict[str, float], approval: dict[str, Any]) -> Proposal:
    """Somebody with the key of `serve` and write access to Redis has it say, and sign, what they like."""
    proposal = await world.propose(world.scale("api"))
    forged: Content = proposal.content.model_copy(update=content)
    digest = digest_content(forged)
    signed: Approval = world.vote(proposal.model_copy(update={"content": forged, "digest": digest}), **approval)
    fields = {"content": forged.model_dump_json(), "digest": digest, "approvals": dump(signed)}
    await world.forge(proposal.id, state="approved", **fields)
    await world.worker.advance(proposal.id)
    return await world.book.get(proposal.id)


async def test_what_is_in_time_is_applied(world: World) -> None:
    now = world.clock()
    times = {"created_at": now + LEEWAY - 1, "expires_at": now + 3600 + 2 * LEEWAY - 2}
    done = await approve_as(world, times, {"at": now + LEEWAY - 1})
    assert (done.state, done.state_note) == ("applied", "")


async def test_an_approval_that_is_dated_ahead_is_refused(world: World) -> None:
    done = await approve_as(world, {}, {"at": world.clock() + LEEWAY + 1})
    assert (done.state, done.state_note) == (
        "rejected",
        "The approval by Ana is dated in the future, by the applier's clock.",
    )
    assert world.cluster.patched == []


async def test_a_login_that_is_dated_ahead_is_refused(world: World) -> None:
    """It would count as a recent one for as long as that is so."""
    done = await approve_as(world, {}, {"authenticated_at": world.clock() + LEEWAY + 1})
    assert (done.state, "is dated in the future" in done.state_note) == ("rejected", True)


async def test_what_was_proposed_in_the_future_is_refused(world: World) -> None:
    ahead = world.clock() + LEEWAY + 5
    done = await approve_as(world, {"created_at": ahead, "expires_at": ahead + 60}, {"at": ahead - 6})
    assert done.state == "rejected"
    done = await approve_as(world, {"created_at": ahead, "expires_at": ahead + 60}, {"at": ahead})
    assert done.state == "rejected"
    assert world.cluster.patched == []


async def test_what_lasts_longer_than_the_applier_lets_it_is_refused(world: World) -> None:
    done = await approve_as(world, {"expires_at": world.clock() + 3600 + LEEWAY + 1}, {})
    assert (done.state, done.state_note) == (
        "rejected",
        "It says that it lasts longer than the applier's proposals.expire_after, which is 3600 s.",
    )


async def test_what_lasts_too_long_is_refused_before_anybody_approves(world: World) -> None:
    drafted = await world.draft([world.scale("api")])
    content = drafted.content.model_copy(update={"expires_at": world.clock() + 86_400})
    await world.forge(drafted.id, content=content.model_dump_json())
    await world.worker.advance(drafted.id)
    assert (await world.book.get(drafted.id)).state == "refused"


async def test_what_is_proposed_ahead_is_refused_before_anybody_approves(world: World) -> None:
    drafted = await world.draft([world.scale("api")])
    ahead = world.clock() + LEEWAY + 1
    content = drafted.content.model_copy(update={"created_at": ahead, "expires_at": ahead + 60})
    await world.forge(drafted.id, content=content.model_dump_json())
    await world.worker.advance(drafted.id)
    done = await world.book.get(drafted.id)
    assert (done.state, done.state_note) == ("refused", "It was proposed in the future, by the applier's clock.")
