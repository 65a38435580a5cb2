"""Redis is made to say how far a proposal has come: what was approved is neither halved, nor turned back, nor repeated."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from arborgate.tools.change import fields_digest
from arborgate.tools.proposal import Proposal, Step, StepState
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio

DAY = 86_400.0


def say(*steps: Step) -> str:
    return orjson.dumps([one.model_dump(mode="json") for one in steps]).decode()


async def pretend(world: World, proposal: Proposal, state: str, *steps: Step) -> Proposal:
    """What becomes of an approved proposal that is said to have come so far."""
    await world.forge(proposal.id, state=state, steps=say(*steps))
    await world.worker.advance(proposal.id)
    return await world.book.get(proposal.id)


@pytest.mark.parametrize(
    "states",
    [
        (StepState.HEALTHY, StepState.PENDING),
        (StepState.APPLIED, StepState.PENDING),
        (StepState.PENDING, StepState.STARTED),
        (StepState.HEALTHY, StepState.STARTED),
        (StepState.UNDONE, StepState.PENDING),
    ],
    ids=str,
)
async def test_no_wave_is_left_out_because_redis_says_that_it_was_done(
    world: World, states: tuple[StepState, ...]
) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    ended = await pretend(world, proposal, "applying", *(Step(state=one, at=world.clock()) for one in states))
    assert [name for name, _ in world.cluster.patched[:1]] != ["api"]
    if ended.state == "applied":
        assert [name for name, _ in world.cluster.patched] == ["db", "api"]


async def test_a_wave_that_is_not_well_is_waited_for_though_redis_says_that_a_later_one_was_begun(
    world: World,
) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    world.cluster.breaks.add("db")
    mark = {"metadata": {"annotations": {"arborgate.dev/change": f"{proposal.id}/0"}}}
    world.cluster.edit("Deployment", "db", {**mark, "spec": {"replicas": 3}})
    world.cluster.edit("Application", "db", {"status": {"health": {"status": "Progressing"}}})
    done = Step(state=StepState.HEALTHY, at=world.clock())
    ended = await pretend(world, proposal, "applying", done, Step(state=StepState.STARTED, at=world.clock()))
    assert "api" not in [name for name, _ in world.cluster.patched]
    assert ended.state in ("failed", "rolled_back")


def digest_now(world: World, proposal: Proposal) -> str:
    (change,) = proposal.content.changes
    return fields_digest(world.cluster.get("Deployment", "api"), change.precondition.fields)


async def apply(world: World) -> Proposal:
    proposal = await world.approved(world.scale("api"))
    await world.worker.advance(proposal.id)
    applied = await world.book.get(proposal.id)
    assert applied.state == "applied"
    world.cluster.patched.clear()
    return applied


async def test_an_undo_does_not_run_over_what_somebody_did_since_whatever_digest_redis_tells(world: World) -> None:
    proposal = await apply(world)
    world.cluster.edit("Deployment", "api", {"spec": {"replicas": 10}})
    step = Step(state=StepState.APPLIED, digest=digest_now(world, proposal), at=world.clock())
    ended = await pretend(world, proposal, "failed", step)
    assert (world.replicas()["api"], world.cluster.patched) == (10, [])
    assert (ended.state, ended.stuck) == ("failed", True)
    assert "somebody has changed it since" in ended.state_note


async def test_what_was_applied_long_ago_is_not_undone_by_itself(world: World) -> None:
    proposal = await apply(world)
    world.clock.now += 30 * DAY
    world.tree.heard("main", "1", time.monotonic())
    step = Step(state=StepState.APPLIED, digest=digest_now(world, proposal), at=world.clock())
    ended = await pretend(world, proposal, "failed", step)
    assert (world.replicas()["api"], world.cluster.patched) == (3, [])
    assert (ended.state, ended.stuck) == ("failed", True)
    assert "too long ago" in ended.state_note


def at(world: World) -> str:
    return datetime.fromtimestamp(world.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def written(world: World, kind: str, name: str, fields: dict[str, Any]) -> None:
    """What an API server notes of a patch by the applier at this moment."""
    entry = {"manager": "arborgate", "operation": "Update", "time": at(world), "fieldsV1": fields}
    world.cluster.edit(kind, name, {"metadata": {"managedFields": [entry]}})


async def test_an_approval_is_not_used_again_once_another_proposal_has_turned_the_change_back(world: World) -> None:
    proposal = await apply(world)
    world.clock.now += 5
    back = await world.approved(world.scale("api", 1))
    await world.worker.advance(back.id)
    written(world, "Deployment", "api", {"f:spec": {"f:replicas": {}}})
    assert world.replicas()["api"] == 1
    world.cluster.patched.clear()
    await world.forge(proposal.id, state="approved")
    await world.worker.advance(proposal.id)
    assert (world.replicas()["api"], world.cluster.patched) == (1, [])
    ended = await world.book.get(proposal.id)
    assert (ended.state, bool(ended.state_note)) == ("stale", True)


async def test_a_sync_is_not_run_again_after_another_proposals_sync(world: World) -> None:
    proposal = await world.approved(world.sync("api"))
    await world.worker.advance(proposal.id)
    world.clock.now += 5
    other = await world.approved(world.sync("api"))
    await world.worker.advance(other.id)
    assert (await world.book.get(other.id)).state == "applied"
    world.cluster.edit("Application", "api", {"status": {"operationState": {"startedAt": at(world)}}})
    world.cluster.patched.clear()
    await world.forge(proposal.id, state="approved")
    await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    assert (await world.book.get(proposal.id)).state in ("rolled_back", "stale")


async def test_two_proposals_of_one_object_are_both_applied_where_they_do_not_meet(world: World) -> None:
    more = await world.approved(world.scale("api"))
    again = await world.approved(world.restart("api"))
    world.clock.now += 5
    await world.worker.advance(more.id)
    written(world, "Deployment", "api", {"f:spec": {"f:replicas": {}}})
    await world.worker.advance(again.id)
    assert (await world.book.get(again.id)).state == "applied"
