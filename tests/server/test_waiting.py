"""Waiting over MCP with the SDK's own client: a call that tells how far it is, and subscriptions, in both eras."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.subscriptions import ListenNotSupportedError
from mcp.shared.subscriptions import ResourceUpdated

from arborgate.policies.model import Caller
from arborgate.server import following
from arborgate.server.cursors import Cursors
from arborgate.server.gate import CallerPolicy, Gate
from arborgate.server.http import build_app, requester
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings, LimitSettings
from arborgate.server.leases import Leases
from arborgate.server.limits import Limited, SharedLimits, Unlimited
from arborgate.server.mcp import build_server, waiting_tools
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp
from arborgate.server.redaction import Redactor
from arborgate.server.settings import HttpSettings
from arborgate.server.subscriptions import Listening
from arborgate.tools.all import TOOLS
from arborgate.tools.proposal import Proposal, ProposalState, Step, StepState
from arborgate.tools.record import Event
from arborgate.tools.tool import Context
from tests.connect import bridging
from tests.parts.process import find_free_ports
from tests.server.issuing import ISSUER, Issuer
from tests.server.serving import ERAS, connected, serving
from tests.server.web.world import DEV, ROLES, World, open_world
from tests.tools.world import ENVIRONMENTS

pytestmark = pytest.mark.anyio

PATIENCE = 20.0


@dataclass
class Office:
    """Arborgate's own tools over real HTTP, on the proposals of a real Redis."""

    world: World
    issuer: Issuer
    url: str
    gate: Gate
    stop: asyncio.Event

    def token(self, person: str = "dev", role: str = "developer") -> str:
        groups = ROLES[role] if role else ()
        return self.issuer.token(aud=self.url, sub=person, name=person.title(), groups=list(groups))

    async def watched(self, number: int) -> None:
        """Until so many wait for a proposal here."""
        ends = time.monotonic() + PATIENCE
        while self.world.book.follower.watched != number:
            assert time.monotonic() < ends, f"{self.world.book.follower.watched} wait, not {number}"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_office(folder: Path, redis_url: str, **changes: Any) -> AsyncIterator[Office]:
    settings = HttpSettings(port=find_free_ports(1)[0], **changes)
    issuer, metrics = Issuer(), Metrics()
    async with open_world(folder / "record", redis_url, url=settings.url) as world, issuer.client:
        cursors = await Cursors.shared(world.state)

        async def enter(caller: Caller, policy: CallerPolicy) -> Context:
            return Context(
                caller=caller,
                policy=policy,
                tree=world.tree,
                environments=ENVIRONMENTS,
                proposals=world.book,
                records=world.pages.records,
                sources={},
                seal=cursors,
                now=world.clock(),
            )

        gate = Gate(
            TOOLS,
            engine=world.pages.engine,
            context=enter,
            recorder=world.audit,
            cleaner=Redactor(),
            metrics=metrics,
            timeout=settings.call_timeout,
        )
        trusted = IdentitySettings(
            issuers=(IssuerSettings(issuer=ISSUER),), limits=LimitSettings(rate=1_000, burst=1_000, in_flight=4)
        )
        limits = SharedLimits(trusted.limits, world.state, world.audit)
        listening = Listening(gate, requester, world.book.follower)
        app = build_app(
            settings=settings,
            server=build_server(gate, TOOLS, requester, listening=listening),
            gate=gate,
            identity=Identity(trusted, ROLES, client=issuer.client),
            resource=protect_mcp(settings.url, trusted),
            recorder=world.audit,
            metrics=metrics,
            readiness=_ready,
            limits=limits,
            waiting=waiting_tools(TOOLS),
        )
        async with serving(app, settings, world.book.follower.end) as stop:
            yield Office(world, issuer, f"{settings.url}/mcp", gate, stop)
        await limits.close()


async def _ready() -> tuple[bool, dict[str, Any]]:
    return True, {}


@pytest.fixture
async def office(tmp_path: Path, redis_url: str) -> AsyncIterator[Office]:
    async with open_office(tmp_path, redis_url) as opened:
        yield opened


async def apply(world: World, proposal: Proposal) -> None:
    """What an approver and the applier do to it, from the approval to the end."""
    assert (await (await world.enter("abel", "approver")).decide(proposal)).status_code == 303
    lease = await Leases(world.state, "applier-1", 30.0).acquire(proposal.id, [proposal.content.changes[0].target])
    await world.book.begin(proposal.id, lease, await world.book.counts(proposal))
    for state in (StepState.STARTED, StepState.APPLIED, StepState.HEALTHY):
        await world.book.step(proposal.id, 0, Step(state=state), lease)
    await world.book.finish(proposal.id, ProposalState.APPLIED, "", lease)


