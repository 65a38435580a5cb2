"""Who is told what of a proposal, when, and that it arrives: once, signed, and whatever ends in between."""

import asyncio
import time
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from arborgate.policies.errors import Unrecorded
from arborgate.server.background import running
from arborgate.tools.proposal import Draft, ProposalState
from arborgate.tools.record import Entry, Event
from arborgate.tools.risk import Risk
from tests.server.notifications.conftest import SECRET, Desk
from tests.server.notifications.receivers import MailReceiver, wait_until
from tests.server.web.world import DEV, make_change

pytestmark = pytest.mark.anyio


def kinds(desk: Desk, path: str = "/ops") -> list[str]:
    return [one.json["type"] for one in desk.web.on(path)]


async def settle(desk: Desk, sent: int) -> None:
    """Until so many messages have arrived and are on record as sent."""
    await wait_until(lambda: sum(record.outcome == "ok" for record in desk.records()) >= sent)


async def test_a_webhook_is_signed_as_the_library_verifies_it(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying():
        proposal = await desk.world.propose()
        await settle(desk, 1)
    (got,) = desk.web.received
    told = Webhook(SECRET).verify(got.body, got.headers)
    assert told["type"] == "proposal.proposed"
    assert told["data"]["link"] == f"{desk.world.url}/proposals/{proposal.id}"
    assert told["data"]["digest"] == proposal.digest[:12]
    assert told["data"]["risk"] == "high"
    assert told["data"]["usual"] == ["arborgate-approvers"]
    assert told["data"]["untrusted"]["agent_words"] == proposal.content.reason
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body.replace(b"high", b"low!"), got.headers)


