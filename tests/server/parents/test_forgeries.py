"""Who does not hold the parent app's key makes nothing count, whatever is put into the stream or into the state itself."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey
from pydantic import TypeAdapter

from arborgate.policies.model import Binding
from arborgate.server.parent_statements import ALGORITHMS, LONGEST, TYPE, ParentVerdict, sign_statement
from arborgate.server.parents import lies_below, make_approval, parent_caller
from arborgate.tools.proposal import Approval, Proposal, Requester, Step, digest_content
from arborgate.tools.risk import Risk
from tests.server.applier.cluster import make_app
from tests.server.parents.estate import BANK, SHOP, Estate, child_of, new_key

pytestmark = pytest.mark.anyio

Forge = Callable[[Estate, Proposal], str]


def encode(part: object) -> str:
    raw = part if isinstance(part, bytes) else orjson.dumps(part)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(payload: object, key: OKPKey, **header: Any) -> str:
    """A compact JWS of any payload under any header that the library will sign."""
    told = {"alg": "Ed25519", "typ": TYPE, "kid": key.thumbprint(), **header}
    raw = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    kept = {name: value for name, value in told.items() if value is not None}
    return jws.serialize_compact(kept, raw, key, algorithms=[*ALGORITHMS])


def told(estate: Estate, proposal: Proposal, **fields: Any) -> dict[str, Any]:
    return {**estate.state(proposal).model_dump(mode="json"), **fields}


def unsigned(estate: Estate, proposal: Proposal) -> str:
    header = {"alg": "none", "typ": TYPE, "kid": estate.key.thumbprint()}
    return f"{encode(header)}.{encode(told(estate, proposal))}."


def signed_with_the_public_key_as_a_password(estate: Estate, proposal: Proposal) -> str:
    password = OctKey.import_key(orjson.dumps(estate.key.as_dict(private=False)))
    header = {"alg": "HS256", "typ": TYPE, "kid": estate.key.thumbprint()}
    return jws.serialize_compact(header, orjson.dumps(told(estate, proposal)), password, algorithms=["HS256"])


def tampered(estate: Estate, proposal: Proposal) -> str:
    header, _, signature = estate.sign(proposal, verdict=ParentVerdict.PASS).split(".")
    return f"{header}.{encode(told(estate, proposal))}.{signature}"


def under_another_keys_name(estate: Estate, proposal: Proposal) -> str:
    return sign(told(estate, proposal), new_key(), kid=estate.key.thumbprint())


def with_a_key_of_its_own_inside(estate: Estate, proposal: Proposal) -> str:
    own = new_key()
    return sign(told(estate, proposal), own, jwk=own.as_dict(private=False), kid=estate.key.thumbprint())


FORGERIES: dict[str, tuple[Forge, str]] = {
    "nothing at all": (lambda *_: "", "not validly signed"),
    "no JWS": (lambda *_: "approve", "not validly signed"),
    "no signature (alg none)": (unsigned, "in a way that is not taken"),
    "an HMAC under the public key": (signed_with_the_public_key_as_a_password, "in a way that is not taken"),
    "another payload under a real signature": (tampered, "not validly signed"),
    "a key of its own": (lambda e, p: sign(told(e, p), new_key()), "a key that the parent app does not have"),
    "a key of its own under the real one's name": (under_another_keys_name, "not validly signed"),
    "a key of its own in the header": (with_a_key_of_its_own_inside, "header has more"),
    "the key of another parent app": (
        lambda e, p: e.sign(p, key=e.bank_key),
        "a key that the parent app does not have",
    ),
    "no name of a key": (lambda e, p: sign(told(e, p), e.key, kid=None), "header has more or less"),
    "another type": (lambda e, p: sign(told(e, p), e.key, typ="arborgate-approval+jwt"), "no statement"),
    "in the name of another parent app": (lambda e, p: e.sign(p, app=BANK), "in the name of another"),
    "another digest": (lambda e, p: e.sign(p, digest="0" * 64), "about something else"),
    "another proposal": (
        lambda e, p: sign(told(e, p) | {"proposal": "p-dc0l4eqjog0c7c9e"}, e.key),
        "There is no proposal",
    ),
    "expired": (lambda e, p: e.sign(p, exp=e.world.clock(), iat=e.world.clock() - 20), "has expired"),
    "from the future": (lambda e, p: e.sign(p, iat=e.world.clock() + 90), "in the future"),
    "good for too long": (lambda e, p: e.sign(p, exp=e.world.clock() + 86_500), "longer than a day"),
    "good for ever": (lambda e, p: e.sign(p, exp=2.0**52), "longer than a day"),
    "over before it begins": (lambda e, p: e.sign(p, exp=1.0), "for no time at all"),
    "from before the proposal": (lambda e, p: e.sign(p, iat=e.world.clock() - 90), "outside the time for it"),
    "a verdict that is none": (lambda e, p: sign(told(e, p, verdict="approved"), e.key), "than the protocol has"),
    "breaking the glass": (lambda e, p: sign(told(e, p, verdict="break_glass"), e.key), "than the protocol has"),
    "times as text": (lambda e, p: sign(told(e, p, exp="9999999999"), e.key), "than the protocol has"),
    "a field too many": (lambda e, p: sign(told(e, p, approvals=2), e.key), "than the protocol has"),
    "a field too few": (
        lambda e, p: sign({k: v for k, v in told(e, p).items() if k != "digest"}, e.key),
        "than the protocol has",
    ),
    "a list": (lambda e, p: sign([told(e, p)], e.key), "than the protocol has"),
    "no JSON": (lambda e, _: sign(b"approve: true", e.key), "than the protocol has"),
    "letters of other alphabets": (lambda e, p: e.sign(p).replace("e", "\u0435", 1), "not a compact JWS"),
    "without end": (lambda e, p: e.sign(p) + "A" * LONGEST, "not a compact JWS"),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_statement_is_refused_and_recorded(estate: Estate, name: str) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    forge, why = FORGERIES[name]
    estate.world.clock.now += 30

    await estate.say(forge(estate, proposal))

    assert (await estate.get(proposal)).approvals == ()
    (refusal,) = estate.refused()
    assert why in refusal


async def test_a_copy_of_a_statement_is_a_replay(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    text = estate.sign(proposal, verdict=ParentVerdict.PASS)

    entry = await estate.say(text)
    await estate.desk.hear(SHOP, entry, text)  # the same one again, as after a crash
    await estate.say(text)

    (refusal,) = estate.refused()
    assert "has been used already" in refusal
    assert len(estate.answered()) == 1


async def test_a_second_vote_of_the_same_parent_app_is_refused(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))

    await estate.say(estate.sign(proposal))

    assert len((await estate.get(proposal)).approvals) == 1
    assert len(estate.refused()) == 1


async def test_what_lies_below_another_parent_app_is_not_its_to_decide(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))

    await estate.say(estate.sign(proposal, app=BANK, key=estate.bank_key), app=BANK)

    assert (await estate.get(proposal)).state == "proposed"
    assert "does not lie below main/argocd/bank" in estate.refused()[0]


async def test_a_parent_app_does_not_move_its_own_boundaries(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.sync("shop"), risk=Risk.HIGH)
    await estate.desk.ask(proposal)

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    assert await estate.asked() == []
    assert "does not lie below" in estate.refused()[0]


async def test_below_a_parent_app_is_all_under_it_and_never_the_app_itself(estate: Estate) -> None:
    estate.add(make_app("top", wave=0, environment="staging"))
    estate.add(child_of(make_app("shop", wave=0, environment="staging"), "top"))
    tree = estate.world.tree

    below = {
        app: [name for name in ("top", "shop", "bank", "api") if lies_below(tree, estate.world.node(name), app)]
        for app in ("main/argocd/top", SHOP, "main/argocd/api", "argocd/top", "")
    }

    assert below == {
        "main/argocd/top": ["shop", "api"],
        SHOP: ["api"],
        "main/argocd/api": [],
        "argocd/top": [],
        "": [],
    }


async def test_one_target_outside_makes_all_of_it_somebody_elses(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"), estate.world.sync("bank"))
    await estate.desk.ask(proposal)

    await estate.say(estate.sign(proposal))

    assert (await estate.get(proposal)).state == "proposed"
    assert await estate.asked() == []


Plant = Callable[[Estate, Proposal], Awaitable[Approval]]


async def a_statement_by_a_key_of_its_own(estate: Estate, proposal: Proposal) -> Approval:
    text = estate.sign(proposal, key=new_key())
    return make_approval(estate.state(proposal), text)


async def a_statement_about_another_proposal(estate: Estate, proposal: Proposal) -> Approval:
    other = await estate.propose(estate.world.scale("web"))
    statement = estate.state(other)
    return make_approval(statement, estate.sign(other)).model_copy(
        update={"proposal": proposal.id, "digest": proposal.digest}
    )


async def a_no_as_a_yes(estate: Estate, proposal: Proposal) -> Approval:
    statement = estate.state(proposal, verdict=ParentVerdict.REJECT)
    return make_approval(estate.state(proposal), sign_statement(statement, estate.key))


async def a_pass_as_a_yes(estate: Estate, proposal: Proposal) -> Approval:
    statement = estate.state(proposal, verdict=ParentVerdict.PASS)
    return make_approval(estate.state(proposal), sign_statement(statement, estate.key))


async def another_reason(estate: Estate, proposal: Proposal) -> Approval:
    statement = estate.state(proposal)
    text = sign_statement(statement, estate.key)
    return make_approval(statement, text).model_copy(update={"comment": "A person looked at it."})


async def a_later_end(estate: Estate, proposal: Proposal) -> Approval:
    statement = estate.state(proposal)
    text = sign_statement(statement, estate.key)
    return make_approval(statement, text).model_copy(update={"until": statement.exp + 3600})


async def another_parents_name(estate: Estate, proposal: Proposal) -> Approval:
    statement = estate.state(proposal)
    text = sign_statement(statement, estate.key)
    return make_approval(statement, text).model_copy(update={"approver": Requester.of(parent_caller(BANK))})


async def a_persons_name(estate: Estate, proposal: Proposal) -> Approval:
    statement = estate.state(proposal)
    text = sign_statement(statement, estate.key)
    ana = Requester.of(estate.world.approver())
    return make_approval(statement, text).model_copy(update={"approver": ana})


async def serves_own_signature_in_its_place(estate: Estate, proposal: Proposal) -> Approval:
    return estate.world.vote(proposal, approver=Requester.of(parent_caller(SHOP)))


async def serves_own_signature_as_an_app_with_roles(estate: Estate, proposal: Proposal) -> Approval:
    who = Requester.of(parent_caller(SHOP)).model_copy(
        update={"groups": ("arborgate-approvers",), "binding": Binding.SESSION}
    )
    return estate.world.vote(proposal, approver=who)


async def a_bare_name(estate: Estate, proposal: Proposal) -> Approval:
    return make_approval(estate.state(proposal), "x")


PLANTED = [
    a_statement_by_a_key_of_its_own,
    a_statement_about_another_proposal,
    a_no_as_a_yes,
    a_pass_as_a_yes,
    another_reason,
    a_later_end,
    another_parents_name,
    a_persons_name,
    serves_own_signature_in_its_place,
    serves_own_signature_as_an_app_with_roles,
    a_bare_name,
]


@pytest.mark.parametrize("begun", [False, True], ids=["approved", "applying"])
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_a_stolen_server_can_not_plant_the_vote_of_a_parent_app(
    estate: Estate, plant: Plant, begun: bool
) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    votes = TypeAdapter(tuple[Approval, ...]).dump_json((await plant(estate, proposal),)).decode()
    steps = TypeAdapter(tuple[Step, ...]).dump_json((Step(),)).decode()

    await estate.world.forge(
        proposal.id, state="applying" if begun else "approved", approvals=votes, **({"steps": steps} if begun else {})
    )
    ended = await estate.apply(proposal)

    assert (ended.state, estate.world.replicas()["api"]) in (("rejected", 1), ("failed", 1), ("rolled_back", 1))


async def test_other_content_under_a_real_vote_is_not_applied(estate: Estate) -> None:
    proposal = await estate.propose(estate.world.scale("api"))
    await estate.say(estate.sign(proposal))
    approved = await estate.get(proposal)
    more = estate.world.scale("api", 9)
    content = approved.content.model_copy(update={"changes": (more,)})

    digest = digest_content(content)
    votes = tuple(one.model_copy(update={"digest": digest}) for one in approved.approvals)
    told = TypeAdapter(tuple[Approval, ...]).dump_json(votes).decode()
    await estate.world.forge(proposal.id, content=content.model_dump_json(), digest=digest, approvals=told)

    assert (await estate.apply(proposal)).state == "rejected"
    assert estate.world.replicas()["api"] == 1
