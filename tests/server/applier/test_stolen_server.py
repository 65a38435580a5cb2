"""A stolen server: with the key of `serve` and all of Redis, nothing is applied that no passkey holder signed."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from arborgate.server.passkeys import write_statement
from arborgate.server.settings import SessionApprovals
from arborgate.tools.proposal import Approval, Content, Proposal, Step, Verdict
from arborgate.tools.risk import Risk
from tests.parts.authenticator import PRESENT, VERIFIED, Authenticator
from tests.server.applier.heist import PARTY, Heist
from tests.server.applier.world import EMERGENCY, World

pytestmark = pytest.mark.anyio

Attack = Callable[[Heist, Proposal], Awaitable[None]]


async def approve_without_any_passkey(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, assertion=None))


async def set_the_state_by_hand(heist: Heist, proposal: Proposal) -> None:
    await heist.world.forge(proposal.id, state="approved")


async def begin_by_hand(heist: Heist, proposal: Proposal) -> None:
    steps = orjson.dumps([Step().model_dump(mode="json")]).decode()
    await heist.plant(proposal, heist.vote(proposal, assertion=None), state="applying", steps=steps)


async def sign_with_a_key_of_its_own(heist: Heist, proposal: Proposal) -> None:
    own = Authenticator(PARTY, heist.ana.owner)
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(own, proposal)))


async def sign_with_a_key_of_its_own_under_her_keys_name(heist: Heist, proposal: Proposal) -> None:
    own = Authenticator(PARTY, heist.ana.owner)
    posing = heist.sign(own, proposal).model_copy(update={"credential": heist.ana.passkey.id})
    await heist.plant(proposal, heist.vote(proposal, assertion=posing))


async def invent_an_approver_with_a_key(heist: Heist, proposal: Proposal) -> None:
    eve = heist.world.approver("eve")
    device = Authenticator(PARTY, eve.key)
    await heist.plant(proposal, heist.vote(proposal, by=eve, assertion=heist.sign(device, proposal)))


async def give_her_signature_to_another_approver(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, by=heist.world.approver("bob")))


async def let_bobs_key_sign_for_her(heist: Heist, proposal: Proposal) -> None:
    statement = write_statement(proposal.content, proposal.digest, Verdict.APPROVE, heist.ana.owner)
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.bob.sign(statement)))


async def replay_what_she_signed_for_another_proposal(heist: Heist, proposal: Proposal) -> None:
    other = await heist.world.propose(heist.world.scale("web"))
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(heist.ana, other)))


async def turn_her_rejection_into_an_approval(heist: Heist, proposal: Proposal) -> None:
    rejected = heist.sign(heist.ana, proposal, Verdict.REJECT)
    await heist.plant(proposal, heist.vote(proposal, assertion=rejected))


async def turn_her_approval_into_broken_glass(heist: Heist, proposal: Proposal) -> None:
    ana, until = heist.world.responder("ana"), heist.world.clock() + 900
    glass = {"verdict": Verdict.BREAK_GLASS, "comment": EMERGENCY, "until": until}
    await heist.plant(proposal, heist.vote(proposal, by=ana, **glass))


async def break_the_glass_without_ritas_key(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.world.vote(proposal, Verdict.BREAK_GLASS))


async def let_broken_glass_last_longer(heist: Heist, proposal: Proposal) -> None:
    until = heist.world.clock() + 60
    said = write_statement(proposal.content, proposal.digest, Verdict.BREAK_GLASS, heist.rita.owner, until)
    signed = heist.rita.sign(said)
    await heist.plant(proposal, heist.world.vote(proposal, Verdict.BREAK_GLASS, assertion=signed))


async def make_an_approver_break_the_glass(heist: Heist, proposal: Proposal) -> None:
    """She signed it, but is no responder: the groups that `serve` writes into the approval are not looked at."""
    world, until = heist.world, heist.world.clock() + 900
    said = write_statement(proposal.content, proposal.digest, Verdict.BREAK_GLASS, heist.ana.owner, until)
    promoted = world.responder("ana")
    await heist.plant(proposal, world.vote(proposal, Verdict.BREAK_GLASS, by=promoted, assertion=heist.ana.sign(said)))


async def swap_the_change(heist: Heist, proposal: Proposal) -> None:
    (change,) = proposal.content.changes
    worse = change.model_copy(update={"patch": {"spec": {"replicas": 99}}})
    await heist.swap(proposal, heist.vote(proposal), changes=(worse,))


async def swap_the_target(heist: Heist, proposal: Proposal) -> None:
    other = heist.world.scale("web")
    await heist.swap(proposal, heist.vote(proposal), changes=(other,))


async def add_a_second_change(heist: Heist, proposal: Proposal) -> None:
    (change,) = proposal.content.changes
    rehearsal = proposal.content.rehearsal
    assert rehearsal
    twice = rehearsal.model_copy(update={"changes": rehearsal.changes * 2})
    changes = (change, heist.world.scale("web"))
    await heist.swap(proposal, heist.vote(proposal), changes=changes, rehearsal=twice)


async def edit_the_text_of_the_diff(heist: Heist, proposal: Proposal) -> None:
    (change,) = proposal.content.changes
    kinder = change.model_copy(update={"diff": "@@\n+nothing much"})
    await heist.swap(proposal, heist.vote(proposal), changes=(kinder,))


async def put_off_the_end(heist: Heist, proposal: Proposal) -> None:
    await heist.swap(proposal, heist.vote(proposal), expires_at=proposal.content.expires_at + 86_400)


async def need_fewer_approvals(heist: Heist, proposal: Proposal) -> None:
    await heist.swap(proposal, heist.vote(proposal), approvals_needed=0)


async def claim_less_risk(heist: Heist, proposal: Proposal) -> None:
    heist.pin(SessionApprovals.LOW_RISK)
    unsigned = heist.vote(proposal, assertion=None)
    await heist.swap(proposal, unsigned, risk=Risk.LOW, factors=())


async def keep_the_digest_for_other_content(heist: Heist, proposal: Proposal) -> None:
    content = proposal.content.model_copy(update={"title": "Less"})
    await heist.plant(proposal, heist.vote(proposal), content=content.model_dump_json())


async def write_the_content_with_a_member_twice(heist: Heist, proposal: Proposal) -> None:
    """Readers that take the first or the last one would see two proposals."""
    text = proposal.content.model_dump_json()
    (change,) = proposal.content.changes
    worse = orjson.dumps([change.model_copy(update={"patch": {"spec": {"replicas": 99}}}).model_dump(mode="json")])
    await heist.plant(proposal, heist.vote(proposal), content=f'{text[:-1]},"changes":{worse.decode()}}}')


async def write_a_number_as_a_text(heist: Heist, proposal: Proposal) -> None:
    (change,) = proposal.content.changes
    other = change.model_copy(update={"patch": {"spec": {"replicas": "3"}}})
    await heist.swap(proposal, heist.vote(proposal), changes=(other,))


async def compose_the_title_of_other_characters(heist: Heist, proposal: Proposal) -> None:
    """It looks the same (Unicode normalisation), and is another text."""
    await heist.swap(proposal, heist.vote(proposal), title="More\u200b")


async def sign_on_another_origin(heist: Heist, proposal: Proposal) -> None:
    elsewhere = heist.sign(heist.ana, proposal, origin="https://arborgate.test.evil.test")
    await heist.plant(proposal, heist.vote(proposal, assertion=elsewhere))


async def sign_on_another_port(heist: Heist, proposal: Proposal) -> None:
    elsewhere = heist.sign(heist.ana, proposal, origin="https://arborgate.test:8443")
    await heist.plant(proposal, heist.vote(proposal, assertion=elsewhere))


async def sign_for_another_relying_party(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(heist.ana, proposal, rp_id="evil.test")))


async def sign_inside_a_frame_of_another_site(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(heist.ana, proposal, crossOrigin=True)))


async def pass_an_enrolment_off_as_an_approval(heist: Heist, proposal: Proposal) -> None:
    made = heist.sign(heist.ana, proposal, ceremony="webauthn.create")
    await heist.plant(proposal, heist.vote(proposal, assertion=made))


async def sign_without_her_being_verified(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(heist.ana, proposal, flags=PRESENT)))


async def sign_without_her_being_there(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, assertion=heist.sign(heist.ana, proposal, flags=VERIFIED)))


async def raise_a_flag_after_she_signed(heist: Heist, proposal: Proposal) -> None:
    signed = heist.sign(heist.ana, proposal, flags=PRESENT)
    data = bytearray(base64url_to_bytes(signed.authenticator_data))
    data[32] |= VERIFIED
    raised = signed.model_copy(update={"authenticator_data": bytes_to_base64url(bytes(data))})
    await heist.plant(proposal, heist.vote(proposal, assertion=raised))


async def name_another_owner_of_her_key(heist: Heist, proposal: Proposal) -> None:
    signed = heist.sign(heist.ana, proposal, owner=heist.bob.owner)
    await heist.plant(proposal, heist.vote(proposal, assertion=signed))


async def make_the_signature_up(heist: Heist, proposal: Proposal) -> None:
    made_up = heist.sign(heist.ana, proposal).model_copy(
        update={"signature": bytes_to_base64url(secrets.token_bytes(70))}
    )
    await heist.plant(proposal, heist.vote(proposal, assertion=made_up))


async def send_what_is_no_base64(heist: Heist, proposal: Proposal) -> None:
    broken = heist.sign(heist.ana, proposal).model_copy(update={"client_data": "{", "authenticator_data": "é"})
    await heist.plant(proposal, heist.vote(proposal, assertion=broken))


async def date_an_approval_after_the_end(heist: Heist, proposal: Proposal) -> None:
    await heist.plant(proposal, heist.vote(proposal, at=proposal.content.expires_at + 1))


ATTACKS: tuple[Attack, ...] = (
    add_a_second_change,
    approve_without_any_passkey,
    begin_by_hand,
    break_the_glass_without_ritas_key,
    claim_less_risk,
    compose_the_title_of_other_characters,
    date_an_approval_after_the_end,
    edit_the_text_of_the_diff,
    give_her_signature_to_another_approver,
    invent_an_approver_with_a_key,
    keep_the_digest_for_other_content,
    let_bobs_key_sign_for_her,
    let_broken_glass_last_longer,
    make_an_approver_break_the_glass,
    make_the_signature_up,
    name_another_owner_of_her_key,
    need_fewer_approvals,
    pass_an_enrolment_off_as_an_approval,
    put_off_the_end,
    raise_a_flag_after_she_signed,
    replay_what_she_signed_for_another_proposal,
    send_what_is_no_base64,
    set_the_state_by_hand,
    sign_for_another_relying_party,
    sign_inside_a_frame_of_another_site,
    sign_on_another_origin,
    sign_on_another_port,
    sign_with_a_key_of_its_own,
    sign_with_a_key_of_its_own_under_her_keys_name,
    sign_without_her_being_there,
    sign_without_her_being_verified,
    swap_the_change,
    swap_the_target,
    turn_her_approval_into_broken_glass,
    turn_her_rejection_into_an_approval,
    write_a_number_as_a_text,
    write_the_content_with_a_member_twice,
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_a_stolen_server_gets_nothing_applied(heist: Heist, attack: Attack) -> None:
    world = heist.world
    proposal = await world.propose(world.scale("api"))
    assert proposal.state == "proposed", proposal.state_note
    await attack(heist, proposal)
    await world.worker.advance(proposal.id)
    assert world.cluster.patched == []
    ended = await world.book.get(proposal.id)
    assert (ended.state, bool(ended.state_note)) in (("rejected", True), ("failed", True)), ended.state_note
    (told,) = [one for one in world.audit.entries if one.proposal == proposal.id and one.outcome == "ok"][-1:]
    assert (told.event, ended.state_note in told.detail) == (f"proposal:{ended.state}", True)


async def end(heist: Heist, proposal: Proposal, *approvals: Approval) -> tuple[str, str]:
    await heist.plant(proposal, *approvals)
    await heist.world.worker.advance(proposal.id)
    ended = await heist.world.book.get(proposal.id)
    return ended.state, ended.state_note


async def test_what_she_signed_herself_is_applied(heist: Heist) -> None:
    proposal = await heist.world.propose(heist.world.scale("api"))
    assert await end(heist, proposal, heist.vote(proposal)) == ("applied", "")
    assert heist.world.replicas()["api"] == 3


async def test_a_commit_names_the_approvers_as_the_file_has_them(heist: Heist) -> None:
    """What `serve` calls the owner of a passkey is not what stands in a system's history."""
    proposal = await heist.world.propose(heist.world.scale("api"))
    vote = heist.vote(proposal)
    posing = vote.approver.model_copy(update={"name": "Carla, head of payments"})
    assert await end(heist, proposal, heist.vote(proposal, approver=posing)) == ("applied", "")
    assert [one.approvers for one in heist.world.cluster.attributed] == [("Ana",)]


