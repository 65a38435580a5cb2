"""A stolen server that shows one thing and does another: what the approver really signed is refused, if it lies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.loader import read_policies
from arborgate.server.enrolment import Enrolment
from arborgate.server.settings import PasskeyUse
from arborgate.tools.argocd.changes import make_sync
from arborgate.tools.change import ChangeKind, Check, Rehearsal, Rehearsed
from arborgate.tools.plan import make_precondition
from arborgate.tools.proposal import Content, Proposal, Step, StepState, digest_content
from arborgate.tools.risk import Factor, Risk, RiskFactor
from tests.parts.authenticator import Authenticator
from tests.policies.writing import TRUSTING, copy_shipped
from tests.server.applier.heist import PARTY, Heist, plan_heist
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio

Lie = Callable[[World, Content], dict[str, Any]]
"""What is told otherwise of a proposal that scales api to 3."""


def of_change(**told: Any) -> Lie:
    return lambda _, content: {"changes": (content.changes[0].model_copy(update=told), *content.changes[1:])}


def stop_it_with_a_kinder_diff(world: World, content: Content) -> dict[str, Any]:
    """It stops the workload, and looks as if it did not."""
    stop, told = world.scale("api", 0), content.changes[0]
    return {"changes": (stop.model_copy(update={"diff": told.diff, "summary": told.summary}),)}


def stop_it_under_the_title_of_another_change(world: World, content: Content) -> dict[str, Any]:
    factors = (*content.factors, RiskFactor.of(Factor.REPLICAS_TO_ZERO, "Deployment api of api stops running."))
    return {"changes": (world.scale("api", 0),), "factors": factors}


def hide_a_second_change_behind_the_title(world: World, content: Content) -> dict[str, Any]:
    return {"changes": (*content.changes, world.scale("web", 5))}


def tell_a_sync_to_another_revision(world: World, content: Content) -> dict[str, Any]:
    sync = world.sync("api")
    summary = sync.summary.replace("aaaaaaaaaa", "bbbbbbbbbb")
    return {"changes": (sync.model_copy(update={"summary": summary}),), "title": summary}


def sync_to_what_can_not_be_said(world: World, content: Content) -> dict[str, Any]:
    """It is told as HEAD, and Argo CD reads it otherwise."""
    sync, live = world.sync("api"), world.cluster.get("Application", "api")
    plan = make_sync(world.node("api").app, live, ["refs/heads/mine:yours"])
    assert plan.summary == "Sync api to HEAD"
    return {"changes": (plan.model_copy(update={"precondition": sync.precondition}),), "title": plan.summary}


def undo_a_sync_by_an_older_deployment(world: World, content: Content) -> dict[str, Any]:
    sync = world.sync("api")
    older = orjson.loads(orjson.dumps(sync.undo).replace(b"b" * 40, b"c" * 40))
    return {"changes": (sync.model_copy(update={"undo": older}),), "title": sync.summary}


def compose_the_title_of_look_alikes(_: World, content: Content) -> dict[str, Any]:
    return {"title": content.title.replace("Scale", "\u0405cale")}


def add_what_is_not_drawn_to_the_title(_: World, content: Content) -> dict[str, Any]:
    return {"title": f"{content.title}\u2066"}


def soften_a_factor(_: World, content: Content) -> dict[str, Any]:
    return {"factors": (RiskFactor.of(Factor.STRICT_ENVIRONMENT, "Staging, as always."),)}


def weigh_a_factor_as_nothing(_: World, content: Content) -> dict[str, Any]:
    return {"factors": tuple(one.model_copy(update={"weight": 0}) for one in content.factors)}


def watch_less(world: World, content: Content) -> dict[str, Any]:
    """The app could be made to sync by itself in the meantime."""
    sync, live = world.sync("api"), world.cluster.get("Application", "api")
    fields = [field for field in sync.precondition.fields if field != "/spec/syncPolicy"]
    less = sync.model_copy(update={"precondition": make_precondition(live, fields)})
    return {"changes": (less,), "title": sync.summary}


LIES: dict[str, Lie] = {
    "add_what_is_not_drawn_to_the_title": add_what_is_not_drawn_to_the_title,
    "apply_it_before_the_others": of_change(wave=-9),
    "call_it_another_kind": of_change(kind=ChangeKind.RESTART),
    "call_it_well_when_it_is_not": of_change(check=Check(app="main/argocd/api", health="")),
    "claim_that_it_can_not_be_undone": of_change(undo=None, undo_note="The data was migrated."),
    "compose_the_title_of_look_alikes": compose_the_title_of_look_alikes,
    "hide_a_second_change_behind_the_title": hide_a_second_change_behind_the_title,
    "judge_it_by_another_app": of_change(check=Check(app="main/argocd/db")),
    "need_no_approval": lambda *_: {"approvals_needed": 0},
    "show_a_kinder_diff": of_change(diff="--- a\n+++ b\n@@ -1 +1 @@\n-  replicas: 1\n+  replicas: 2"),
    "show_a_kinder_summary": of_change(summary="Restart Deployment api of api"),
    "show_no_diff": of_change(diff=""),
    "soften_a_factor": soften_a_factor,
    "stop_it_under_the_title_of_another_change": stop_it_under_the_title_of_another_change,
    "stop_it_with_a_kinder_diff": stop_it_with_a_kinder_diff,
    "sync_to_what_can_not_be_said": sync_to_what_can_not_be_said,
    "tell_a_sync_to_another_revision": tell_a_sync_to_another_revision,
    "tell_another_environment": lambda *_: {"environments": ("staging",)},
    "tell_another_title": lambda *_: {"title": "Restart Deployment api of api"},
    "undo_a_sync_by_an_older_deployment": undo_a_sync_by_an_older_deployment,
    "undo_it_by_stopping_it": of_change(undo={"spec": {"replicas": 0}}),
    "watch_less": watch_less,
    "weigh_a_factor_as_nothing": weigh_a_factor_as_nothing,
    "write_a_float": of_change(patch={"spec": {"replicas": 3.0}}),
    "write_a_truth": of_change(patch={"spec": {"replicas": True}}),
}


async def plant(heist: Heist, proposal: Proposal, content: Content, **fields: str) -> Proposal:
    """What Ana was shown and has signed, with all that the thief can sign too."""
    shown = proposal.model_copy(update={"content": content, "digest": digest_content(content)})
    told = {"content": content.model_dump_json(), "digest": shown.digest, **fields}
    await heist.plant(proposal, heist.vote(shown), **told)
    return shown


async def end(heist: Heist, proposal: Proposal) -> Proposal:
    """How it ends: refused with a reason that is on record, and nothing patched."""
    world = heist.world
    await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    ended = await world.book.get(proposal.id)
    assert ended.state_note
    told = [one for one in world.audit.entries if one.proposal == proposal.id and one.outcome == "ok"][-1]
    assert (told.event, ended.state_note in told.detail) == (f"proposal:{ended.state}", True)
    return ended


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_what_an_approver_signed_is_refused_where_it_does_not_say_what_it_does(heist: Heist, lie: Lie) -> None:
    proposal = await heist.world.propose(heist.world.scale("api"))
    content = proposal.content.model_copy(update=lie(heist.world, proposal.content))
    rehearsal = proposal.content.rehearsal
    assert rehearsal
    again = rehearsal.model_copy(update={"changes": rehearsal.changes * len(content.changes)})
    await plant(heist, proposal, content.model_copy(update={"rehearsal": again}))
    assert (await end(heist, proposal)).state == "rejected"


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_nobody_is_even_asked_about_what_does_not_say_what_it_does(heist: Heist, lie: Lie) -> None:
    world = heist.world
    drafted = await world.draft([world.scale("api")])
    content = drafted.content.model_copy(update=lie(world, drafted.content))
    await world.forge(drafted.id, content=content.model_dump_json())
    assert (await end(heist, drafted)).state == "refused"


async def rehearse(heist: Heist, *said: Rehearsed) -> Proposal:
    """What Ana was shown of the dry run."""
    proposal = await heist.world.propose(heist.world.scale("api"))
    rehearsal = Rehearsal(changes=said, at=heist.world.clock())
    await plant(heist, proposal, proposal.content.model_copy(update={"rehearsal": rehearsal}))
    return await end(heist, proposal)


async def test_warnings_that_the_approver_was_not_shown_are_found_again(heist: Heist) -> None:
    ended = await rehearse(heist, Rehearsed(ok=True))
    assert ended.state_note == "The approvers were not told what the system warns of: spec.old is deprecated"


async def test_a_refusal_of_the_system_that_was_kept_from_the_approver_is_found_again(heist: Heist) -> None:
    proposal = await heist.world.propose(heist.world.scale("api"))
    heist.world.cluster.refuses.add("api")
    await plant(heist, proposal, proposal.content)
    assert (await end(heist, proposal)).state_note == "admission webhook says no"


async def test_a_rehearsal_of_no_change_is_none(heist: Heist) -> None:
    assert (await rehearse(heist)).state == "rejected"


async def test_a_warning_that_is_gone_keeps_nothing_back(heist: Heist) -> None:
    proposal = await heist.world.propose(heist.world.scale("api"))
    more = Rehearsed(ok=True, warnings=("spec.old is deprecated", "spec.older is deprecated"))
    content = proposal.content.model_copy(update={"rehearsal": Rehearsal(changes=(more,), at=1.0)})
    await plant(heist, proposal, content)
    await heist.world.worker.advance(proposal.id)
    assert (await heist.world.book.get(proposal.id)).state == "applied"


def lie_twice(world: World, proposal: Proposal) -> Content:
    """The first change is what it says, and the second is not."""
    one, other = proposal.content.changes
    return proposal.content.model_copy(update={"changes": (one, other.model_copy(update={"diff": one.diff}))})


async def test_what_is_begun_by_hand_is_not_finished_either(heist: Heist) -> None:
    world = heist.world
    proposal = await world.propose(world.scale("db"), world.scale("api"))
    steps = orjson.dumps([Step().model_dump(mode="json")] * 2).decode()
    await plant(heist, proposal, lie_twice(world, proposal), state="applying", steps=steps)
    ended = await end(heist, proposal)
    assert (ended.state, ended.state_note.endswith("Nothing was undone.")) == ("failed", True)


async def test_an_undo_that_lies_is_not_run_though_redis_says_that_it_has_to_be(heist: Heist) -> None:
    """The change writes what is there anyway, so the object seems to show that it was done."""
    world = heist.world
    proposal = await world.propose(world.scale("api"))
    (change,) = proposal.content.changes
    nothing = change.model_copy(update={"patch": {"spec": {"replicas": 1}}, "undo": {"spec": {"replicas": 0}}})
    steps = [Step(state=StepState.APPLIED, digest=change.precondition.digest).model_dump(mode="json")]
    content = proposal.content.model_copy(update={"changes": (nothing,)})
    await plant(heist, proposal, content, state="failed", steps=orjson.dumps(steps).decode())
    await world.worker.advance(proposal.id)
    assert world.cluster.patched == []


async def test_factors_in_another_order_are_not_what_was_signed(heist: Heist) -> None:
    proposal = await heist.world.propose(heist.world.scale("api", 0))
    assert len(proposal.content.factors) == 2
    await heist.swap(proposal, heist.vote(proposal), factors=proposal.content.factors[::-1])
    assert (await end(heist, proposal)).state == "rejected"


async def test_an_approval_from_the_future_is_not_waited_for(heist: Heist) -> None:
    proposal = await heist.world.propose(heist.world.scale("api"))
    await heist.plant(proposal, heist.vote(proposal, at=heist.world.clock() + 1_800))
    assert (await end(heist, proposal)).state == "rejected"


async def test_a_key_that_a_thief_enrols_counts_after_no_restart(heist: Heist) -> None:
    world = heist.world
    ana, own = world.approver("ana"), Authenticator(PARTY, heist.ana.owner)
    enrolment = Enrolment(world.state, PARTY, PasskeyUse.REQUIRED, world.audit, clock=world.clock)
    await enrolment.enrol(ana, "session", "Mine", own.make(await enrolment.begin(ana, "session")))
    assert [one.name for one in await enrolment.find(ana.key)] == ["Mine"]
    heist.pin()
    proposal = await world.propose(world.scale("api"))
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(own, proposal)))
    assert (await end(heist, proposal)).state == "rejected"


POLICY = """
@id("two-and-one-signed") forbid (principal, action == Action::"proposal:apply", resource)
when { context.strict } unless { context.approvals >= 2 && context.signed_approvals >= 1 };
@id("signed") forbid (principal, action == Action::"proposal:approve", resource) unless { context.signed };
"""


@pytest.fixture
async def ruled(redis_world: Callable[..., World], tmp_path: Path) -> Heist:
    """Where policy says how many it takes, and that they are signed."""
    folder = tmp_path / "policies"
    copy_shipped(folder)
    (folder / "added.cedar").write_text(POLICY)
    world = redis_world(engine=Engine(read_policies(folder)[0], surroundings=TRUSTING))
    return plan_heist(world, tmp_path)


async def test_fewer_approvals_than_policy_wants_are_not_what_an_approver_is_told(ruled: Heist) -> None:
    refused = await end(ruled, await ruled.world.draft([ruled.world.scale("api")]))
    assert (refused.state, refused.state_note) == (
        "refused",
        "It says that 1 approvals are enough, and it takes 2.",
    )


async def test_policy_counts_people_and_signatures_when_it_is_applied(ruled: Heist) -> None:
    world = ruled.world
    drafted = await world.draft([world.scale("api")])
    two = drafted.content.model_copy(update={"approvals_needed": 2})
    await world.forge(drafted.id, content=two.model_dump_json())
    await world.worker.advance(drafted.id)
    proposal = await world.book.get(drafted.id)
    assert proposal.state == "proposed", proposal.state_note
    bob = ruled.vote(proposal, by=world.approver("bob"), assertion=ruled.sign(ruled.bob, proposal))
    await ruled.plant(proposal, ruled.vote(proposal), bob)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_an_unsigned_approval_that_policy_wants_signed_is_refused_also_where_the_settings_let_it(
    redis_world: Callable[..., World], tmp_path: Path
) -> None:
    folder = tmp_path / "policies"
    copy_shipped(folder)
    (folder / "added.cedar").write_text(POLICY)
    world = redis_world(environment="staging", engine=Engine(read_policies(folder)[0], surroundings=TRUSTING))
    heist = plan_heist(world, tmp_path)
    drafted = await world.draft([world.scale("api")], risk=Risk.LOW)
    await world.worker.advance(drafted.id)
    proposal = await world.book.get(drafted.id)
    world.pinned = None
    world.worker = world.make_worker()
    await heist.plant(proposal, heist.vote(proposal, assertion=None))
    ended = await end(heist, proposal)
    assert ended.state_note == "Policy does not let Ana approve this (signed)."
