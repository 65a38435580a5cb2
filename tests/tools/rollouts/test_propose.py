"""`rollout_propose` through a real gate, on live objects of a cluster, with proposals kept in a real Redis."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import Denied, Invalid, NotThere, Reason, Refused
from arborgate.tools.change import fields_digest, merge
from arborgate.tools.proposal import ProposalQuery, ProposalState
from arborgate.tools.record import Event
from arborgate.tools.risk import Factor, Risk
from tests.parts.kube import Identity
from tests.server.applier.world import connected
from tests.tools.rollouts.applications import (
    CLUSTER,
    COMMIT,
    OLDER,
    SELF_HEAL,
    make_application,
)
from tests.tools.rollouts.proposing import API, NEW, REASON, VIEWER, Bench, rehearsing_as, running
from tests.tools.world import ADA, make_caller

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_url: str, anyio_backend: str) -> AsyncIterator[Redis]:
    async with connected(redis_url) as client:
        yield client


@pytest.fixture
async def bench(redis: Redis, tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(redis, tmp_path, rehearsal_wait=0.0) as found:  # nobody rehearses here
        yield found


@pytest.fixture
async def rehearsing(redis: Redis, tmp_path: Path) -> AsyncIterator[Bench]:
    async with rehearsing_as(Identity.APPLIER, redis, tmp_path) as bench:
        yield bench


async def test_a_proposal_is_rehearsed_and_waits_for_a_person(rehearsing: Bench) -> None:
    answer, kept = await rehearsing.propose({"app": "api", "kind": "rollback", "history_id": 1})
    assert kept.state is ProposalState.PROPOSED
    assert answer["state"] == "proposed"
    assert answer["digest"] == kept.digest
    assert answer["page"] == f"https://gate.test/proposals/{kept.id}"
    assert (answer["risk"], answer["approvals_needed"]) == ("high", 2)
    assert answer["next"].startswith("Nothing is changed until 2 people other than the requester")
    (change,) = answer["changes"]
    assert change["summary"] == "Roll api back to history entry 1 (0a1b2c3d4e)"
    assert f"+    revision: {OLDER}" in change["diff"].splitlines()
    assert "refusal" not in change
    live = await rehearsing.clusters.read(kept.content.changes[0].target)
    assert live is not None
    assert "operation" not in live


async def test_the_text_says_what_the_data_says(rehearsing: Bench) -> None:
    answer = await rehearsing.call({"app": "api", "kind": "scale", "workload": "Deployment/api", "replicas": 3})
    assert answer.structured is not None
    for told in (
        answer.structured["proposal"],
        answer.structured["digest"],
        answer.structured["page"],
        answer.structured["next"],
        *answer.structured["changes"][0]["diff"].splitlines(),
        "Risk low",
    ):
        assert told in answer.text


async def test_a_rehearsal_that_refuses_is_told_with_its_reason(redis: Redis, tmp_path: Path) -> None:
    async with rehearsing_as(Identity.SERVE, redis, tmp_path) as bench:
        answer, kept = await bench.propose({"app": "api", "kind": "sync"})
    assert kept.state is ProposalState.REFUSED
    assert answer["state"] == "refused"
    assert answer["changes"][0]["refusal"] == f"The applier may not change Application api in the cluster {CLUSTER}."
    assert "propose again" in answer["next"]


async def test_without_an_applier_the_proposal_stays_a_draft_and_says_so(bench: Bench) -> None:
    answer, kept = await bench.propose({"app": "api", "kind": "sync"})
    assert kept.state is ProposalState.DRAFTED
    assert "proposal_get" in answer["next"]
    assert "digest" not in answer


async def test_what_is_kept_is_what_was_planned_and_asked(bench: Bench) -> None:
    _, kept = await bench.propose(
        {"app": "web", "kind": "sync"},
        {"app": "argocd/api", "kind": "set_image", "image": f"{API}:1.5.0"},
    )
    content = kept.content
    assert content.title == "2 changes to web, api"
    assert (content.reason, content.requester.key, content.requester.agent) == (REASON, ADA.key, "ide-copilot")
    assert [change.kind for change in content.changes] == ["sync", "set_image"]
    assert [change.wave for change in content.changes] == [1, 0]
    assert content.environments == ("staging",)
    assert (content.risk, [each.factor for each in content.factors]) == (Risk.LOW, [Factor.NEW_REQUESTER])
    (intended, *_, answered) = bench.records.written
    assert (intended.event, intended.resource) == (
        Event.CALL_INTENDED,
        f"App::{CLUSTER}/argocd/web App::{CLUSTER}/argocd/api",
    )
    assert (answered.event, answered.proposal) == (Event.CALL_ANSWERED, kept.id)


async def test_what_it_reaches_and_who_changed_it_last_is_told(bench: Bench) -> None:
    answer, proposal = await bench.propose({"app": "root", "kind": "sync"}, {"app": "api", "kind": "sync"})
    assert answer["reach"].startswith("3 apps")
    assert "hidden" not in answer["reach"]
    assert [one.trace for one in proposal.content.changes[1].last]


async def test_calls_on_record_become_part_of_what_is_approved(bench: Bench) -> None:
    await bench.propose({"app": "web", "kind": "sync"})
    line = f"serve-1/{bench.records.written[-1].seq}"
    answer = await bench.call({"app": "api", "kind": "sync"}, evidence=[{"line": line, "note": "it went well"}])
    assert answer.structured is not None, answer.error
    (one,) = (await bench.book.get(answer.structured["proposal"])).content.evidence
    assert (one.line, one.tool, one.outcome, one.note) == (line, "rollout_propose", "ok", "it went well")


async def test_a_call_for_somebody_else_is_no_evidence_and_nothing_is_kept(bench: Bench) -> None:
    other = make_caller("bob", "developer")
    await bench.call({"app": "web", "kind": "sync"}, caller=other)
    before = (await bench.book.list(ProposalQuery())).proposals
    line = f"serve-1/{bench.records.written[-1].seq}"
    answer = await bench.call({"app": "api", "kind": "sync"}, evidence=[{"line": line}])
    assert answer.error is not None
    assert answer.error.field == "evidence.0.line"
    assert (await bench.book.list(ProposalQuery())).proposals == before


async def test_an_image_and_the_sync_that_rolls_it_out_are_one_proposal(bench: Bench) -> None:
    _, kept = await bench.propose(
        {"app": "api", "kind": "set_image", "image": f"{API}:1.5.0"}, {"app": "api", "kind": "sync"}
    )
    image, sync = kept.content.changes
    live = await bench.clusters.read(image.target)
    assert live is not None
    assert fields_digest(live, image.precondition.fields) == image.precondition.digest
    assert sync.precondition.fields == ("/operation", "/spec/sources", "/spec/syncPolicy")
    assert fields_digest(live, sync.precondition.fields) == sync.precondition.digest
    assert sync.patch["operation"]["sync"]["revision"] == COMMIT


async def test_two_changes_of_one_field_are_refused(bench: Bench) -> None:
    error = await bench.fail(
        {"app": "api", "kind": "set_revision", "revision": "v2"},
        {"app": "api", "kind": "set_revision", "revision": "v3"},
    )
    assert (error.reason, error.field) == (Reason.REFUSED, "changes.1")
    error = await bench.fail({"app": "api", "kind": "sync"}, {"app": "api", "kind": "sync"})
    assert (
        error.message
        == "An earlier change of this proposal already writes this field (/operation/initiatedBy/username)."
    )


async def test_two_images_of_one_app_are_one_change(bench: Bench) -> None:
    _, kept = await bench.propose(
        {"app": "api", "kind": "set_image", "image": f"{API}:1.4.1"},
        {"app": "web", "kind": "sync"},
        {"app": "api", "kind": "set_image", "image": "registry.example.org/shop/proxy:2.1.0"},
        {"app": "api", "kind": "sync"},
    )
    images, _, sync = kept.content.changes
    assert images.patch["spec"]["source"]["kustomize"]["images"] == [
        f"api={API}:1.4.1",
        "registry.example.org/shop/proxy:2.1.0",
    ]
    assert images.summary == (
        f"Set Kustomize image of api to {API}:1.4.1, "
        "Set Kustomize image of api to registry.example.org/shop/proxy:2.1.0; it runs once the app is synced"
    )
    live = await bench.clusters.read(images.target)
    assert live is not None
    assert merge(merge(live, images.patch), images.undo or {}) == live
    assert fields_digest(live, images.precondition.fields) == images.precondition.digest
    assert sync.kind == "sync"
    assert kept.content.risk_reasons == ("api goes back to an earlier version (1.4.1).", NEW)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ([{"app": "api", "kind": "sync"}], []),
        ([{"app": "live", "kind": "sync"}], ["The environment production is strict."]),
        (
            [{"app": f"app-{number}", "kind": "sync"} for number in range(4)],
            ["It changes 4 apps."],
        ),
        ([{"app": f"app-{number}", "kind": "sync"} for number in range(3)], []),
        (
            [{"app": "api", "kind": "scale", "workload": "Deployment/api", "replicas": 0}],
            ["Deployment api of api stops running."],
        ),
        (
            [{"app": "api", "kind": "set_image", "image": f"{API}:1.4.1"}],
            ["api goes back to an earlier version (1.4.1)."],
        ),
    ],
    ids=["staging", "production", "many apps", "some apps", "to zero", "downgrade"],
)
async def test_the_risk_is_high_for_a_reason(
    bench: Bench, changes: Sequence[dict[str, Any]], reasons: list[str]
) -> None:
    answer, kept = await bench.propose(*changes)
    assert answer["risk_reasons"] == [*reasons, NEW]
    assert kept.content.risk is (Risk.HIGH if reasons else Risk.LOW)
    assert answer["approvals_needed"] == (2 if reasons else 1)


async def test_a_refusal_of_one_change_keeps_none(bench: Bench) -> None:
    error = await bench.fail(
        {"app": "api", "kind": "sync"},
        {"app": "healing", "kind": "scale", "workload": "Deployment/healing", "replicas": 3},
    )
    assert isinstance(error, Refused)
    assert error.field == "changes.1.kind"
    assert "self-heals" in error.message


async def test_a_child_that_its_parent_self_heals_is_not_patched(bench: Bench) -> None:
    error = await bench.fail({"app": "child", "kind": "set_revision", "revision": "v2"})
    assert isinstance(error, Refused)
    assert error.message == "A change of child's spec would be undone by root, which self-heals."
    assert "Git" in (error.hint or "")


async def test_a_parent_that_the_caller_may_not_see_is_not_named(redis: Redis, tmp_path: Path) -> None:
    hidden = make_application("cloaked", policy=SELF_HEAL)
    hidden["metadata"]["labels"]["hidden"] = "yes"
    child = make_application("orphan")
    child["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "cloaked:argoproj.io/Application:argocd/orphan"
    async with running(redis, tmp_path, hidden, child, rehearsal_wait=0.0) as bench:
        error = await bench.fail({"app": "orphan", "kind": "set_revision", "revision": "v2"})
    assert error.message == "A change of orphan's spec would be undone by its parent app, which self-heals."


async def test_a_hidden_app_looks_like_one_that_is_not_there(bench: Bench) -> None:
    missing = await bench.fail({"app": "missing", "kind": "sync"})
    hidden = await bench.fail({"app": "hidden", "kind": "sync"})
    assert isinstance(hidden, NotThere)
    assert (hidden.message, hidden.field, hidden.hint) == (missing.message, missing.field, missing.hint)
    assert missing.field == "changes.0.app"


async def test_an_app_that_may_be_seen_and_not_changed_is_denied_openly(bench: Bench) -> None:
    assert isinstance(await bench.fail({"app": "vault", "kind": "sync"}), Denied)
    assert isinstance(await bench.fail({"app": "api", "kind": "sync"}, {"app": "vault", "kind": "sync"}), Denied)
    assert isinstance(await bench.fail({"app": "api", "kind": "sync"}, caller=VIEWER), Denied)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "rollback"}, "history_id"),
        ({"kind": "set_image"}, "image"),
        ({"kind": "set_revision"}, "revision"),
        ({"kind": "restart"}, "workload"),
        ({"kind": "scale", "workload": "Deployment/api"}, "replicas"),
        ({"kind": "sync", "image": "api:1"}, "image"),
        ({"kind": "sync", "replicas": 0}, "replicas"),
        ({"kind": "restart", "workload": "Deployment/api", "source": 1}, "source"),
        ({"kind": "sync", "revision": "-x"}, "revision"),
        ({"kind": "set_image", "image": "api"}, "image"),
        ({"kind": "restart", "workload": "Deployment/other"}, "workload"),
        ({"kind": "rollback", "history_id": 9}, "history_id"),
        ({"kind": "sync", "source": 3, "revision": "v2"}, "source"),
        ({"kind": "sync", "image": "x" * 513}, "image"),
        ({"kind": "delete"}, "kind"),
        ({"kind": "sync", "prune": True}, "prune"),
    ],
    ids=str,
)
async def test_a_mistake_is_told_with_its_field(bench: Bench, change: dict[str, Any], field: str) -> None:
    error = await bench.fail({"app": "api", **change})
    assert isinstance(error, Invalid)
    assert error.field == f"changes.0.{field}"


async def test_a_null_for_a_field_that_is_not_needed_is_no_mistake(bench: Bench) -> None:
    _, kept = await bench.propose({"app": "api", "kind": "sync", "history_id": None, "image": "", "replicas": None})
    assert kept.content.changes[0].kind == "sync"


async def test_a_reason_is_needed_and_bounded(bench: Bench) -> None:
    for reason in ("too short", "x" * 1_001):
        answer = await bench.call({"app": "api", "kind": "sync"}, reason=reason)
        assert answer.error is not None
        assert answer.error.field == "reason"


async def test_a_workload_that_is_gone_is_refused(bench: Bench) -> None:
    error = await bench.fail({"app": "web", "kind": "restart", "workload": "Deployment/web"})
    assert isinstance(error, Refused)
    assert error.message == "Deployment web is not there any more."


async def test_a_long_diff_is_cut_and_says_where_the_rest_is(redis: Redis, tmp_path: Path) -> None:
    many = {"repoURL": "https://git.example.org/x.git", "kustomize": {"images": [f"i{n}:1" for n in range(200)]}}
    async with running(redis, tmp_path, make_application("big", source=many), rehearsal_wait=0.0) as bench:
        answer, _ = await bench.propose({"app": "big", "kind": "rollback", "history_id": 1})
    assert answer["changes"][0]["diff"].splitlines()[-1].endswith("more lines: proposal_get")
