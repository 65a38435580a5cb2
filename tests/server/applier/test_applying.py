"""An approved proposal is applied: in waves, each gated on health, each undone when one fails, and never twice."""

from dataclasses import replace

import pytest

from arborgate.policies.errors import Refused, Unavailable
from arborgate.server.progress import operation_digest
from arborgate.tools.change import JsonObject, Target
from arborgate.tools.kubernetes.changes import MARK
from arborgate.tools.record import Event
from tests.server.applier.test_crashes import swap
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio


async def test_an_approved_change_is_applied_and_on_record(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    world.audit.entries.clear()
    await world.worker.advance(proposal.id)
    applied = await world.book.get(proposal.id)
    assert (applied.state, applied.state_note) == ("applied", "")
    assert [step.state for step in applied.steps] == ["healthy"]
    assert world.replicas() == {"db": 1, "api": 3, "web": 1}
    judged = [entry for entry in world.audit.entries if entry.event is Event.CALL_ANSWERED]
    assert {(entry.action, entry.decision, entry.policies) for entry in judged} == {
        ("proposal:apply", "allow", ("applier-applies",))
    }
    assert all(entry.question and entry.policy_set for entry in judged)
    assert world.audit.told() == [
        ("call:answered", "ok"),
        ("proposal:applying", "intended"),
        ("proposal:applying", "ok"),
        ("call:answered", "ok"),
        ("change:started", "intended"),
        ("change:applied", "ok"),
        ("proposal:applied", "intended"),
        ("proposal:applied", "ok"),
    ]


async def test_the_patch_leaves_the_mark_of_its_change_on_the_object(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    await world.worker.advance(proposal.id)
    assert world.cluster.get("Deployment", "api")["metadata"]["annotations"] == {MARK: f"{proposal.id}/0"}


async def test_changes_are_applied_in_the_order_of_waves_and_not_as_listed(world: World) -> None:
    proposal = await world.approved(world.scale("web"), world.scale("db"), world.scale("api"))
    await world.worker.advance(proposal.id)
    assert [name for name, _ in world.cluster.patched] == ["db", "api", "web"]
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_a_wave_begins_only_when_the_one_before_is_healthy(world: World) -> None:
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    began = world.clock()
    await world.worker.advance(proposal.id)
    failed = await world.book.get(proposal.id)
    assert "api" not in [name for name, _ in world.cluster.patched]
    assert failed.state == "rolled_back"
    assert "The app is Degraded, not Healthy" in failed.state_note
    assert 300 <= world.clock() - began < 310


async def test_a_failure_undoes_what_was_done_in_reverse(world: World) -> None:
    world.cluster.breaks.add("web")
    proposal = await world.approved(world.scale("db"), world.scale("api"), world.scale("web"))
    world.audit.entries.clear()
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    assert [name for name, _ in world.cluster.patched] == ["db", "api", "web", "web", "api", "db"]
    assert world.replicas() == {"db": 1, "api": 1, "web": 1}
    done = [entry.event for entry in world.audit.entries if entry.outcome == "ok" and not entry.decision]
    assert done == [
        "proposal:applying",
        "change:applied",
        "change:applied",
        "change:applied",
        "proposal:failed",
        "change:undone",
        "change:undone",
        "change:undone",
        "proposal:rolled_back",
    ]


async def test_a_patch_that_the_system_refuses_ends_it_and_undoes_the_rest(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    world.cluster.before_patch = lambda _: world.cluster.refuses.add("api")
    await world.worker.advance(proposal.id)
    failed = await world.book.get(proposal.id)
    assert (failed.state, failed.state_note) == ("rolled_back", "admission webhook says no")
    assert world.replicas() == {"db": 1, "api": 1, "web": 1}


async def test_undoing_stops_at_a_change_that_has_no_undo_and_says_so(world: World) -> None:
    world.cluster.edit("Application", "api", {"status": {"history": []}})
    stays = world.sync("api")
    world.cluster.breaks.add("web")
    proposal = await world.approved(world.scale("db"), stays, world.scale("web"))
    await world.worker.advance(proposal.id)
    failed = await world.book.get(proposal.id)
    assert failed.state == "failed"
    assert failed.state_note.endswith(f"Not undone: {stays.summary}: {stays.undo_note}")
    assert world.replicas() == {"db": 3, "api": 1, "web": 1}, "what it stands on stays as well"


async def test_what_somebody_changed_since_is_not_undone_over_them(world: World) -> None:
    world.cluster.breaks.add("api")
    proposal = await world.approved(world.scale("db"), world.scale("api"))

    def scale_by_hand(target: Target) -> None:
        if target.name == "api":
            world.cluster.edit("Deployment", "db", {"spec": {"replicas": 7}})

    world.cluster.before_patch = scale_by_hand
    await world.worker.advance(proposal.id)
    failed = await world.book.get(proposal.id)
    assert failed.state == "failed"
    assert "somebody has changed it since" in failed.state_note
    assert world.replicas() == {"db": 7, "api": 1, "web": 1}


@pytest.mark.parametrize("name", ["db", "web"])
async def test_a_target_that_moved_after_approval_makes_it_stale_before_anything_is_changed(
    world: World, name: str
) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("web"))
    world.cluster.edit("Deployment", name, {"spec": {"replicas": 2}})
    await world.worker.advance(proposal.id)
    stale = await world.book.get(proposal.id)
    assert stale.state == "stale"
    assert world.cluster.patched == []


async def test_a_target_that_was_made_anew_is_another_object(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    world.cluster.edit("Deployment", "db", {"metadata": {"uid": "another"}})
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "stale"


async def test_a_target_that_is_gone_makes_it_stale(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    del world.cluster.objects[("Deployment", "shop", "db")]
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "stale"


async def test_a_status_update_between_reading_and_patching_does_not_matter(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    updates = iter(range(3))

    def update_status(_: Target) -> None:
        if next(updates, None) is not None:
            world.cluster.edit("Deployment", "db", {"status": {"seen": str(world.clock())}})

    world.cluster.before_patch = update_status
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert len(world.cluster.patched) == 1


async def test_a_field_that_moves_between_reading_and_patching_is_never_overwritten(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    edits = iter([9])

    def edit_once(_: Target) -> None:
        for replicas in edits:
            world.cluster.edit("Deployment", "db", {"spec": {"replicas": replicas}})

    world.cluster.before_patch = edit_once
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    assert world.replicas()["db"] == 9
    assert world.cluster.patched == []


async def test_setting_a_revision_and_then_syncing_the_same_app_is_one_proposal(world: World) -> None:
    from arborgate.tools.plan import follow

    live = world.cluster.get("Application", "api")
    revision = world.set_revision("api")
    proposal = await world.approved(revision, follow(world.sync("api"), live, [revision]))
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert [list(patch) for _, patch in world.cluster.patched] == [["spec"], ["operation"]]


async def test_a_sync_waits_for_its_own_operation_and_not_for_the_last_one(world: World) -> None:
    old = {"phase": "Succeeded", "operation": {"sync": {"revision": "old"}}}
    world.cluster.edit("Application", "api", {"status": {"operationState": old}})
    world.relist("api")
    proposal = await world.approved(world.sync("api"))
    await world.worker.advance(proposal.id)
    applied = await world.book.get(proposal.id)
    assert applied.state == "applied"
    assert world.cluster.get("Application", "api")["status"]["operationState"]["operation"]["sync"]["prune"] is False


async def test_an_operation_that_ended_just_before_the_patch_is_not_taken_for_ours(world: World) -> None:
    ended = {"phase": "Failed", "operation": {"sync": {"revision": "old"}}}
    edits = iter([ended])

    def end_another(_: Target) -> None:
        for state in edits:
            world.cluster.edit("Application", "api", {"status": {"operationState": state}})

    world.cluster.before_patch = end_another
    proposal = await world.approved(world.sync("api"))
    await world.worker.advance(proposal.id)
    (step,) = (await world.book.get(proposal.id)).steps
    assert (step.state, step.seen) == ("healthy", operation_digest({"status": {"operationState": ended}}))


async def test_a_workload_of_an_app_whose_last_operation_failed_can_still_be_changed(world: World) -> None:
    failed = {"phase": "Failed", "message": "hook", "operation": {"sync": {"revision": "old"}}}
    world.cluster.edit("Application", "db", {"status": {"operationState": failed}})
    world.relist("db")
    proposal = await world.approved(world.scale("db"))
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, ended.state_note) == ("applied", "")


async def test_nothing_is_read_twice_on_the_way_to_the_first_change(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    read, reads = world.cluster.read, 0

    async def count(target: Target) -> JsonObject | None:
        nonlocal reads
        reads += not world.cluster.patched
        return await read(target)

    swap(world.cluster, "read", count)
    await world.worker.advance(proposal.id)
    assert reads == 1


async def test_an_operation_that_still_runs_is_not_written_over_by_its_undo(world: World) -> None:
    world.cluster.hangs.add("api")
    proposal = await world.approved(world.sync("api"))
    await world.worker.advance(proposal.id)
    failed = await world.book.get(proposal.id)
    assert failed.state == "failed"
    assert "The operation has not ended." in failed.state_note
    assert failed.state_note.endswith("its operation is still running.")
    assert len(world.cluster.patched) == 1


def let_another_fail_while_it_runs(world: World, ends_after: float) -> list[float]:
    """Admission refuses the Deployment while the operation of its app still runs, which ends after so many seconds. When
    was slept, by the clock."""
    slept: list[float] = []
    world.cluster.hangs.add("api")

    def refuse(target: Target) -> None:
        if target.kind == "Deployment":
            raise Refused("admission webhook says no")

    async def sleep(seconds: float) -> None:
        await world.clock.sleep(seconds)
        slept.append(world.clock())
        if "api" in world.cluster.hangs and slept[-1] - slept[0] >= ends_after:
            world.cluster.hangs.discard("api")
            ran = {"phase": "Succeeded", "operation": world.cluster.get("Application", "api")["operation"]}
            world.cluster.edit("Application", "api", {"operation": None, "status": {"operationState": ran}})

    world.cluster.before_patch = refuse
    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    return slept


async def test_an_undo_waits_until_the_operation_it_undoes_has_ended(world: World) -> None:
    proposal = await world.approved(world.sync("api"), world.scale("api"))
    slept = let_another_fail_while_it_runs(world, 5.0)
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, [step.state for step in ended.steps]) == ("rolled_back", ["undone", "failed"])
    assert slept[-1] - slept[0] >= 5.0
    assert [list(patch) for _, patch in world.cluster.patched] == [["operation"], ["operation"]]


async def test_an_operation_that_does_not_end_in_time_is_left_to_a_person(world: World) -> None:
    proposal = await world.approved(world.sync("api"), world.scale("api"))
    slept = let_another_fail_while_it_runs(world, 1e9)
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, ended.stuck) == ("failed", True)
    assert ended.state_note.endswith("its operation is still running.")
    assert 0 <= slept[-1] - slept[0] - world.health_timeout < 10
    assert len(world.cluster.patched) == 1


async def test_while_the_cluster_does_not_answer_nothing_is_decided(world: World) -> None:
    proposal = await world.approved(world.scale("db"))
    world.cluster.answers = False
    with pytest.raises(Unavailable):
        await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "approved"
    world.cluster.answers = True
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
