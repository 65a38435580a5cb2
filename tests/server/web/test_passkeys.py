"""Passkeys on the pages: enrolled after a recent login by their owner alone, and what is decided with them and without."""

import hashlib
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import orjson
import pytest

from arborgate.policies.errors import BadConfiguration
from arborgate.server.enrolment import Enrolment
from arborgate.server.passkeys import RelyingParty, write_statement
from arborgate.server.settings import PasskeyUse
from arborgate.tools.proposal import Proposal, ProposalState, Verdict
from arborgate.tools.record import Event
from arborgate.tools.risk import Risk
from tests.parts.authenticator import PRESENT, Authenticator, send
from tests.server.web.world import Visitor, World, make_change, open_world

pytestmark = pytest.mark.anyio

URL = "http://localhost:8484"
PARTY = RelyingParty.of(URL)
KEY = "https://issuer.test#{}"


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    """The pages where whoever has a passkey signs with it."""
    async with open_world(tmp_path / "record", redis_url, url=URL) as world:
        world.change(passkeys=PasskeyUse.OPTIONAL)
        yield world


async def enter(world: World, subject: str, role: str = "approver", *, age: float | None = 0) -> Visitor:
    visitor = world.visit()
    visitor.client.headers["Cookie"] = f"arborgate={await world.start_session(subject, role, age=age)}"
    return visitor


def make_device(subject: str) -> Authenticator:
    return Authenticator(PARTY, KEY.format(subject))


async def read_options(visitor: Visitor) -> str:
    (options,) = re.findall(r'data-enrol="([^"]*)"', (await visitor.get("/passkeys")).text)
    return unescape(options)


async def enrol(visitor: Visitor, device: Authenticator, name: str = "Laptop", **lies: Any) -> int:
    """Adds the passkey as the page would; the status of the answer."""
    form = {**await visitor.read_form("/passkeys"), "name": name}
    answer = device.make(await read_options(visitor), **lies)
    return (await visitor.post("/passkeys/add", {**form, "credential": answer})).status_code


def registry(world: World) -> Enrolment:
    return Enrolment(world.state, PARTY, PasskeyUse.OPTIONAL, world.audit, clock=world.clock)


async def names(world: World, subject: str) -> list[str]:
    return [one.name for one in await registry(world).find(KEY.format(subject))]


def sign(device: Authenticator, proposal: Proposal, verdict: Verdict = Verdict.APPROVE, until: float = 0.0) -> str:
    return send(device.sign(write_statement(proposal.content, proposal.digest, verdict, device.owner, until)))


async def test_a_passkey_is_added_listed_and_removed_on_record(desk: World) -> None:
    april, device = await enter(desk, "april"), make_device("april")
    assert "You have none yet." in (await april.get("/passkeys")).text
    assert await enrol(april, device, "My  <b>key</b>") == 303
    page = (await april.get("/passkeys")).text
    assert "My &lt;b&gt;key&lt;/b&gt;" in page
    form = await april.read_form("/passkeys")
    assert (await april.post("/passkeys/remove", {**form, "id": device.passkey.id})).status_code == 303
    assert await names(desk, "april") == []
    told = [(one.event, one.outcome, one.caller, one.resource) for one in desk.records() if one.event[:7] == "passkey"]
    assert told == [
        (event, outcome, KEY.format("april"), f"passkey:{device.passkey.id}")
        for event in (Event.PASSKEY_ENROLLED, Event.PASSKEY_REMOVED)
        for outcome in ("intended", "ok")
    ]


@pytest.mark.parametrize("age", [301, None])
async def test_after_an_old_login_nobody_adds_or_removes_one(desk: World, age: float | None) -> None:
    device = make_device("april")
    fresh = await enter(desk, "april")
    assert await enrol(fresh, device) == 303
    stale = await enter(desk, "april", age=age)
    page = (await stale.get("/passkeys")).text
    assert ("data-enrol" in page, "at most 5 minutes old" in page) == (False, True)
    form = await stale.read_form("/passkeys")
    answer = make_device("april").make(await read_options(fresh))
    for path, sent in (("add", {"name": "x", "credential": answer}), ("remove", {"id": device.passkey.id})):
        assert (await stale.post(f"/passkeys/{path}", {**form, **sent})).status_code == 403
    assert await names(desk, "april") == ["Laptop"]