async def wait_telling(client: Client, proposal: Proposal, **arguments: Any) -> tuple[dict[str, Any], list[str | None]]:
    """The answer, and what was told meanwhile; the numbers of what is told must grow."""
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        told.append((progress, message))

    answer = await client.call_tool("proposal_wait", {"proposal": proposal.id, **arguments}, progress_callback=note)
    assert answer.structured_content is not None, answer.content
    assert [number for number, _ in told] == sorted({number for number, _ in told})
    return dict(answer.structured_content), [message for _, message in told]


@pytest.mark.parametrize("era", ERAS)
async def test_who_waits_is_told_each_step_and_then_the_end(office: Office, era: str) -> None:
    proposal = await office.world.propose()
    async with connected(office.url, office.token(), era) as client:
        waiting = asyncio.create_task(wait_telling(client, proposal, until="applied"))
        await office.watched(1)
        await apply(office.world, proposal)
        async with asyncio.timeout(PATIENCE):
            answer, told = await waiting
    assert (answer["reached"], answer["state"], answer["steps"]) == (True, "applied", "1 healthy")
    assert told[-1] == "applied: 1 healthy"
    assert len(told) > 1
    await office.watched(0)
    (record,) = [one for one in office.world.records(Event.CALL_ANSWERED) if one.tool == "proposal_wait"]
    assert (record.outcome, record.action, record.resource) == ("ok", "proposal:read", f"Proposal::{proposal.id}")


@pytest.mark.parametrize("era", ERAS)
async def test_so_it_is_through_the_bridge(office: Office, tmp_path: Path, era: str) -> None:
    proposal = await office.world.propose()
    async with bridging.connected(bridging.prepare(tmp_path, office.url, office.token()), era) as client:
        waiting = asyncio.create_task(wait_telling(client, proposal, until="applied"))
        await office.watched(1)
        await apply(office.world, proposal)
        async with asyncio.timeout(PATIENCE):
            answer, told = await waiting
    assert (answer["state"], told[-1]) == ("applied", "applied: 1 healthy")


@pytest.mark.parametrize("era", ERAS)
async def test_and_over_a_pipe(office: Office, era: str) -> None:
    """As `serve --stdio` answers: one connection for all, and no HTTP around it."""
    proposal = await office.world.propose()
    limited = Limited(office.gate, Unlimited())
    server = build_server(
        limited, TOOLS, lambda _: DEV, listening=Listening(limited, lambda _: DEV, office.world.book.follower)
    )
    async with Client(server, mode=era) as client:
        waiting = asyncio.create_task(wait_telling(client, proposal, until="applied"))
        await office.watched(1)
        await apply(office.world, proposal)
        async with asyncio.timeout(PATIENCE):
            answer, told = await waiting
    assert (answer["state"], told[-1]) == ("applied", "applied: 1 healthy")


async def test_a_subscription_goes_through_the_bridge(office: Office, tmp_path: Path) -> None:
    proposal = await office.world.propose()
    uri = f"arborgate://proposal/{proposal.id}"
    login = bridging.prepare(tmp_path, office.url, office.token())
    async with (
        bridging.connected(login, ERAS[0]) as client,
        client.listen(resource_subscriptions=[uri]) as subscription,
    ):
        await office.world.book.close(proposal.id, ProposalState.STALE, "it moved")
        async with asyncio.timeout(PATIENCE):
            assert await anext(aiter(subscription)) == ResourceUpdated(uri)


@pytest.mark.parametrize("era", ERAS)
async def test_without_a_wish_for_progress_there_is_the_answer_alone(office: Office, era: str) -> None:
    proposal = await office.world.propose()
    async with connected(office.url, office.token(), era) as client:
        waiting = asyncio.create_task(client.call_tool("proposal_wait", {"proposal": proposal.id}))
        await office.watched(1)
        await office.world.book.close(proposal.id, ProposalState.STALE, "it moved")
        async with asyncio.timeout(PATIENCE):
            answer = (await waiting).structured_content
    assert answer is not None
    assert (answer["reached"], answer["state"]) == (True, "stale")


@pytest.mark.parametrize("era", ERAS)
async def test_it_may_take_longer_than_other_calls(tmp_path: Path, redis_url: str, era: str) -> None:
    async with open_office(tmp_path, redis_url, call_timeout=0.5) as office:
        proposal = await office.world.propose()
        async with connected(office.url, office.token(), era) as client:
            began = time.monotonic()
            answer, _ = await wait_telling(client, proposal, timeout=1.5)
    assert (answer["reached"], time.monotonic() - began > 1.4) == (False, True)