async def test_the_glass_that_a_responder_breaks_with_a_passkey_counts(heist: Heist) -> None:
    world = heist.world
    proposal, until = await world.propose(world.scale("api")), world.clock() + 900
    said = write_statement(proposal.content, proposal.digest, Verdict.BREAK_GLASS, heist.rita.owner, until)
    vote = world.vote(proposal, Verdict.BREAK_GLASS, assertion=heist.rita.sign(said))
    assert await end(heist, proposal, vote) == ("applied", "")


async def test_two_signatures_of_one_person_are_one_approval(redis_world: Callable[..., World], tmp_path: Path) -> None:
    world = redis_world(approvals=2)
    ana, bob = (Authenticator(PARTY, world.approver(name).key) for name in ("ana", "bob"))
    heist = Heist(world, ana, bob, Authenticator(PARTY, world.responder().key), tmp_path / "uses.json")
    heist.pin()
    proposal = await world.propose(world.scale("api"))
    twice = (heist.vote(proposal), heist.vote(proposal))
    assert await end(heist, proposal, *twice) == ("rejected", "It has 1 of the 2 approvals that it needs.")
    both = await world.propose(world.scale("web"))
    second = heist.vote(both, by=world.approver("bob"), assertion=heist.sign(bob, both))
    assert (await end(heist, both, heist.vote(both), second))[0] == "applied"


