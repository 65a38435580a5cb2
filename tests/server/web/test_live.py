"""What open pages are told while a proposal is applied: at once, to who may see it, as long as their session stands."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from arborgate.policies.engine import Engine
from arborgate.policies.loader import read_policies
from arborgate.server import following
from arborgate.server.leases import Lease, Leases
from arborgate.server.steering import Command
from arborgate.server.web import live
from arborgate.tools.proposal import Proposal, ProposalState, Step, StepState
from arborgate.tools.record import Event
from tests.parts.process import find_free_ports
from tests.parts.redis import RedisServer
from tests.policies.writing import TRUSTING, copy_shipped
from tests.server.web.serving import serve
from tests.server.web.world import AGENT, World, make_caller, open_world

pytestmark = pytest.mark.anyio

PATIENCE = 20.0
STEPS = (StepState.STARTED, StepState.APPLIED, StepState.HEALTHY)


@pytest.fixture
async def site(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    (port,) = find_free_ports(1)
    async with open_world(tmp_path / "record", redis_url, url=f"http://127.0.0.1:{port}") as world, serve(world):
        yield world


@dataclass
class Stream:
    """One open page's stream of events."""

    status: int
    lines: AsyncIterator[str]

    async def next(self) -> tuple[str, str, str]:
        """The next event with its data and id; `("", "", "")` at the end. Silence is passed over."""
        found: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if line and name in ("event", "data", "id"):
                    found[name] = f"{found[name]}\n{value}" if name in found else value
                elif not line and found:
                    return found["event"], found.get("data", ""), found.get("id", "")
        return "", "", ""


