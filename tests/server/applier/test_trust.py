"""The applier takes nothing on trust: whatever is written into Redis by hand, nothing unapproved is applied."""

import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from joserfc.jwk import OKPKey

from arborgate.policies.engine import Engine
from arborgate.policies.errors import Refused, Unavailable
from arborgate.policies.loader import SHIPPED, read_policies
from arborgate.server.approvals import new_signing_key
from arborgate.tools.kubernetes.changes import MARK
from arborgate.tools.proposal import Approval, Proposal, Step, StepState, Verdict, digest_content
from arborgate.tools.risk import Risk
from arborgate.tools.tree import AppTree
from tests.policies.writing import TRUSTING
from tests.server.applier.world import CLUSTER, DEV, World, make_person

pytestmark = pytest.mark.anyio


def dump(*approvals: Approval) -> str:
    return orjson.dumps([approval.model_dump(mode="json") for approval in approvals]).decode()


async def approve_by_state(world: World, proposal: Proposal) -> None:
    await world.forge(proposal.id, state="approved")


async def begin_by_state(world: World, proposal: Proposal) -> None:
    steps = orjson.dumps([Step().model_dump(mode="json")]).decode()
    await world.forge(proposal.id, state="applying", steps=steps)


async def approve_unsigned(world: World, proposal: Proposal) -> None:
    approval = world.vote(proposal).model_copy(update={"signature": ""})
    await world.forge(proposal.id, state="approved", approvals=dump(approval))


async def approve_with_another_key(world: World, proposal: Proposal) -> None:
    key = OKPKey.import_key(orjson.loads(new_signing_key()[0]))
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(proposal, key=key)))


async def approve_as_the_requester(world: World, proposal: Proposal) -> None:
    own = make_person("dev", "arborgate-approvers")
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(proposal, by=own)))


async def approve_by_one_whom_policy_does_not_let(world: World, proposal: Proposal) -> None:
    viewer = make_person("vera", "arborgate-viewers", logged_in=world.clock())
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(proposal, by=viewer)))


async def approve_with_an_old_login(world: World, proposal: Proposal) -> None:
    stale = make_person("ana", "arborgate-approvers", logged_in=world.clock() - 3600)
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(proposal, by=stale)))


async def approve_by_a_rejection(world: World, proposal: Proposal) -> None:
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(proposal, Verdict.REJECT)))


async def approve_with_somebody_elses_signature(world: World, proposal: Proposal) -> None:
    approval = world.vote(proposal)
    bob = approval.approver.model_copy(update={"key": "https://issuer.test#bob", "subject": "bob"})
    await world.forge(proposal.id, state="approved", approvals=dump(approval.model_copy(update={"approver": bob})))


async def approve_and_then_change_the_content(world: World, proposal: Proposal) -> None:
    (change,) = proposal.content.changes
    worse = change.model_copy(update={"patch": {"spec": {"replicas": 99}}})
    content = proposal.content.model_copy(update={"changes": (worse,)})
    await world.forge(
        proposal.id,
        state="approved",
        content=content.model_dump_json(),
        digest=digest_content(content),
        approvals=dump(world.vote(proposal)),
    )


async def approve_with_the_signature_of_another_proposal(world: World, proposal: Proposal) -> None:
    other = await world.propose(world.scale("web"))
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(other)))


async def approve_before_it_was_rehearsed(world: World, proposal: Proposal) -> None:
    content = proposal.content.model_copy(update={"rehearsal": None})
    bare = proposal.model_copy(update={"content": content, "digest": digest_content(content)})
    await world.forge(
        proposal.id,
        state="approved",
        content=content.model_dump_json(),
        digest=bare.digest,
        approvals=dump(world.vote(bare)),
    )


FORGERIES = (
    approve_and_then_change_the_content,
    approve_as_the_requester,
    approve_before_it_was_rehearsed,
    approve_by_a_rejection,
    approve_by_one_whom_policy_does_not_let,
    approve_by_state,
    approve_unsigned,
    approve_with_an_old_login,
    approve_with_another_key,
    approve_with_somebody_elses_signature,
    approve_with_the_signature_of_another_proposal,
    begin_by_state,
)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
async def test_what_is_forged_in_redis_is_not_applied(
    world: World, forge: Callable[[World, Proposal], Awaitable[None]]
) -> None:
    proposal = await world.propose(world.scale("api"))
    await forge(world, proposal)
    await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    assert (await world.book.get(proposal.id)).state in ("rejected", "failed")


async def test_the_forgeries_differ_from_the_real_thing_only_in_what_they_forge(world: World) -> None:
    proposal = await world.propose(world.scale("api"))
    await world.forge(proposal.id, state="approved", approvals=dump(world.vote(proposal)))
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_one_person_is_not_two_approvers(redis_world: Callable[..., World]) -> None:
    world = redis_world(approvals=2)
    proposal = await world.propose(world.scale("api"))
    ana = world.vote(proposal)
    await world.forge(proposal.id, state="approved", approvals=dump(ana, ana))
    await world.worker.advance(proposal.id)
    rejected = await world.book.get(proposal.id)
    assert (rejected.state, world.cluster.patched) == ("rejected", [])
    assert rejected.state_note == "It has 1 of the 2 approvals that it needs."