async def test_roles_come_from_the_file_and_from_nowhere_else(heist: Heist) -> None:
    """`serve` claims that Rita is an approver, and that Ana is nothing."""
    world = heist.world
    first, second = await world.propose(world.scale("api")), await world.propose(world.scale("web"))
    posing = heist.vote(first, by=world.approver("rita"), assertion=heist.sign(heist.rita, first))
    state, note = await end(heist, first, posing)
    assert (state, "Policy does not let Rita approve this" in note) == ("rejected", True)
    vote = heist.vote(second)
    stripped = vote.approver.model_copy(update={"groups": ()})
    assert (await end(heist, second, heist.vote(second, approver=stripped)))[0] == "applied"


async def test_a_copied_passkey_shows_by_its_count(heist: Heist) -> None:
    world = heist.world
    first, second = await world.propose(world.scale("api")), await world.propose(world.scale("web"))
    assert (await end(heist, first, heist.vote(first)))[0] == "applied"
    heist.ana.count -= 1  # the copy does not know that the passkey was used
    heist.pin()  # nor does a restart of the applier forget it
    state, note = await end(heist, second, heist.vote(second))
    assert (state, "seems to have been copied" in note) == ("rejected", True)


async def test_approvals_may_be_applied_in_another_order_than_they_were_given(heist: Heist) -> None:
    world = heist.world
    first, second = await world.propose(world.scale("api")), await world.propose(world.scale("web"))
    earlier = heist.vote(first)
    world.clock.now += 1
    later = heist.vote(second)
    assert (await end(heist, second, later))[0] == "applied"
    assert (await end(heist, first, earlier))[0] == "applied"


