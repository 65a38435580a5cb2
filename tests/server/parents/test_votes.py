"""What a parent app approves counts as far as its budget goes, and no further."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import BadConfiguration
from arborgate.server.parent_settings import ParentSettings
from arborgate.server.parent_statements import ParentVerdict, parse_keys
from arborgate.server.parent_template import read_template
from arborgate.server.settings import parse_settings, read_settings
from arborgate.tools.argocd.changes import plan_rollback
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.change import Rehearsal, Rehearsed
from arborgate.tools.proposal import Step, StepState
from arborgate.tools.risk import Risk
from tests.policies.writing import TRUSTING, change, copy_shipped, load_alone
from tests.server.applier.cluster import make_app
from tests.server.applier.world import DEV
from tests.server.parents.estate import BANK, SHOP, Estate, child_of, jwks, new_key

pytestmark = pytest.mark.anyio

Harm = Callable[[Estate], None]
DOCS = Path(__file__).parents[3] / "docs"
LACK = "What a parent app has approved here waits for a person as well."


async def test_what_the_parent_app_approves_inside_its_budget_is_applied_without_a_person(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.desk.ask(proposal)
    await estate.say(estate.sign(proposal))

    approved = await estate.get(proposal)
    assert (approved.state, [one.approver.key for one in approved.approvals]) == ("approved", [f"arborgate:app#{SHOP}"])
    assert (await estate.apply(approved)).state == "applied"
    assert estate.world.replicas()["api"] == 3
    assert estate.answered() == [
        ("ok", ("parents-approve-small-changes",), "approve: It is inside the budget."),
    ]


async def test_only_the_parent_app_above_all_targets_is_asked_and_once(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"), estate.world.scale("db"))

    await estate.desk.ask(proposal)
    await estate.desk.ask(proposal)
    await estate.desk.ask_all()

    assert [one["proposal"] for one in await estate.asked(SHOP)] == [proposal.id]
    assert await estate.asked(BANK) == []
    assert [str(one.event) for one in estate.world.audit.entries].count("parent:asked") == 1


async def test_another_applier_asks_what_the_first_did_not_come_to(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    estate.trust()

    await estate.desk.ask_all()

    assert [one["proposal"] for one in await estate.asked()] == [proposal.id]


async def test_what_is_asked_is_not_asked_where_it_can_not_be_recorded(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    estate.world.audit.full = True

    with pytest.raises(Exception, match="can't be written"):
        await estate.desk.ask(proposal)

    assert await estate.asked() == []


async def test_a_parent_app_that_passes_leaves_it_to_people_and_says_why(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal, verdict=ParentVerdict.PASS, reason="Too many replicas."))

    assert (await estate.get(proposal)).state == "proposed"
    assert estate.answered() == [("ok", (), "pass: Too many replicas.")]
    approved = await estate.world.book.decide(estate.world.vote(proposal))
    assert (await estate.apply(approved)).state == "applied"


async def test_a_parent_app_says_no(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal, verdict=ParentVerdict.REJECT, reason="Not this week."))

    rejected = await estate.get(proposal)
    assert (rejected.state, rejected.state_note) == ("rejected", "Not this week.")


async def test_what_an_app_asks_for_by_itself_is_for_people(estate: Estate) -> None:
    world = estate.world
    drafted = await world.draft([world.scale("api")], by=replace(DEV, itself=True), risk=Risk.LOW)
    rehearsal = Rehearsal(changes=(Rehearsed(ok=True),), at=world.clock())
    proposal = await world.book.rehearsed(drafted.id, rehearsal)

    await estate.desk.ask(proposal)
    await estate.say(estate.sign(proposal))

    assert await estate.asked() == []
    assert "a person has to decide it" in estate.refused()[0]
    assert (await estate.get(proposal)).approvals == ()


async def test_at_a_high_risk_a_person_has_to_approve_too(estate: Estate, tmp_path: Path) -> None:
    estate.trust(engine=with_parents(tmp_path, lambda text: text.replace('resource.risk == "low" &&', "")))
    proposal = await estate.propose(estate.world.scale("api"), risk=Risk.HIGH)

    await estate.say(estate.sign(proposal))
    waiting = await estate.get(proposal)
    await estate.world.forge(proposal.id, state="approved")
    assert (await estate.apply(waiting)).state_note == LACK

    other = await estate.propose(estate.world.scale("api"), risk=Risk.HIGH)
    await estate.say(estate.sign(other))
    assert (await estate.get(other)).state == "proposed"
    approved = await estate.world.book.decide(estate.world.vote(other))
    assert (approved.state, len(approved.approvals)) == ("approved", 2)
    assert (await estate.apply(approved)).state == "applied"


async def test_where_the_settings_say_so_a_low_risk_waits_for_a_person_too(estate: Estate) -> None:
    estate.trust(alone=False)
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    await estate.world.forge(proposal.id, state="approved")
    assert (await estate.apply(proposal)).state_note == LACK


async def test_two_parent_apps_together_take_one_place(estate: Estate) -> None:
    top = new_key()
    estate.world.settings = estate.world.settings.model_copy(
        update={"proposals": estate.world.settings.proposals.model_copy(update={"approvals_low": 2})}
    )
    estate.world.book = estate.world.make_book()
    estate.add(make_app("top", wave=0, environment="staging"))
    estate.add(child_of(make_app("shop", wave=0, environment="staging"), "top"))
    estate.trust()
    estate.start([ParentSettings(app=SHOP, jwks_file=estate.file), ParentSettings(app="top", jwks=jwks(top))])
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal))
    await estate.say(estate.sign(proposal, app="main/argocd/top", key=top), app="main/argocd/top")

    voted = await estate.get(proposal)
    assert (voted.state, len(voted.approvals)) == ("proposed", 2)
    await estate.world.forge(proposal.id, state="approved")
    assert (await estate.apply(proposal)).state_note == "It has 1 of the 2 approvals that it needs."


def _degrade(estate: Estate) -> None:
    estate.edit("api", {"status": {"health": {"status": "Degraded"}}})


def _delete(estate: Estate) -> None:
    estate.edit("api", {"metadata": {"deletionTimestamp": "2026-11-21T10:00:00Z"}})


def _orphan(estate: Estate) -> None:
    estate.edit("api", {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": None}}})


@pytest.mark.parametrize("harm", [_degrade, _delete], ids=["not healthy", "being deleted"])
async def test_a_child_that_is_not_well_is_outside_the_budget(estate: Estate, harm: Harm) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    harm(estate)

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    assert estate.answered()[0][0] == "denied"


@pytest.mark.parametrize("harm", [_degrade, _orphan], ids=["not healthy any more", "below nobody any more"])
async def test_what_changed_after_the_vote_is_seen_before_anything_is_begun(estate: Estate, harm: Harm) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    harm(estate)

    assert (await estate.apply(proposal)).state == "rejected"
    assert estate.world.replicas()["api"] == 1


@pytest.mark.parametrize(("unwell", "ended"), [("db", "applied"), ("api", "rolled_back")])
async def test_on_the_way_only_children_that_are_not_begun_have_to_be_well(
    estate: Estate, unwell: str, ended: str
) -> None:
    proposal = await estate.propose(estate.world.scale("db"), estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    raw = deepcopy(estate.world.cluster.get("Application", unwell))
    raw["status"]["health"] = {"status": "Progressing"}
    app = AppParser("main", estate.world.environments, {}).parse(raw)
    estate.world.cluster.before_patch = lambda _: estate.world.tree.put(app)

    assert (await estate.apply(proposal)).state == ended


@pytest.mark.parametrize("state", ["approved", "applying"])
async def test_redis_does_not_say_what_was_begun_before_a_child_was_unwell(estate: Estate, state: str) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    estate.edit("api", {"status": {"health": {"status": "Degraded"}}})
    steps = orjson.dumps([Step(state=StepState.STARTED).model_dump(mode="json")]).decode()
    await estate.world.forge(proposal.id, state=state, steps=steps)

    ended = await estate.apply(proposal)

    assert estate.world.cluster.patched == []
    assert ended.state in ("rejected", "rolled_back")
    assert "Policy does not let shop approve this as a parent app" in ended.state_note


async def test_kinds_that_the_budget_does_not_name_are_outside_it(estate: Estate) -> None:
    live = estate.world.cluster.get("Application", "api")
    back = plan_rollback(estate.world.node("api"), live, history_id=1).change
    proposal = await estate.propose(back, risk=Risk.HIGH)

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    assert estate.answered()[0][0] == "denied"


async def test_a_version_that_runs_nowhere_below_is_outside_the_budget(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.set_revision("api", "v2.0.0"))

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    assert estate.answered()[0][0] == "denied"


async def test_a_version_that_runs_well_below_is_inside_the_budget(estate: Estate) -> None:
    estate.edit("api-dev", {"spec": {"source": {"targetRevision": "v2.0.0"}}})
    proposal = await estate.propose(estate.world.set_revision("api", "v2.0.0"))

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "approved"


async def test_a_budget_for_the_day_that_is_used_up_on_the_way_lets_no_more_through(estate: Estate) -> None:
    first = await estate.propose(estate.world.scale("api"))
    await _use_up(estate, 9)
    await estate.say(estate.sign(first))
    assert (await estate.apply(first)).state == "applied"

    second = await estate.propose(estate.world.scale("api", 7))
    await estate.say(estate.sign(second))

    assert (await estate.get(second)).state == "proposed"
    assert [outcome for outcome, _, _ in estate.answered()] == ["ok", "denied"]


async def test_of_two_votes_for_the_last_place_of_the_day_one_is_applied(estate: Estate) -> None:
    await _use_up(estate, 9)
    one, other = await estate.propose(estate.world.scale("api")), await estate.propose(estate.world.restart("api"))
    await estate.say(estate.sign(one))
    estate.world.clock.now += 1
    await estate.say(estate.sign(other))

    ended = [(await estate.apply(each)).state for each in (one, other)]

    assert ended == ["applied", "rejected"]


async def test_a_vote_with_an_earlier_date_is_held_to_the_budget_of_now(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    earlier = estate.world.clock()
    estate.world.clock.now += 3_000
    await _use_up(estate, 10)

    await estate.say(estate.sign(proposal, iat=earlier, exp=earlier + 3_500))

    assert (await estate.get(proposal)).state == "proposed"
    assert [outcome for outcome, _, _ in estate.answered()] == ["denied"]


async def _use_up(estate: Estate, changes: int) -> None:
    ledger = f"{estate.world.state.prefix}ledger:main/argocd/api"
    now = estate.world.clock()
    await estate.redis.zadd(ledger, {f"p-before/{n}": now - 60 + n for n in range(changes)})


async def test_a_statement_that_has_expired_by_then_lets_nothing_begin(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    estate.world.clock.now += 601

    ended = await estate.apply(proposal)

    assert (ended.state, ended.state_note) == ("rejected", "It has 0 of the 1 approvals that it needs.")


async def test_with_two_keys_either_counts_until_one_is_revoked(estate: Estate) -> None:
    old, new = estate.key, new_key()
    estate.trust(old, new)
    first, second = [await estate.propose(estate.world.scale(name)) for name in ("api", "web")]
    await estate.say(estate.sign(first, key=old))
    await estate.say(estate.sign(second, key=new))
    assert [(await estate.get(one)).state for one in (first, second)] == ["approved", "approved"]

    estate.file.write_bytes(orjson.dumps(jwks(new)) + b"\n")

    assert (await estate.apply(first)).state == "rejected"
    assert (await estate.apply(second)).state == "applied"


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys": []}'], ids=["empty", "broken", "no keys"])
async def test_keys_that_can_not_be_read_are_nobodys(estate: Estate, content: bytes) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    estate.file.write_bytes(content)

    await estate.say(estate.sign(proposal))

    assert "can't be read" in estate.refused()[0]


async def test_a_parent_app_that_the_settings_no_longer_name_has_no_say(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    estate.start([])

    assert (await estate.apply(proposal)).state == "rejected"


async def test_without_any_parent_app_in_the_settings_no_statement_counts(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    estate.world.parents = None
    estate.world.worker = estate.world.make_worker()

    assert (await estate.apply(proposal)).state == "rejected"


async def test_keys_of_the_annotation_count_only_where_the_settings_say_so(estate: Estate) -> None:
    own = new_key()
    annotated = {"metadata": {"annotations": {"arborgate.dev/parent-jwks": orjson.dumps(jwks(own)).decode()}}}
    estate.edit("shop", annotated)
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal, key=own))
    assert "a key that the parent app does not have" in estate.refused()[0]

    estate.start([ParentSettings(app="shop", annotation=True)])
    await estate.say(estate.sign(proposal, key=own))
    assert (await estate.get(proposal)).state == "approved"


async def test_policies_of_ones_own_without_a_budget_let_nothing_through(estate: Estate, tmp_path: Path) -> None:
    estate.trust(engine=with_parents(tmp_path, lambda _: ""))
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    assert estate.answered() == [("denied", (), "approve: It is inside the budget.")]


async def test_the_budget_of_the_documentation_lets_through_what_it_says(estate: Estate, tmp_path: Path) -> None:
    (budget,) = re.findall(r"```cedar\n(@id\(\"the-shop.*?)```", (DOCS / "approving.md").read_text(), re.DOTALL)
    estate.trust(engine=with_parents(tmp_path, lambda _: budget.replace("shop-web", "web")))
    proposals = [
        await estate.propose(change)
        for change in (estate.world.restart("web"), estate.world.scale("web"), estate.world.restart("api"))
    ]

    for proposal in proposals:
        await estate.say(estate.sign(proposal))

    states = [(await estate.get(proposal)).state for proposal in proposals]
    assert states == ["approved", "proposed", "proposed"]


def test_the_settings_and_the_template_to_copy_are_read() -> None:
    deploy = DOCS.parent / "deploy"

    controller = read_settings(deploy / "parent.yaml").controller

    assert controller is not None
    assert controller.app == SHOP
    assert [rule.name for rule in read_template(deploy / "parent-template.yaml").rules] == [
        "small-changes",
        "patch-releases",
    ]


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        ([{"app": SHOP}], "one of jwks_file, jwks and annotation"),
        ([{"app": SHOP, "annotation": True, "jwks": {"keys": []}}], "one of jwks_file, jwks and annotation"),
        ([{"app": SHOP, "annotation": True}] * 2, "two entries are for the same app"),
    ],
)
def test_settings_of_parent_apps_with_a_mistake_start_nothing(raw: list[dict[str, object]], what: str) -> None:
    with pytest.raises(BadConfiguration, match=what):
        parse_settings({"parents": raw})


def test_a_private_key_is_no_key_of_a_parent_app() -> None:
    estate_key = new_key()
    for keys in ([estate_key.as_dict(private=True)], [], [{"kty": "oct", "k": "c2VjcmV0"}], "x"):
        with pytest.raises(BadConfiguration, match="parents"):
            parse_keys({"keys": keys}, "parents")


def with_parents(tmp_path: Path, edit: Callable[[str], str]) -> Engine:
    """The shipped policies with another budget."""
    folder = copy_shipped(tmp_path / "shipped")
    change(folder / "parents.cedar", edit)
    text = "\n".join(file.read_text() for file in folder.glob("*.cedar") if file.name != "always.cedar")
    return Engine(load_alone(tmp_path / "set", text), surroundings=TRUSTING)