async def test_who_waits_keeps_no_place_from_others(tmp_path: Path, redis_url: str) -> None:
    async with open_office(tmp_path, redis_url, max_in_flight=6) as office:
        proposal = await office.world.propose()
        async with connected(office.url, office.token(), ERAS[0]) as client:
            waiting = []
            for number in range(1, 11):  # more than the places of all, and of one person
                waiting.append(asyncio.create_task(client.call_tool("proposal_wait", {"proposal": proposal.id})))
                await office.watched(number)
            answer = await client.call_tool("proposal_get", {"proposal": proposal.id})
            assert not answer.is_error
            await office.world.book.close(proposal.id, ProposalState.STALE, "it moved")
            async with asyncio.timeout(PATIENCE):
                answers = await asyncio.gather(*waiting)
    assert {str((one.structured_content or {})["state"]) for one in answers} == {"stale"}


async def test_one_person_waits_for_only_so_much(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_MOST_EACH", 1)
    proposal = await office.world.propose()
    async with connected(office.url, office.token(), ERAS[0]) as client:
        waiting = asyncio.create_task(client.call_tool("proposal_wait", {"proposal": proposal.id}))
        await office.watched(1)
        refused = await client.call_tool("proposal_wait", {"proposal": proposal.id})
        assert refused.is_error
        assert "You wait for too much at once." in str(refused.content)
        await office.world.book.close(proposal.id, ProposalState.STALE, "it moved")
        await waiting
    (failed,) = office.world.records(Event.CALL_FAILED)
    assert (failed.tool, failed.outcome) == ("proposal_wait", "busy")


async def test_who_waits_is_answered_when_the_process_ends(office: Office) -> None:
    proposal = await office.world.propose()
    async with connected(office.url, office.token(), ERAS[0]) as client:
        waiting = asyncio.create_task(wait_telling(client, proposal))
        await office.watched(1)
        office.stop.set()
        async with asyncio.timeout(PATIENCE):
            answer, _ = await waiting
    assert (answer["reached"], answer["state"]) == (False, "proposed")


@pytest.mark.parametrize("era", ERAS)
async def test_what_may_not_be_seen_is_not_waited_for(office: Office, era: str) -> None:
    proposal = await office.world.propose()
    words = []
    async with connected(office.url, office.token("nora", ""), era) as client:
        for asked in (proposal.id, "p-0000000000000000"):
            refused = await client.call_tool("proposal_wait", {"proposal": asked})
            assert refused.is_error
            words.append(str(refused.content).replace(asked, "…"))
    assert words[0] == words[1]
    assert office.world.book.follower.watched == 0


async def test_a_subscription_tells_that_a_proposal_is_another_than_before(office: Office) -> None:
    proposal = await office.world.propose()
    uri = f"arborgate://proposal/{proposal.id}"
    async with connected(office.url, office.token(), ERAS[0]) as client:
        async with client.listen(resource_subscriptions=[uri]) as subscription:
            assert subscription.honored.resource_subscriptions == [uri]
            await office.world.book.close(proposal.id, ProposalState.STALE, "it moved")
            async with asyncio.timeout(PATIENCE):
                assert await anext(aiter(subscription)) == ResourceUpdated(uri)
            read = await client.read_resource(uri)
            assert '"state":"stale"' in str(read.contents[0])
        await office.watched(0)


async def test_nobody_subscribes_to_what_they_may_not_see_or_what_is_not_there(office: Office) -> None:
    proposal = await office.world.propose()
    uris = [f"arborgate://proposal/{proposal.id}", "arborgate://proposal/p-0000000000000000", "arborgate://app/a/b/c"]
    async with (
        connected(office.url, office.token("nora", ""), ERAS[0]) as client,
        client.listen(resource_subscriptions=uris, tools_list_changed=True) as subscription,
    ):
        assert subscription.honored.resource_subscriptions is None
        assert subscription.honored.tools_list_changed is None
    denied = [one for one in office.world.records(Event.CALL_DENIED) if one.tool == "proposal_get"]
    assert [one.resource for one in denied] == [f"Proposal::{proposal.id}"]


async def test_the_older_eras_have_no_subscriptions(office: Office) -> None:
    async with connected(office.url, office.token(), "legacy") as client:
        assert client.server_capabilities.resources is not None
        assert not client.server_capabilities.resources.subscribe
        with pytest.raises(ListenNotSupportedError):
            async with client.listen(resource_subscriptions=["arborgate://proposal/p-1"]):
                pass