async def test_a_session_is_enough_for_a_low_risk_where_the_settings_say_so(
    redis_world: Callable[..., World], tmp_path: Path
) -> None:
    world = redis_world(environment="staging")
    ana, bob = (Authenticator(PARTY, world.approver(name).key) for name in ("ana", "bob"))
    heist = Heist(world, ana, bob, Authenticator(PARTY, world.responder().key), tmp_path / "uses.json")
    for sessions, state in ((SessionApprovals.NEVER, "rejected"), (SessionApprovals.LOW_RISK, "applied")):
        heist.pin(sessions)
        drafted = await world.draft([world.scale("api")], risk=Risk.LOW)
        await world.worker.advance(drafted.id)
        proposal = await world.book.get(drafted.id)
        assert (await end(heist, proposal, heist.vote(proposal, assertion=None)))[0] == state


async def test_a_session_is_never_enough_for_a_high_risk(heist: Heist) -> None:
    heist.pin(SessionApprovals.LOW_RISK)
    proposal = await heist.world.propose(heist.world.scale("api"))
    state, note = await end(heist, proposal, heist.vote(proposal, assertion=None))
    assert (state, "is not signed with a passkey" in note) == ("rejected", True)


async def test_what_is_signed_is_the_same_for_the_page_and_for_the_applier(heist: Heist) -> None:
    proposal = await heist.world.propose(heist.world.scale("api"))
    content = Content.model_validate_json(proposal.content.model_dump_json())
    said = [write_statement(one, proposal.digest, Verdict.APPROVE, "a#b") for one in (proposal.content, content)]
    assert said[0] == said[1]
    assert list(orjson.loads(said[0])) == ["approver", "digest", "expires_at", "proposal", "type", "verdict"]