async def test_a_second_secret_signs_too_while_receivers_change_over(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    new = "whsec_" + "QUJD" * 10
    (desk.folder / "webhook.secret").write_text(f"{SECRET}\n{new}\n")
    async with desk.notifying():
        await desk.world.propose()
        await settle(desk, 1)
    (got,) = desk.web.received
    for secret in (SECRET, new):
        assert Webhook(secret).verify(got.body, got.headers)


async def test_every_end_of_a_proposal_is_told(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    world = desk.world
    async with desk.notifying():
        rejected, withdrawn, approved = [await world.propose() for _ in range(3)]
        visitor = await world.enter("april", "approver")
        assert (await visitor.decide(rejected, "reject", comment="No.")).status_code == 303
        await world.book.withdraw(withdrawn.id, DEV)
        assert (await visitor.decide(approved)).status_code == 303
        stale = await world.propose()
        await world.book.close(stale.id, ProposalState.STALE, "It moved.")
        await wait_until(lambda: len(set(kinds(desk))) >= 5)
    assert set(kinds(desk)) == {
        "proposal.approved",
        "proposal.proposed",
        "proposal.rejected",
        "proposal.stale",
        "proposal.withdrawn",
    }
    (told,) = [one.json["data"] for one in desk.web.received if one.json["type"] == "proposal.rejected"]
    assert (told["by"], told["untrusted"]["note"]) == ("April", "No.")


async def test_what_nobody_could_decide_is_told_to_nobody(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying():
        proposal = await desk.world.propose()
        content = proposal.content
        same = Draft(**{name: getattr(content, name) for name in Draft.model_fields if name != "id"})
        drafted = await desk.world.book.draft(DEV, same)
        await desk.world.book.withdraw(drafted.id, DEV)
        await desk.world.propose()
        await settle(desk, 2)
    assert kinds(desk) == ["proposal.proposed", "proposal.proposed"]


async def test_filters_let_through_what_they_name(desk: Desk) -> None:
    desk.use(
        webhooks=[
            desk.webhook("all", "/all"),
            desk.webhook("low", "/low", risks=["low"]),
            desk.webhook("staging", "/staging", environments=["staging"]),
            desk.webhook("trouble", "/trouble", events=["failed", "stuck"]),
            desk.webhook("orders", "/orders", apps=[_id("orders")]),
            desk.webhook("payments", "/payments", apps=[_id("payments")], groups=["payers"]),
        ]
    )
    async with desk.notifying():
        await desk.world.propose(make_change("orders-api"))
        await desk.world.propose(make_change("payments-api"), risk=Risk.LOW, factors=(), environments=("staging",))
        await settle(desk, 6)
    assert {
        path: len(desk.web.on(f"/{path}")) for path in ("all", "low", "staging", "trouble", "orders", "payments")
    } == {
        "all": 2,
        "low": 1,
        "staging": 1,
        "trouble": 0,
        "orders": 1,
        "payments": 1,
    }
    assert desk.web.on("/payments")[0].json["data"]["asked"] == ["payers"]


def _id(name: str) -> str:
    return make_change(name).target.app


async def test_many_replicas_send_each_message_once(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()], remind_after=[60])
    async with desk.notifying(replicas=4):
        proposals = [await desk.world.propose() for _ in range(12)]
        await settle(desk, 12)
        desk.world.clock.forward(61)
        await settle(desk, 24)
        await desk.go_round()
    ids = [one.headers["webhook-id"] for one in desk.web.received]
    assert len(ids) == len(set(ids)) == 24
    assert len(proposals) == 12


async def test_a_message_is_tried_again_with_the_same_id_until_it_is_taken(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    desk.web.answers = [(500, {}), (429, {"Retry-After": "30"})]
    async with desk.notifying():
        await desk.world.propose()
        await wait_until(lambda: len(desk.records()) == 1)
        await desk.go_round()
        assert len(desk.web.received) == 1, "not before the pause is over"
        desk.world.clock.forward(4.1)
        await wait_until(lambda: len(desk.records()) == 2)
        desk.world.clock.forward(8.1)
        await desk.go_round()
        assert len(desk.web.received) == 2, "not before the receiver wants it"
        desk.world.clock.forward(22)
        await settle(desk, 1)
    assert len({one.headers["webhook-id"] for one in desk.web.received}) == 1
    assert len(desk.web.received) == 3
    told = [(record.event, record.outcome, record.detail) for record in desk.records()]
    assert told == [
        (Event.NOTIFICATION_FAILED, "unavailable", "proposed, attempt 1 of 8: it answered 500; tried again in 4 s"),
        (Event.NOTIFICATION_FAILED, "unavailable", "proposed, attempt 2 of 8: it answered 429; tried again in 30 s"),
        (Event.NOTIFICATION_SENT, "ok", "proposed, attempt 3 of 8"),
    ]


async def test_what_never_arrives_is_given_up_on_record_and_counted(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()], attempts=3)
    desk.web.answers = [(503, {})] * 3
    async with desk.notifying(pause=lambda _attempt, _wanted: 0.0):
        proposal = await desk.world.propose()
        await wait_until(lambda: len(desk.counted()) == 2)
    assert [record.outcome for record in desk.records()] == ["unavailable", "unavailable", "refused"]
    assert desk.records()[-1].proposal == proposal.id
    assert [each.notice.proposal for each in await desk.outbox.dead()] == [proposal.id]
    assert desk.counted() == {("webhook", "failed"): 2.0, ("webhook", "given_up"): 1.0}
    assert await desk.outbox.take(desk.world.clock() + 1e6, 10) == []


async def test_a_receiver_that_is_gone_for_good_is_asked_once(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    desk.web.answers = [(410, {})]
    async with desk.notifying():
        await desk.world.propose()
        await wait_until(lambda: len(desk.records()) == 1)
    assert desk.records()[0].detail.endswith("it answered 410; given up")


async def test_a_redirect_is_not_followed(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    desk.web.answers = [(307, {"Location": f"{desk.web.url}/inside"})]
    async with desk.notifying():
        await desk.world.propose()
        await wait_until(lambda: len(desk.records()) == 1)
    assert [one.path for one in desk.web.received] == ["/ops"]
    assert "it answered 307" in desk.records()[0].detail


async def test_a_replica_that_ends_while_it_sends_is_followed_by_another(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    desk.web.open.clear()
    async with desk.notifying():
        await desk.world.propose()
        await wait_until(lambda: desk.web.received)
    desk.web.open.set()
    assert desk.records() == []
    async with desk.notifying():
        await desk.go_round()
        assert len(desk.web.received) == 1, "as long as the first could still be at it"
        desk.world.clock.forward(31)
        await settle(desk, 1)
    assert len({one.headers["webhook-id"] for one in desk.web.received}) == 1


async def test_what_happens_while_no_replica_runs_is_told_afterwards(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying():
        pass
    proposals = [await desk.world.propose() for _ in range(3)]
    async with desk.notifying():
        await settle(desk, 3)
    assert {one.json["data"]["proposal"] for one in desk.web.received} == {one.id for one in proposals}


async def test_an_event_that_can_not_be_read_keeps_no_other_waiting(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A later version of Arborgate may know of states that this one does not."""
    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying():
        redis, stream = desk.world.state.redis, desk.world.state.key("events")
        known: dict[Any, Any] = {"proposal": "x", "state": "applied", "at": "1", "by": "x"}
        for field, value in (("state", "sung"), ("at", "late"), ("by", None)):
            odd = {name: said for name, said in {**known, field: value}.items() if said}
            await redis.xadd(stream, odd)
        await desk.world.propose()
        await settle(desk, 1)
        await desk.go_round()
        assert (await redis.xpending(stream, "notifiers"))["pending"] == 0
    assert caplog.text.count("can't be read") == 3


async def test_an_event_that_its_replica_did_not_finish_is_anothers(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying():
        pass
    await desk.world.propose()
    redis, stream = desk.world.state.redis, desk.world.state.key("events")
    assert await redis.xreadgroup("notifiers", "gone", {stream: ">"}, count=50)
    async with desk.notifying():
        await settle(desk, 1)


async def test_no_call_waits_for_a_receiver_that_does_not_answer(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    desk.web.open.clear()
    async with desk.notifying():
        await desk.world.propose()
        await wait_until(lambda: desk.web.received)
        began = time.perf_counter()
        await desk.world.propose()
        assert time.perf_counter() - began < 2.0


async def test_nothing_is_sent_that_can_not_be_recorded(desk: Desk) -> None:
    class Full:
        async def write(self, entry: Entry) -> Any:
            raise Unrecorded("The log is full.")

    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying(recorder=Full()):
        await desk.world.propose()
        await desk.go_round()
    assert desk.web.received == []
    desk.world.clock.forward(60)
    async with desk.notifying():
        await settle(desk, 1)


async def test_neither_url_nor_secret_gets_on_record(desk: Desk, mail_server: MailReceiver) -> None:
    desk.use(webhooks=[desk.webhook()], slack=[desk.slack(path="/services/T0/B0/hush")], **desk.mail(mail_server))
    desk.web.answers = [(500, {})]
    async with desk.notifying():
        await desk.world.propose()
        await settle(desk, 2)
    text = desk.world.audit.path.read_text()
    for hidden in (desk.web.url, "hush", SECRET[6:], "ops@example.org"):
        assert hidden not in text


async def test_a_slack_message_has_a_link_and_nothing_to_press(desk: Desk) -> None:
    desk.use(slack=[desk.slack()])
    async with desk.notifying():
        proposal = await desk.world.propose()
        await settle(desk, 1)
    told = desk.web.on("/chat")[0].json
    assert {block["type"] for block in told["blocks"]} <= {"header", "section"}
    assert all("accessory" not in block for block in told["blocks"])
    link = f"{desk.world.url}/proposals/{proposal.id}"
    assert told["blocks"][-1]["text"] == {"type": "mrkdwn", "text": f"<{link}|Open the proposal>", "verbatim": True}
    assert [block["text"]["type"] for block in told["blocks"][:-1]] == ["plain_text"] * (len(told["blocks"]) - 1)
    text = orjson.dumps(told).decode()
    for said in ("high risk in production", "Dev", "ide-copilot", "orders-api", proposal.digest[:12], "0 of 1"):
        assert said in text
    assert told["text"].startswith("Waits for approval: high risk in production. ")


async def test_mail_arrives_as_plain_text_that_mail_programs_can_sort(desk: Desk, mail_server: MailReceiver) -> None:
    desk.use(**desk.mail(mail_server))
    async with desk.notifying():
        proposal = await desk.world.propose()
        await settle(desk, 1)
    ((to, letter),) = mail_server.letters
    assert to == ["ops@example.org"]
    assert letter.get_content_type() == "text/plain"
    assert letter["From"] == "arborgate@example.org"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["References"] == f"<{proposal.id}@127.0.0.1>"
    assert letter["Subject"] == (
        '[Arborgate] Waits for approval: high risk in production: "Roll orders-api back to v2.13.4"'
    )
    body = letter.get_content().replace("\r\n", "\n")
    assert f"\n{desk.world.url}/proposals/{proposal.id}\n" in body
    assert "\n| orders-api fails since 08:02: its pods can't pull v2.14.0.\n" in body


async def test_a_redis_that_comes_back_finds_the_notifier_there(desk: Desk, redis_server: Any) -> None:
    desk.use(webhooks=[desk.webhook()])
    async with running(desk.open().run()):
        redis_server.restart()
        await wait_until(lambda: True)
        async with asyncio.timeout(20):
            while not await desk._joined(desk.world.state.key("events")):
                await asyncio.sleep(0.05)
        await desk.world.propose()
        await settle(desk, 1)