@asynccontextmanager
async def follow(world: World, proposal_id: str, session: str, **headers: str) -> AsyncIterator[Stream]:
    sent = {"User-Agent": AGENT, "Cookie": f"arborgate={session}", "Sec-Fetch-Dest": "empty", **headers}
    sent = {name.replace("_", "-"): value for name, value in sent.items()}
    async with (
        httpx2.AsyncClient(base_url=world.url, trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", f"/proposals/{proposal_id}/events", headers=sent) as response,
    ):
        yield Stream(response.status_code, response.aiter_lines())


async def begin(world: World) -> tuple[Proposal, Lease]:
    """A proposal that is being applied."""
    proposal = await world.propose()
    assert (await (await world.enter("abel", "approver")).decide(proposal)).status_code == 303
    targets = [change.target for change in proposal.content.changes]
    lease = await Leases(world.state, "applier-1", 30.0).acquire(proposal.id, targets)
    return await world.book.begin(proposal.id, lease, await world.book.counts(proposal)), lease


def make_engine(policy: str, folder: Path) -> Engine:
    """The shipped policies and one more."""
    copy_shipped(folder / "policies")
    (folder / "policies" / "added.cedar").write_text(policy)
    return Engine(read_policies(folder / "policies")[0], surroundings=TRUSTING)


async def until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, f"not in time: {what}"
        await asyncio.sleep(0.005)


async def test_each_step_is_told_at_once(site: World) -> None:
    proposal, lease = await begin(site)
    took = []
    async with follow(site, proposal.id, await site.start_session("april", "approver")) as stream:
        event, html, _ = await stream.next()
        assert (stream.status, event, "Applying: 0 of 1 change" in html) == (200, "progress", True)
        for state in STEPS:
            began = time.monotonic()
            await site.book.step(proposal.id, 0, Step(state=state), lease)
            event, html, _ = await stream.next()
            took.append(time.monotonic() - began)
            assert (event, str(state) in html) == ("progress", True)
        await site.book.finish(proposal.id, ProposalState.APPLIED, "", lease)
        event, html, _ = await stream.next()
        assert (event, "Applied. Its change is" in html) == ("progress", True)
        assert [(await stream.next())[0], (await stream.next())[0]] == ["over", ""]
    assert min(took) < 0.1, took


async def test_an_order_is_told_like_a_step(site: World) -> None:
    proposal, _ = await begin(site)
    async with follow(site, proposal.id, await site.start_session("vera", "viewer")) as stream:
        assert "Paused" not in (await stream.next())[1]
        april = make_caller("april", "approver")
        await site.steering.steer(proposal.id, Command.PAUSE, april, "The graphs look odd.")
        event, html, _ = await stream.next()
        assert (event, "Paused by a person." in html, "The graphs look odd." in html) == ("progress", True, True)
        assert "<button" not in html  # a viewer is told, and not asked


async def test_a_browser_that_comes_back_is_told_only_what_is_new(site: World) -> None:
    proposal, lease = await begin(site)
    session = await site.start_session("april", "approver")
    async with follow(site, proposal.id, session) as stream:
        _, _, mark = await stream.next()
    async with follow(site, proposal.id, session, Last_Event_ID=mark) as stream:
        await until(lambda: site.book.follower.watched == 1, "it is followed")
        await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
        _, html, after = await stream.next()
        assert ("started" in html, after != mark) == (True, True)
    await site.book.step(proposal.id, 0, Step(state=StepState.APPLIED), lease)
    async with follow(site, proposal.id, session, Last_Event_ID=after) as stream:
        assert "applied" in (await stream.next())[1]


async def test_a_stream_ends_with_its_session(site: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_HEARTBEAT", 0.05)
    proposal, lease = await begin(site)
    session = await site.start_session("april", "approver")
    visitor = site.visit()
    visitor.client.cookies.set("arborgate", session, domain="127.0.0.1")
    async with follow(site, proposal.id, session) as stream:
        await stream.next()
        form = await visitor.read_form("/proposals")
        assert (await visitor.post("/logout", form)).status_code == 303
        assert [(await stream.next())[0], (await stream.next())[0]] == ["ended", ""]
        await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)


async def test_a_stream_ends_when_the_proposal_may_not_be_seen_any_more(tmp_path: Path, redis_url: str) -> None:
    (port,) = find_free_ports(1)
    async with AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{port}"
        site = await stack.enter_async_context(open_world(tmp_path / "record", redis_url, url=url))
        engines = [site.pages.engine()]
        site.change(engine=lambda: engines[0])
        await stack.enter_async_context(serve(site))
        proposal, lease = await begin(site)
        session = await site.start_session("april", "approver")
        stream = await stack.enter_async_context(follow(site, proposal.id, session))
        await stream.next()
        april = 'principal == Person::"https://issuer.test#april"'
        engines[:] = [
            make_engine(f'@id("gone") forbid ({april}, action == Action::"proposal:read", resource);', tmp_path)
        ]
        await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
        assert [(await stream.next())[0], (await stream.next())[0]] == ["ended", ""]
        (denied,) = site.records(Event.CALL_DENIED)
        assert (denied.action, denied.policies) == ("proposal:read", ("gone",))


async def test_who_may_not_see_it_learns_nothing_from_the_stream(site: World) -> None:
    proposal, _ = await begin(site)
    nora = await site.start_session("nora")
    async with follow(site, proposal.id, nora) as hidden, follow(site, "p-0000000000000000", nora) as missing:
        assert hidden.status == missing.status == 404
        assert [line async for line in hidden.lines] == [line async for line in missing.lines]
    async with follow(site, proposal.id, "no-session") as stream:
        assert stream.status == 303
    assert site.book.follower.watched == 0


async def test_many_pages_cost_one_follower_and_no_place(site: World) -> None:
    proposal, lease = await begin(site)
    people = [await site.start_session(f"person-{number}", "viewer") for number in range(10)]
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(follow(site, proposal.id, one)) for one in people * 8]
        assert {stream.status for stream in streams} == {200}  # more than all places beside /mcp
        for stream in streams:
            await stream.next()
        assert site.book.follower.watched == len(streams)
        reading = [task for task in asyncio.all_tasks() if task.get_name() == "events of proposals"]
        assert len(reading) == 1
        await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
        for stream in streams:
            assert "started" in (await stream.next())[1]
    await until(lambda: site.book.follower.watched == 0, "all are gone")
    await until(lambda: not [t for t in asyncio.all_tasks() if t.get_name() == "events of proposals"], "nobody reads")