async def test_nobody_touches_anybody_elses(desk: World) -> None:
    april, bob, device = await enter(desk, "april"), await enter(desk, "bob"), make_device("april")
    assert await enrol(april, device) == 303
    assert device.passkey.id not in (await bob.get("/passkeys")).text
    form = await bob.read_form("/passkeys")
    assert (await bob.post("/passkeys/remove", {**form, "id": device.passkey.id})).status_code == 404
    assert await enrol(bob, device) == 409  # nor enrols it a second time
    assert (await names(desk, "april"), await names(desk, "bob")) == (["Laptop"], [])


async def test_what_one_session_began_no_other_finishes(desk: World) -> None:
    april, other = await enter(desk, "april"), await enter(desk, "april")
    answer = make_device("april").make(await read_options(april))
    form = await other.read_form("/passkeys")
    refused = await other.post("/passkeys/add", {**form, "name": "x", "credential": answer})
    assert refused.status_code == 409
    assert await names(desk, "april") == []


async def test_a_passkey_is_made_on_our_page_with_its_owner_verified_and_once(desk: World) -> None:
    april, device = await enter(desk, "april"), make_device("april")
    assert await enrol(april, device, origin="https://evil.test") == 409
    assert await enrol(april, device, flags=PRESENT) == 409
    assert await enrol(april, device, "") == 400
    form = await april.read_form("/passkeys")
    answer = device.make(await read_options(april))
    sent = {**form, "name": "x", "credential": answer}
    assert [(await april.post("/passkeys/add", sent)).status_code for _ in range(2)] == [303, 409]
    for junk in ("", "{", "[]", '{"id": "x"}'):
        await read_options(april)
        assert (await april.post("/passkeys/add", {**sent, "credential": junk})).status_code == 409


async def test_nobody_has_more_than_ten(desk: World) -> None:
    april = await enter(desk, "april")
    assert [await enrol(april, make_device("april")) for _ in range(11)] == [303] * 10 + [409]


async def test_only_a_form_of_ours_changes_passkeys(desk: World) -> None:
    april = await enter(desk, "april")
    form = {**await april.read_form("/passkeys"), "name": "x", "credential": "{}"}
    for path in ("add", "remove", "login"):
        assert (await april.post(f"/passkeys/{path}", form, Origin="https://evil.test")).status_code == 403
        assert (await april.post(f"/passkeys/{path}", {**form, "csrf": "x"})).status_code == 403
        assert (await april.get(f"/passkeys/{path}")).status_code == 405


async def test_what_is_withheld_is_not_handed_to_the_browser_in_another_way(desk: World) -> None:
    april, device = await enter(desk, "april"), make_device("april")
    secret = "ghp_" + "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2"
    change = make_change(summary=f"Set the token {secret}")
    proposal = await desk.propose(change)
    await enrol(april, device)
    page = (await april.get(f"/proposals/{proposal.id}")).text
    told = orjson.loads(unescape(re.findall(r'data-sign="([^"]*)"', page)[0]))
    assert (told["content"], secret in unescape(page)) == ("", False)


async def test_an_approval_is_kept_with_what_the_passkey_signed(desk: World) -> None:
    april, device, proposal = await enter(desk, "april"), make_device("april"), await desk.propose()
    await enrol(april, device)
    page = (await april.get(f"/proposals/{proposal.id}")).text
    told = orjson.loads(unescape(re.findall(r'data-sign="([^"]*)"', page)[0]))
    assert told["passkeys"] == [device.passkey.id]
    assert (told["approver"], told["type"], told["rp"]) == (KEY.format("april"), "arborgate-approval/1", "localhost")
    assert hashlib.sha256(told["content"].encode()).hexdigest() == proposal.digest
    assert (await april.decide(proposal, credential=sign(device, proposal))).status_code == 303
    (approval,) = (await desk.book.get(proposal.id)).approvals
    assert approval.assertion
    assert approval.assertion.credential == device.passkey.id
    desk.check_signature(approval)


async def test_who_has_a_passkey_does_not_approve_without_it(desk: World) -> None:
    april, device, proposal = await enter(desk, "april"), make_device("april"), await desk.propose()
    await enrol(april, device)
    answer = await april.decide(proposal)
    assert (answer.status_code, "has to be signed with your passkey" in answer.text) == (409, True)
    assert (await desk.book.get(proposal.id)).state is ProposalState.PROPOSED
    assert desk.records(Event.CALL_FAILED)[-1].action == "proposal:approve"
    assert (await april.decide(proposal, "reject")).status_code == 303  # stopping it takes less
    assert (await desk.book.get(proposal.id)).state is ProposalState.REJECTED


