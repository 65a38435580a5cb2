"""What a proposal tells of its risk is not believed: the applier finds it again, by its own tree and settings."""

from collections.abc import Callable
from typing import Any

import pytest

from arborgate.tools.change import Change, ChangeKind
from arborgate.tools.plan import Undo, make_change, write_title
from arborgate.tools.proposal import Draft, Proposal, proposal_resources
from arborgate.tools.risk import Factor, Risk, RiskFactor, find_factors
from tests.server.applier.cluster import make_app
from tests.server.applier.world import APPS, DEV, World

pytestmark = pytest.mark.anyio

STRICT = RiskFactor.of(Factor.STRICT_ENVIRONMENT, "The environment production is strict.")
STOPS = RiskFactor.of(Factor.REPLICAS_TO_ZERO, "Deployment api of api stops running.")


async def propose(world: World, *changes: Change, **fields: Any) -> Proposal:
    told = {"factors": find_factors(changes, world.tree, world.environments), "risk": Risk.HIGH, **fields}
    title, environments = write_title(changes), world.environments_of(changes)
    draft = Draft(title=title, reason="It is slow.", changes=changes, environments=environments, **told)
    drafted = await world.book.draft(DEV, draft)
    await world.worker.advance(drafted.id)
    return await world.book.get(drafted.id)


async def test_what_tells_all_of_its_risk_is_proposed(world: World) -> None:
    assert (await propose(world, world.scale("api", 0))).state == "proposed"


@pytest.mark.parametrize(
    ("told", "untold"),
    [((), STRICT), ((STRICT,), STOPS), ((STOPS,), STRICT)],
    ids=["nothing", "no zero", "not strict"],
)
async def test_a_proposal_that_tells_less_risk_than_it_has_is_refused(
    world: World, told: tuple[RiskFactor, ...], untold: RiskFactor
) -> None:
    proposal = await propose(world, world.scale("api", 0), factors=told)
    assert (proposal.state, proposal.state_note) == ("refused", f"It does not tell all of its risk: {untold.why}")


async def test_a_risk_that_is_lower_than_its_factors_is_refused(world: World) -> None:
    light = tuple(
        each.model_copy(update={"weight": 0})
        for each in find_factors([world.scale("api")], world.tree, world.environments)
    )
    proposal = await propose(world, world.scale("api"), factors=light, risk=Risk.LOW)
    assert (proposal.state, proposal.state_note) == ("refused", "It tells less risk than it has.")


async def test_apps_that_came_below_since_make_it_more_risk_than_was_approved(
    redis_world: Callable[..., World],
) -> None:
    world = redis_world(environment="staging")
    proposal = await world.approved(world.sync("api"))
    for number in range(4):
        child = make_app(f"child-{number}", wave=0, environment="staging")
        tracked = f"api:argoproj.io/Application:argocd/child-{number}"
        child["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = tracked
        world.cluster.add(child)
        world.relist(f"child-{number}")
    await world.worker.advance(proposal.id)
    ended = await world.book.get(proposal.id)
    assert (ended.state, "more than 3 apps" in ended.state_note) == ("rejected", True)
    assert not world.cluster.patched
    assert set(world.replicas()) == set(APPS)


async def test_the_factors_are_what_policies_see(world: World) -> None:
    proposal = await propose(world, world.scale("api", 0))
    (resource,) = proposal_resources(proposal, [world.node("api").resource])
    assert dict(resource.attributes)["factors"] == ("replicas_to_zero", "strict_environment")
    assert (dict(resource.attributes)["risk"], dict(resource.attributes)["breaker"]) == ("high", "")


async def test_going_back_to_an_earlier_version_is_found_again(world: World) -> None:
    change = world.set_revision("api", "v0.9")
    told = find_factors([change], world.tree, world.environments)
    world.cluster.get("Application", "api")["spec"]["source"]["targetRevision"] = "v1.0"
    world.relist("api")
    proposal = await propose(world, change, factors=told)
    assert proposal.state == "refused"
    assert proposal.state_note.endswith("api goes back to an earlier version (v0.9).")


@pytest.mark.parametrize(
    ("kind", "patch", "field"),
    [
        ("scale", {"spec": {"replicas": 3, "template": {"spec": {"hostNetwork": True}}}}, "/spec/template/spec/host"),
        ("sync", {"operation": {"sync": {"manifests": ["kind: Secret"]}}}, "/operation/sync/manifests"),
        ("sync", {"operation": {"sync": {"source": {"repoURL": "https://elsewhere"}}}}, "/operation/sync/source"),
        ("sync", {"operation": {"sync": {"prune": True}}}, "/operation/sync/prune"),
        ("rollback", {"spec": {"project": "default-but-open"}}, "/spec/project"),
        ("set_revision", {"spec": {"source": {"repoURL": "https://elsewhere"}}}, "/spec/source/repoURL"),
        ("set_image", {"spec": {"source": {"targetRevision": "v0"}}}, "/spec/source/targetRevision"),
        ("set_image", {"spec": {"sources": "none"}}, "/spec/sources"),
        ("set_image", {"spec": {"sources": [{"repoURL": "https://elsewhere"}]}}, "/spec/sources"),
    ],
)
async def test_a_change_that_does_more_than_its_kind_says_is_refused(
    world: World, kind: str, patch: dict[str, Any], field: str
) -> None:
    honest = world.scale("api") if kind == "scale" else world.sync("api")
    live = world.cluster.get(honest.target.kind, "api")
    change = make_change(
        ChangeKind(kind),
        honest.target,
        live,
        patch,
        summary="Small.",
        check=honest.check,
        wave=0,
        undo=Undo(None, "no"),
    )
    proposal = await propose(world, change)
    assert proposal.state == "refused"
    assert f"writes {field}" in proposal.state_note
    assert f"which no {kind.replace('_', ' ')} does." in proposal.state_note