async def test_one_person_can_not_take_all_streams(site: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_MOST_EACH", 2)
    proposal, _ = await begin(site)
    april, abel = await site.start_session("april", "approver"), await site.start_session("abel", "approver")
    async with AsyncExitStack() as stack:
        mine = [await stack.enter_async_context(follow(site, proposal.id, april)) for _ in range(2)]
        for stream in mine:
            await stream.next()
        assert (await stack.enter_async_context(follow(site, proposal.id, april))).status == 503
        assert (await stack.enter_async_context(follow(site, proposal.id, abel))).status == 200


async def test_who_reads_slowly_is_told_how_it_stands_and_not_how_it_came_there(site: World) -> None:
    proposal, lease = await begin(site)
    async with site.book.follower.watch(proposal.id, "somebody") as watch:
        for number in range(200):
            await site.book.step(proposal.id, 0, Step(state=StepState.STARTED, message=f"{number}"), lease)
        assert await watch.wait(PATIENCE)
        news = 1
        while await watch.wait(0.7):
            news += 1
        assert news < 5


async def test_streams_end_when_the_process_does(tmp_path: Path, redis_url: str) -> None:
    (port,) = find_free_ports(1)
    async with AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{port}"
        world = await stack.enter_async_context(open_world(tmp_path / "record", redis_url, url=url))
        async with serve(world):
            proposal, _ = await begin(world)
            session = await world.start_session("april", "approver")
            stream = await stack.enter_async_context(follow(world, proposal.id, session))
            await stream.next()
            began = time.monotonic()
        assert time.monotonic() - began < 0.9  # the time for draining is 1 s
        assert await stream.next() == ("", "", "")


async def test_a_follower_that_is_closed_reads_no_more(site: World) -> None:
    """Not even for who has not heard of it yet: Redis is closed behind it."""
    async with site.book.follower.watch("p-0000000000000000", "somebody") as watch:
        await site.book.follower.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "events of proposals"]
        assert not await watch.wait(PATIENCE)


async def test_a_browser_that_goes_away_in_the_middle_of_an_event_waits_no_longer(site: World) -> None:
    proposal, _ = await begin(site)
    session = await site.start_session("april", "approver")
    headers = [(b"user-agent", AGENT.encode()), (b"cookie", f"arborgate={session}".encode())]
    headers += [(b"host", site.url.partition("//")[2].encode()), (b"sec-fetch-dest", b"empty")]
    path = f"/proposals/{proposal.id}/events"
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    watched: list[int] = []

    async def send(message: Message) -> None:
        if b"event: progress" in message.get("body", b""):
            watched.append(site.book.follower.watched)
            raise BrokenPipeError

    async def receive() -> Message:
        raise AssertionError("nothing is asked of a browser that reads")

    with pytest.raises(ClientDisconnect) as gone:
        await site.app({**scope, "asgi": {"version": "3.0", "spec_version": "2.4"}}, receive, send)
    assert watched == [1], gone
    assert site.book.follower.watched == 0


async def test_news_come_again_when_redis_is_back(site: World, redis_server: RedisServer) -> None:
    proposal, lease = await begin(site)
    async with follow(site, proposal.id, await site.start_session("april", "approver")) as stream:
        await stream.next()
        await asyncio.to_thread(redis_server.restart)
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            try:
                await site.book.step(proposal.id, 0, Step(state=StepState.STARTED), lease)
                break
            except Exception:  # the client drops its broken connections one by one
                await asyncio.sleep(0.01)
        assert "started" in (await stream.next())[1]