async def test_two_people_are_two_approvers(redis_world: Callable[..., World]) -> None:
    world = redis_world(approvals=2)
    proposal = await world.propose(world.scale("api"))
    assert (await world.book.decide(world.vote(proposal))).state == "proposed"
    assert (await world.book.decide(world.vote(proposal, by=world.approver("bob")))).state == "approved"
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_how_many_approvals_it_takes_is_the_appliers_to_say(redis_world: Callable[..., World]) -> None:
    world = redis_world(approvals=2)
    proposal = await world.propose(world.scale("api"))
    meek = proposal.content.model_copy(update={"approvals_needed": 1, "risk": Risk.LOW})
    proposal = proposal.model_copy(update={"content": meek, "digest": digest_content(meek)})
    await world.forge(
        proposal.id,
        state="approved",
        content=meek.model_dump_json(),
        digest=proposal.digest,
        approvals=dump(world.vote(proposal)),
    )
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rejected"
    assert world.cluster.patched == []


async def test_an_applied_proposal_that_is_put_back_is_not_applied_again(world: World) -> None:
    proposal = await world.approved(world.sync("api"))
    await world.worker.advance(proposal.id)
    assert len(world.cluster.patched) == 1
    await world.forge(proposal.id, state="approved")
    await world.worker.advance(proposal.id)
    assert len(world.cluster.patched) == 1


async def test_a_proposal_that_was_undone_and_is_put_back_is_not_applied_again(world: World) -> None:
    world.cluster.breaks.add("api")
    proposal = await world.approved(world.scale("api"))
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    patched = len(world.cluster.patched)
    await world.forge(proposal.id, state="approved")
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "stale"
    assert len(world.cluster.patched) == patched


