"""Planning a promotion: what is carried, what stays, what is refused, and how the changes of one app follow each other."""

from copy import deepcopy
from typing import Any

import pytest

from arborgate.policies.errors import ArborgateError, Invalid, Refused
from arborgate.server.verification import _check_apart, _check_fields
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.change import Change, ChangeKind, merge
from arborgate.tools.plan import Plan
from arborgate.tools.promotion.carrying import Move
from arborgate.tools.promotion.labels import FROM, PROPOSAL, REVISION
from arborgate.tools.promotion.ladder import PromotionSettings
from arborgate.tools.promotion.plan import plan_promotion
from arborgate.tools.risk import Factor
from arborgate.tools.rollouts.claims import find_downgrades, find_excess
from tests.tools.rollouts.applications import (
    AUTOMATED,
    CLUSTER,
    COMMIT,
    ENVIRONMENTS,
    HELM,
    KUSTOMIZE,
    OLDER,
    make_application,
    make_node,
)

Json = dict[str, Any]
LADDER = PromotionSettings(path=("staging", "production"), shared_parameters=("feature.*",))
NEWER = "1111111111111111111111111111111111111111"
IMAGE = "registry.example.org/shop/api"


def below(source: Json, *, revision: str = NEWER, **more: Any) -> Json:
    """The app of staging, one version ahead."""
    made = make_application("api-staging", source=source, **more)
    return merge(made, {"status": {"sync": {"revision": revision}}})


def above(source: Json, **more: Any) -> Json:
    return make_application("api", source=source, env="prod", **more)


def promote(
    origin: Json, target: Json, *, leave: tuple[str, ...] = (), kept_by: str = "", ladder: PromotionSettings = LADDER
) -> list[Plan]:
    parser = AppParser(CLUSTER, ENVIRONMENTS, {})
    move = Move(parser.parse(origin), parser.parse(target), ladder, leave)
    plans = plan_promotion(make_node(target), move, origin, target, proposal="p-1", kept_by=kept_by)
    for plan in plans:
        _check_fields(plan.change)
        assert find_excess(plan.change, move.target) == ""
        for other in plans:
            if other is not plan:
                _check_apart(plan.change, other.change)
    return plans


def fail(origin: Json, target: Json, **more: Any) -> ArborgateError:
    with pytest.raises(ArborgateError) as caught:
        promote(origin, target, **more)
    return caught.value


def with_images(*images: str) -> Json:
    return merge(KUSTOMIZE, {"kustomize": {"images": list(images)}})


def with_parameters(revision: str = "1.9.0", **values: str) -> Json:
    parameters = [{"name": name.replace("__", "."), "value": value} for name, value in values.items()]
    return merge(HELM, {"targetRevision": revision, "helm": {"parameters": parameters}})


