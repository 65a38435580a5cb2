"""How the applier knows the people in a proposal: by its own settings, and by how they came when they asked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from arborgate.policies.calendar import Calendar
from arborgate.policies.engine import Engine
from arborgate.policies.errors import Refused
from arborgate.policies.loader import read_policies
from arborgate.policies.model import Binding, Caller
from arborgate.server.identity.settings import Grant, IdentitySettings, IssuerSettings, Member
from tests.policies.writing import TRUSTING, write_policies
from tests.server.applier.world import DEV, World

pytestmark = pytest.mark.anyio

POLICIES = """
@id("developers") permit (principal in Role::"developer", action in Action::"propose", resource);
@id("as-they-came") forbid (principal, action in Action::"propose", resource)
unless { context.bound && !context.itself && context.acr == "key" && context.login_age <= 60 };
"""


async def check(world: World, folder: Path, by: Caller) -> None:
    """The applier's judgement, as long after the proposal as it comes to it."""
    drafted = await world.draft([world.scale("api")], by=by)
    world.clock.now += 1_000
    engine = Engine(read_policies(write_policies(folder, POLICIES))[0], clock=world.clock)
    world.make_verifier(engine).check_content(drafted.content)


def came(world: World) -> Caller:
    return replace(DEV, binding=Binding.DPOP, acr="key", authenticated_at=int(world.clock()) - 60)


async def test_a_requester_is_judged_as_they_came_when_they_asked(world: World, tmp_path: Path) -> None:
    await check(world, tmp_path, came(world))


@pytest.mark.parametrize(
    "changed", [{"binding": Binding.BEARER}, {"acr": "pwd"}, {"itself": True}, {"authenticated_at": 1}]
)
async def test_what_they_could_not_have_asked_for_is_not_applied(
    world: World, tmp_path: Path, changed: Mapping[str, object]
) -> None:
    with pytest.raises(Refused, match="does not let Dev propose"):
        await check(world, tmp_path, replace(came(world), **changed))  # type: ignore[arg-type]  # fields of a caller


@pytest.mark.parametrize(
    ("members", "limit", "allowed"),
    [
        ([Grant(group="arborgate-developers", at="main/argocd/api")], None, True),
        ([Grant(group="arborgate-developers", at="main/argocd/other")], None, False),
        (["arborgate-developers"], ("viewer",), False),
        (["arborgate-developers"], ("developer",), True),
    ],
    ids=["granted there", "granted elsewhere", "an issuer without the role", "an issuer with it"],
)
async def test_roles_follow_from_the_appliers_own_settings(
    world: World, tmp_path: Path, members: Sequence[Member], limit: tuple[str, ...] | None, allowed: bool
) -> None:
    issuer = IssuerSettings(issuer="https://issuer.test", roles=limit)
    update = {"roles": {"developer": tuple(members)}, "identity": IdentitySettings(issuers=(issuer,))}
    world.settings = world.settings.model_copy(update=update)
    if allowed:
        await check(world, tmp_path, came(world))
    else:
        with pytest.raises(Refused):
            await check(world, tmp_path, came(world))


async def test_what_was_approved_before_a_freeze_is_not_applied_in_it(world: World) -> None:
    freeze = {"name": "Audit", "from": "2027-01-15 08:10", "until": "2027-01-16 08:00", "environments": ["production"]}
    calendar = Calendar.model_validate({"zone": "UTC", "freezes": [freeze]})
    engine = Engine(read_policies(None)[0], world.clock, replace(TRUSTING, calendar=calendar))
    proposal = await world.approved(world.scale("api"))
    verifier, counts = world.make_verifier(engine), await world.book.counts(proposal)
    approvals = verifier.check_approvals(proposal)

    verifier.require(verifier.judge_policy(proposal, approvals, counts, world.clock()))
    await world.clock.sleep(900)

    with pytest.raises(Refused) as refused:
        verifier.require(verifier.judge_policy(proposal, approvals, counts, world.clock()))
    assert refused.value.message == (
        "Policy does not let the applier apply this (nothing-changes-in-a-freeze). No changes now: production is frozen "
        "until 16 January 2027 08:00 UTC (Audit)."
    )