async def test_an_undo_is_not_run_because_redis_says_that_something_failed(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    before = proposal.content.changes[0].precondition.digest
    steps = [Step(state=StepState.APPLIED, digest=before).model_dump(mode="json")]
    await world.forge(proposal.id, state="failed", steps=orjson.dumps(steps).decode())
    await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    assert "does not show that it was done" in (await world.book.get(proposal.id)).state_note


async def test_a_proposal_that_is_applying_without_steps_is_not_believed(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    await world.forge(proposal.id, state="applying")
    await world.worker.advance(proposal.id)
    failed = await world.book.get(proposal.id)
    assert (failed.state, failed.state_note) == ("failed", "How far it has come can't be told. Nothing was undone.")
    assert world.cluster.patched == []


async def test_an_approval_that_has_expired_is_not_applied(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    world.clock.now += 3600
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "expired"
    assert world.cluster.patched == []


async def test_no_change_is_started_after_the_approval_has_expired(world: World) -> None:
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    world.cluster.before_patch = lambda _: setattr(world.clock, "now", world.clock.now + 3600)
    await world.worker.advance(proposal.id)
    assert "api" not in [name for name, _ in world.cluster.patched]
    assert (await world.book.get(proposal.id)).state == "rolled_back"


async def test_a_requester_who_may_no_longer_propose_stops_it(world: World) -> None:
    groups = dict(world.settings.roles) | {"developer": ("somebody-else",)}
    proposal = await world.approved(world.scale("api"))
    world.settings = world.settings.model_copy(update={"roles": groups})
    await world.make_worker().advance(proposal.id)
    rejected = await world.book.get(proposal.id)
    assert rejected.state == "rejected"
    assert rejected.state_note == "Policy does not let Dev propose changes of main/argocd/api."


async def test_what_one_may_not_propose_is_refused_before_anybody_is_asked(world: World) -> None:
    viewer = make_person("vera", "arborgate-viewers")
    proposal = await world.draft([world.scale("api")], by=viewer)
    await world.worker.advance(proposal.id)
    refused = await world.book.get(proposal.id)
    assert (refused.state, refused.state_note) == (
        "refused",
        "Policy does not let Vera propose changes of main/argocd/api.",
    )


async def test_a_change_of_an_object_that_is_not_the_apps_is_refused(world: World) -> None:
    change = world.scale("api")
    posing = change.model_copy(update={"target": change.target.model_copy(update={"name": "db"})})
    refused = await world.propose(posing)
    assert (refused.state, refused.state_note) == (
        "refused",
        "Deployment shop/db in main is not an object of main/argocd/api.",
    )


async def test_a_change_that_writes_what_its_precondition_does_not_watch_is_refused(world: World) -> None:
    change = world.scale("api")
    patch = {"spec": {"replicas": 3, "template": {"spec": {"hostNetwork": True}}}}
    refused = await world.propose(change.model_copy(update={"patch": patch}))
    assert refused.state == "refused"
    assert "writes /spec/template/spec/hostNetwork" in refused.state_note


async def test_an_undo_that_writes_more_than_the_change_is_refused(world: World) -> None:
    change = world.scale("api")
    refused = await world.propose(change.model_copy(update={"undo": {"spec": {"paused": True}}}))
    assert refused.state == "refused"


async def test_a_change_that_is_judged_by_another_app_is_refused(world: World) -> None:
    change = world.scale("api")
    check = change.check.model_copy(update={"app": "main/argocd/db"})
    refused = await world.propose(change.model_copy(update={"check": check}))
    assert refused.state == "refused"


async def test_two_changes_of_one_field_are_refused(world: World) -> None:
    refused = await world.propose(world.scale("api", 3), world.scale("api", 4))
    assert refused.state == "refused"
    assert "touch the same field" in refused.state_note


async def test_a_proposal_without_changes_is_refused(world: World) -> None:
    assert (await world.propose()).state == "refused"


async def test_a_dry_run_that_fails_refuses_the_proposal_and_says_why(world: World) -> None:
    world.cluster.refuses.add("db")
    refused = await world.propose(world.scale("api"), world.scale("db"))
    assert (refused.state, refused.state_note) == ("refused", "admission webhook says no")
    rehearsal = refused.content.rehearsal
    assert rehearsal is not None
    assert [change.ok for change in rehearsal.changes] == [True, False]


async def test_warnings_of_the_dry_run_are_part_of_what_is_approved(world: World) -> None:
    proposal = await world.propose(world.scale("api"))
    rehearsal = proposal.content.rehearsal
    assert rehearsal is not None
    assert rehearsal.changes[0].warnings == ("spec.old is deprecated",)
    assert proposal.digest == digest_content(proposal.content)


async def test_a_tree_that_is_too_old_decides_nothing(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    world.tree.heard(CLUSTER, "1", time.monotonic() - 3600)
    with pytest.raises(Unavailable):
        await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "approved"


async def test_before_the_tree_is_there_nothing_is_refused(world: World) -> None:
    proposal = await world.draft([world.scale("api")])
    world.tree = AppTree(world.environments)
    with pytest.raises(Unavailable):
        await world.make_worker().advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "drafted"


@pytest.mark.parametrize("app", ["main/argocd/none", "elsewhere/argocd/api", "api", "main/argocd/api/x"])
async def test_a_change_of_an_app_that_is_not_there_is_refused(world: World, app: str) -> None:
    change = world.scale("api")
    posing = change.model_copy(
        update={
            "target": change.target.model_copy(update={"app": app}),
            "check": change.check.model_copy(update={"app": app}),
        }
    )
    refused = await world.propose(posing)
    assert (refused.state, refused.state_note) == ("refused", f"There is no app {app}.")


async def test_the_mark_of_another_proposal_counts_for_nothing(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    world.cluster.edit("Deployment", "api", {"metadata": {"annotations": {MARK: "p-other/0"}}})
    await world.worker.advance(proposal.id)
    assert world.replicas()["api"] == 3


async def test_a_proposal_that_something_else_has_damaged_is_left_alone(world: World) -> None:
    proposal = await world.approved(world.scale("api"))
    await world.forge(proposal.id, content="{}")
    await world.worker.advance(proposal.id)
    await world.worker.advance("p-nonsense")
    assert world.cluster.patched == []
    assert DEV.key == proposal.content.requester.key


async def test_a_signed_approval_by_the_requester_counts_for_nothing_whatever_policy_says(world: World) -> None:
    proposal = await world.propose(world.scale("api"))
    own = world.vote(proposal, by=make_person("dev", "arborgate-approvers", logged_in=world.clock()))
    with pytest.raises(Refused, match="by the one who asked for it"):
        world.make_verifier().check_approvals(proposal.model_copy(update={"approvals": (own,)}))


@pytest.mark.parametrize("late", [-1.0, 3600.0])
async def test_an_approval_from_before_the_proposal_or_after_its_time_counts_for_nothing(
    world: World, late: float
) -> None:
    proposal = await world.propose(world.scale("api"))
    world.clock.now += late
    approval = world.vote(proposal)
    with pytest.raises(Refused, match="outside the time for it"):
        world.make_verifier().check_approvals(proposal.model_copy(update={"approvals": (approval,)}))


async def test_policy_may_keep_the_applier_from_applying(world: World, tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(SHIPPED, policies)
    (policies / "applier.cedar").write_text('@id("nobody") forbid (principal, action in Action::"apply", resource);')
    engine = Engine(read_policies(policies)[0], surroundings=TRUSTING)
    proposal = await world.approved(world.scale("api"))
    verifier = world.make_verifier(engine)
    counts = await world.book.counts(proposal)
    with pytest.raises(Refused, match="does not let the applier apply"):
        verifier.require(verifier.judge_policy(proposal, verifier.check_approvals(proposal), counts, world.clock()))
