"""Reminders, escalations and what is stuck: told in their time, whatever ran meanwhile."""

import pytest

from arborgate.server.holds import Holds
from arborgate.server.leases import Leases
from arborgate.tools.proposal import Hold, Order, Proposal, ProposalState, Requester, Step, StepState
from tests.server.notifications.conftest import Desk
from tests.server.notifications.test_notifying import kinds, settle
from tests.server.web.world import DEV

pytestmark = pytest.mark.anyio


async def test_reminders_come_in_their_time_and_stop_with_the_decision(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()], remind_after=[3_600, 14_400], expiring_before=3_600)
    clock = desk.world.clock
    async with desk.notifying():
        proposal = await desk.world.propose()
        await settle(desk, 1)
        clock.forward(3_601)
        await settle(desk, 2)
        clock.forward(10_800)
        await settle(desk, 3)
        clock.now = proposal.content.expires_at - 3_599
        await settle(desk, 4)
        clock.now = proposal.content.expires_at + 1
        await desk.world.book.expire_due()
        await settle(desk, 5)
    told = [(one.json["type"], one.json["data"]["step"]) for one in desk.web.received]
    assert told == [
        ("proposal.proposed", 0),
        ("proposal.reminder", 1),
        ("proposal.reminder", 2),
        ("proposal.expiring", 0),
        ("proposal.expired", 0),
    ]


async def test_after_an_outage_the_newest_reminder_comes_and_every_escalation(desk: Desk) -> None:
    desk.use(
        webhooks=[desk.webhook(), desk.webhook("leads", "/leads", events=["stuck"]), desk.webhook("cto", "/cto")],
        remind_after=[60, 120, 180],
        escalation=[
            {"after": 100, "channels": ["leads"], "groups": ["team-leads"]},
            {"after": 200, "channels": ["leads"], "groups": ["directors"]},
        ],
    )
    async with desk.notifying():
        await desk.world.propose()
        await settle(desk, 2)
    desk.world.clock.forward(1_000)
    async with desk.notifying():
        await settle(desk, 6)
    assert kinds(desk) == kinds(desk, "/cto") == ["proposal.proposed", "proposal.reminder"]
    assert desk.web.on("/ops")[-1].json["data"]["step"] == 3
    escalated = [(one.json["data"]["step"], one.json["data"]["asked"]) for one in desk.web.on("/leads")]
    assert sorted(escalated) == [(1, ["team-leads"]), (2, ["directors"])]


async def apply(desk: Desk, proposal: Proposal, *states: ProposalState, note: str = "") -> None:
    """Takes an approved proposal through these states, as the applier does."""
    world, targets = desk.world, [change.target for change in proposal.content.changes]
    lease = await Leases(world.state, "applier", 30.0).acquire(proposal.id, targets)
    for state in states:
        if state is ProposalState.APPLYING:
            await world.book.begin(proposal.id, lease, await world.book.counts(proposal))
        else:
            await world.book.finish(proposal.id, state, note, lease)


async def approve(desk: Desk) -> Proposal:
    proposal = await desk.world.propose()
    assert (await (await desk.world.enter("april", "approver")).decide(proposal)).status_code == 303
    return await desk.world.book.get(proposal.id)


async def test_what_can_not_be_undone_is_stuck_at_once(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook(events=["failed", "stuck"])])
    async with desk.notifying():
        proposal = await approve(desk)
        await apply(desk, proposal, ProposalState.APPLYING, ProposalState.FAILED, note="No pods.")
        lease = await Leases(desk.world.state, "applier", 30.0).acquire(
            proposal.id, [proposal.content.changes[0].target]
        )
        await desk.world.book.step(proposal.id, 0, Step(state=StepState.STUCK, message="Somebody changed it."), lease)
        await settle(desk, 2)
    assert sorted(kinds(desk)) == ["proposal.failed", "proposal.stuck"]


async def test_what_fails_and_is_not_undone_in_time_is_stuck(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook(events=["failed", "stuck", "rolled_back"])], stuck_after=300)
    async with desk.notifying():
        proposal = await approve(desk)
        await apply(desk, proposal, ProposalState.APPLYING, ProposalState.FAILED, note="No pods.")
        await settle(desk, 1)
        desk.world.clock.forward(301)
        await settle(desk, 2)
        desk.world.clock.forward(3_000)
        await desk.go_round()
    assert kinds(desk) == ["proposal.failed", "proposal.stuck"]
    assert desk.web.received[0].json["data"]["untrusted"]["note"] == "No pods."


async def test_what_shows_no_progress_is_stuck_unless_somebody_paused_it(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook(events=["stuck"])], stuck_after=300)
    holds = Holds(desk.world.state)
    async with desk.notifying():
        proposal = await approve(desk)
        await apply(desk, proposal, ProposalState.APPLYING)
        hold = Hold(order=Order.PAUSE, by=Requester.of(DEV), comment="", at=desk.world.clock())
        await holds.put(proposal.id, hold)
        desk.world.clock.forward(301)
        await desk.go_round()
        assert desk.web.received == []
        await holds.put(proposal.id, None)
        desk.world.clock.forward(301)
        await settle(desk, 1)
    assert kinds(desk) == ["proposal.stuck"]


async def test_what_is_undone_is_told_and_never_called_stuck(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook(events=["failed", "stuck", "rolled_back"])], stuck_after=300)
    async with desk.notifying():
        proposal = await approve(desk)
        await apply(desk, proposal, ProposalState.APPLYING, ProposalState.FAILED, ProposalState.ROLLED_BACK, note="No.")
        await settle(desk, 2)
        desk.world.clock.forward(1_000)
        await desk.go_round()
    assert sorted(kinds(desk)) == ["proposal.failed", "proposal.rolled_back"]


async def test_broken_glass_is_told_as_such(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook()])
    async with desk.notifying():
        proposal = await desk.world.propose()
        rita = await desk.world.enter("rita", "responder")
        answer = await rita.decide(
            proposal, "break-glass", comment="Nobody else is awake, and the shop is down.", app="orders-api"
        )
        assert answer.status_code == 303
        await settle(desk, 2)
    assert kinds(desk) == ["proposal.proposed", "proposal.glass_broken"]
    assert desk.web.received[-1].json["data"]["by"] == "Rita"


async def test_a_step_of_applying_is_nothing_to_tell(desk: Desk) -> None:
    desk.use(webhooks=[desk.webhook(events=["applied", "failed", "stuck"])])
    async with desk.notifying():
        proposal = await approve(desk)
        world, targets = desk.world, [change.target for change in proposal.content.changes]
        lease = await Leases(world.state, "applier", 30.0).acquire(proposal.id, targets)
        await world.book.begin(proposal.id, lease, await world.book.counts(proposal))
        for state in (StepState.STARTED, StepState.APPLIED, StepState.HEALTHY):
            await world.book.step(proposal.id, 0, Step(state=state), lease)
        await world.book.finish(proposal.id, ProposalState.APPLIED, "", lease)
        await settle(desk, 1)
    assert kinds(desk) == ["proposal.applied"]