async def test_a_rejection_is_signed_too(desk: World) -> None:
    april, device, proposal = await enter(desk, "april"), make_device("april"), await desk.propose()
    await enrol(april, device)
    wrong = await april.decide(proposal, "reject", credential=sign(device, proposal))
    assert wrong.status_code == 409
    signed = sign(device, proposal, Verdict.REJECT)
    assert (await april.decide(proposal, "reject", credential=signed)).status_code == 303
    assert (await desk.book.get(proposal.id)).approvals[0].assertion


async def test_somebody_elses_passkey_decides_nothing(desk: World) -> None:
    april, bob, device = await enter(desk, "april"), await enter(desk, "bob"), make_device("april")
    proposal = await desk.propose()
    await enrol(april, device)
    await enrol(bob, make_device("bob"))
    assert (await bob.decide(proposal, credential=sign(device, proposal))).status_code == 409
    assert (await desk.book.get(proposal.id)).approvals == ()


async def test_a_copied_passkey_shows_by_its_count(desk: World) -> None:
    april, device = await enter(desk, "april"), make_device("april")
    first, second = await desk.propose(), await desk.propose()
    await enrol(april, device)
    assert (await april.decide(first, credential=sign(device, first))).status_code == 303
    device.count -= 1
    answer = await april.decide(second, credential=sign(device, second))
    assert (answer.status_code, "seems to have been copied" in answer.text) == (409, True)


async def test_broken_glass_is_signed_with_the_end_that_the_page_shows(desk: World) -> None:
    rita, device, proposal = await enter(desk, "rita", "responder"), make_device("rita"), await desk.propose()
    await enrol(rita, device)
    form = await rita.read_form(f"/proposals/{proposal.id}")
    until = float(form["until"])
    said = {"comment": "Checkout is down for everybody.", "app": "orders-api"}
    desk.clock.forward(60)
    for seconds, status in ((900, 409), (0, 303)):
        signed = sign(device, proposal, Verdict.BREAK_GLASS, until - seconds)
        sent = {**form, **said, "credential": signed}
        assert (await rita.post(f"/proposals/{proposal.id}/break-glass", sent)).status_code == status
    (approval,) = (await desk.book.get(proposal.id)).approvals
    assert approval.until == until


@pytest.mark.parametrize(
    ("use", "risk", "status"),
    [
        (PasskeyUse.OPTIONAL, Risk.HIGH, 303),
        (PasskeyUse.REQUIRED_HIGH, Risk.HIGH, 409),
        (PasskeyUse.REQUIRED_HIGH, Risk.LOW, 303),
        (PasskeyUse.REQUIRED, Risk.LOW, 409),
    ],
)
async def test_who_has_none_approves_where_the_settings_ask_for_none(
    desk: World, use: PasskeyUse, risk: Risk, status: int
) -> None:
    desk.change(passkeys=use)
    april, proposal = await enter(desk, "april"), await desk.propose(risk=risk)
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert ("you have none" in page, "data-sign" in page) == (status == 409, False)
    assert (await april.decide(proposal)).status_code == status


@pytest.mark.parametrize("sent", ["{", "[]", '{"id": 1, "response": {}}', '{"response": null}'])
async def test_what_no_passkey_sends_decides_nothing(desk: World, sent: str) -> None:
    april, proposal = await enter(desk, "april"), await desk.propose()
    assert (await april.decide(proposal, credential=sent)).status_code == 400
    assert (await april.decide(proposal, until="nan")).status_code == 400
    assert (await desk.book.get(proposal.id)).approvals == ()


async def test_where_none_are_used_nothing_of_them_is_there(world: World) -> None:
    april, proposal = await world.enter("april", "approver"), await world.propose()
    assert (await april.get("/passkeys")).status_code == 404
    page = (await april.get(f"/proposals/{proposal.id}")).text
    assert "passkey" not in page
    device = make_device("april")
    assert (await april.decide(proposal, credential=sign(device, proposal))).status_code == 303
    assert (await world.book.get(proposal.id)).approvals[0].assertion is None


async def test_an_address_has_no_passkeys(world: World) -> None:
    with pytest.raises(BadConfiguration, match="host name"):
        world.change(passkeys=PasskeyUse.OPTIONAL)