def tell(plans: list[Plan]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assert plans[0].change.promotion is not None
    return plans[0].change.promotion.carried, plans[0].change.promotion.stays


def test_an_app_that_follows_a_branch_is_synced_to_the_commit_that_runs_below() -> None:
    label, sync = promote(below(KUSTOMIZE), above(KUSTOMIZE))
    assert (label.change.kind, sync.change.kind) == (ChangeKind.PROMOTE, ChangeKind.SYNC)
    assert label.change.patch == {"metadata": {"labels": {FROM: "staging", PROPOSAL: "p-1", REVISION: NEWER}}}
    assert sync.change.patch["operation"]["sync"]["revision"] == NEWER
    assert label.change.summary.startswith("Promote api from staging: what runs there (1111111111)")


def test_images_of_kustomize_are_carried() -> None:
    label, sync = promote(below(with_images(f"api={IMAGE}:1.5.0")), above(KUSTOMIZE))
    assert label.change.patch["spec"] == {
        "source": {"kustomize": {"images": [f"api={IMAGE}:1.5.0", "registry.example.org/shop/proxy:2.0.0"]}}
    }
    assert tell([label, sync]) == ((f"image {IMAGE}:1.5.0",), ())
    assert sync.change.patch["operation"]["sync"]["revision"] == NEWER


def test_an_image_of_another_registry_stays() -> None:
    origin = below(with_images("api=staging.example.org/api:1.5.0"))
    assert tell(promote(origin, above(KUSTOMIZE))) == (
        (),
        ("image api, which comes from another registry here",),
    )


def test_a_chart_is_pinned_to_the_version_that_runs_below() -> None:
    label, sync = promote(
        below(with_parameters("1.*", image__tag="1.5.0", replicas="2"), revision="1.10.0"),
        above(with_parameters("1.9.0", image__tag="1.4.2", replicas="6")),
    )
    assert label.change.patch["spec"] == {
        "source": {
            "targetRevision": "1.10.0",
            "helm": {"parameters": [{"name": "image.tag", "value": "1.5.0"}, {"name": "replicas", "value": "6"}]},
        }
    }
    assert sync.change.patch["operation"]["sync"]["revision"] == "1.10.0"
    assert tell([label]) == (("revision 1.10.0", "image.tag 1.5.0"), ("replicas, which is not shared",))


def test_what_is_shared_crosses_and_what_is_not_stays() -> None:
    origin = below(with_parameters(feature__dark="on", feature__apiUrl="x", log__level="debug", image__tag="1.4.2"))
    target = above(with_parameters(feature__dark="off", own="1", image__tag="1.4.2"))
    carried, stays = tell(promote(origin, target))
    assert carried == ("feature.dark",)
    assert stays == ("feature.apiUrl, which is not shared", "log.level, which is not shared", "own, which is only here")


def test_a_shared_value_that_speaks_of_its_environment_is_refused_with_the_way_out() -> None:
    origin = below(with_parameters(feature__backend="api.staging.example.com"))
    error = fail(origin, above(with_parameters(feature__backend="api.example.com")))
    assert isinstance(error, Refused)
    assert error.field == "leave"
    assert "feature.backend" in error.message
    assert "staging" in error.message
    assert "promotion.shared_parameters" in str(error.hint)


def test_what_is_left_on_purpose_stays() -> None:
    origin = below(with_parameters(feature__backend="api.staging.example.com", feature__x="1"))
    target = above(with_parameters(feature__backend="api.example.com", feature__x="0"))
    carried, stays = tell(promote(origin, target, leave=("feature.backend",)))
    assert (carried, stays) == (("feature.x",), ("feature.backend, which was to be left",))


def test_a_secret_never_crosses() -> None:
    ladder = LADDER.model_copy(update={"shared_parameters": ("*",), "local_parameters": ()})
    origin = below(with_parameters(adminPassword="correct-horse-battery-staple"))
    assert "looks like a secret" in fail(origin, above(with_parameters(replicas="1")), ladder=ladder).message


@pytest.mark.parametrize(
    "status",
    [{"health": {"status": "Degraded"}}, {"health": {"status": "Progressing"}}, {"sync": {"status": "OutOfSync"}}],
)
def test_only_what_runs_well_is_promoted(status: Json) -> None:
    origin = merge(below(KUSTOMIZE), {"status": status})
    assert isinstance(fail(origin, above(KUSTOMIZE)), Refused)


def test_an_automated_app_of_a_branch_has_what_the_branch_has() -> None:
    error = fail(below(KUSTOMIZE), above(KUSTOMIZE, policy=AUTOMATED))
    assert isinstance(error, Invalid)
    assert "follows its own branch" in error.message


def test_an_automated_app_rolls_a_new_image_out_by_itself() -> None:
    (only,) = promote(below(with_images(f"api={IMAGE}:1.5.0")), above(KUSTOMIZE, policy=AUTOMATED))
    assert (only.change.kind, only.change.check.sync) == (ChangeKind.PROMOTE, "Synced")


def test_what_was_compared_here_and_not_deployed_is_brought() -> None:
    waiting = make_application("api", env="prod", status={"sync": {"status": "OutOfSync", "revision": NEWER}})
    label, sync = promote(below(KUSTOMIZE), waiting)
    assert label.change.kind is ChangeKind.PROMOTE
    assert sync.change.patch["operation"]["sync"]["revision"] == NEWER


def test_there_may_be_nothing_to_bring() -> None:
    error = fail(below(KUSTOMIZE, revision=COMMIT), above(KUSTOMIZE))
    assert isinstance(error, Invalid)
    assert "all that api-staging could bring" in error.message


def test_a_spec_that_somebody_keeps_is_refused_but_not_a_sync_alone() -> None:
    origin = below(with_images(f"api={IMAGE}:1.5.0"))
    assert "would be undone by root" in fail(origin, above(KUSTOMIZE), kept_by="root, which self-heals").message
    assert len(promote(below(KUSTOMIZE), above(KUSTOMIZE), kept_by="root, which self-heals")) == 2


def test_a_pinned_commit_becomes_the_commit_that_runs_below() -> None:
    label, sync = promote(below(KUSTOMIZE), above(merge(KUSTOMIZE, {"targetRevision": OLDER})))
    assert label.change.patch["spec"] == {"source": {"targetRevision": NEWER}}
    assert sync.change.patch["operation"]["sync"]["revision"] == NEWER


def test_a_tag_is_carried_as_the_tag_that_it_is() -> None:
    origin = below(merge(KUSTOMIZE, {"targetRevision": "v2.1.0"}))
    label, _ = promote(origin, above(merge(KUSTOMIZE, {"targetRevision": "v2.0.0"})))
    assert label.change.patch["spec"] == {"source": {"targetRevision": "v2.1.0"}}


def test_of_several_sources_each_is_carried_and_a_strange_one_stays() -> None:
    other = {"repoURL": "https://git.example.org/values.git", "path": "prod", "targetRevision": "main"}
    origin = make_application(
        "api-staging", sources=[with_images(f"api={IMAGE}:1.5.0"), {**other, "repoURL": "https://x"}]
    )
    origin = merge(origin, {"status": {"sync": {"revisions": [NEWER, OLDER]}}})
    target = make_application("api", sources=[KUSTOMIZE, other], env="prod")
    label, sync = promote(origin, target)
    assert label.change.patch["spec"]["sources"][1] == other
    assert label.change.patch["spec"]["sources"][0]["kustomize"]["images"][0] == f"api={IMAGE}:1.5.0"
    assert sync.change.patch["operation"]["sync"]["revisions"] == [NEWER, COMMIT]
    assert "source 2, which is another one here" in tell([label])[1]


def test_apps_that_are_built_differently_are_refused() -> None:
    target = make_application("api", sources=[KUSTOMIZE, HELM], env="prod")
    assert "has 1 sources and api has 2" in fail(below(KUSTOMIZE), target).message


def test_going_back_is_found_again_by_the_applier() -> None:
    target = above(with_parameters("1.9.0", image__tag="1.6.0"))
    plans = promote(below(with_parameters("1.9.0", image__tag="1.5.0"), revision="1.9.0"), target)
    found = find_downgrades([plan.change for plan in plans], {plans[0].change.target.app: make_node(target)})
    assert [risk.factor for risk in found] == [Factor.DOWNGRADE]
    assert all(risk in found for plan in plans for risk in plan.risks)


def test_a_promotion_says_where_it_ran_since_when_and_by_which_proposal_it_came_there() -> None:
    origin = below(with_images(f"api={IMAGE}:1.5.0"))
    origin["metadata"]["labels"][PROPOSAL] = "p-0"
    told = promote(origin, above(KUSTOMIZE))[0].change.promotion
    assert told is not None
    assert (told.app, told.origin, told.environment) == (f"{CLUSTER}/argocd/api-staging", "staging", "production")
    assert (told.revision, told.since, told.brought_by) == (NEWER, "2026-11-02T08:00:00Z", "p-0")


def test_undoing_it_brings_back_the_spec_and_the_labels() -> None:
    target = above(with_parameters("1.9.0", image__tag="1.4.2"))
    target["metadata"]["labels"][FROM] = "staging"
    label, _ = promote(below(with_parameters("1.9.0", image__tag="1.5.0"), revision="1.9.0"), target)
    changed = merge(deepcopy(target), label.change.patch)
    assert label.change.undo is not None
    assert merge(changed, label.change.undo) == target


def test_the_form_of_other_changes_stays_what_it_was() -> None:
    plain: Change = promote(below(KUSTOMIZE), above(KUSTOMIZE))[1].change
    assert "promotion" not in plain.model_dump(mode="json")
    assert Change.model_validate(plain.model_dump(mode="json")) == plain
