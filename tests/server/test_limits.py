"""The limits: nobody gets more than their share over all replicas, and nobody's excess costs anybody else."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.types import Scope

from arborgate.policies.errors import Busy, Unrecorded
from arborgate.policies.model import Caller, Channel
from arborgate.server import limits as module
from arborgate.server.challenges import Challenges
from arborgate.server.gate import Answer
from arborgate.server.http import Authenticated, Authenticator
from arborgate.server.identity.settings import LimitSettings
from arborgate.server.leases import read_script
from arborgate.server.limits import Limited, SharedLimits
from arborgate.server.mcp import Calls
from arborgate.server.settings import StateSettings
from arborgate.server.state import State, open_state
from arborgate.tools.record import Entry, Event, Record
from tests.parts.redis import RedisCluster, RedisServer

pytestmark = pytest.mark.anyio

ADA = Caller(
    issuer="https://issuer.test",
    subject="ada",
    name="Ada",
    groups=frozenset(),
    roles=frozenset({"developer"}),
    agent="ide-copilot",
    channel=Channel.MCP,
)
EVE = replace(ADA, subject="eve")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is no Redis that is away."""
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 10.0)


@dataclass
class Book:
    """A record that can be read back, and can be full."""

    entries: list[Entry] = field(default_factory=list)
    full: bool = False

    async def write(self, entry: Entry) -> Record:
        if self.full:
            raise Unrecorded("The disk is full.")
        self.entries.append(entry)
        return cast("Record", None)


class Time:
    """A clock for the replicas and for Redis that stands still until it is moved; from 1970, in seconds."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.now = 0.0

    async def pass_(self, seconds: float) -> None:
        self.now += seconds
        await self._state.redis.set(self._state.key("clock"), f"{self.now * 1e6:.0f}")

    def rule(self, limits: SharedLimits) -> None:
        """Has the script read this clock, where it would ask Redis for the time."""
        script = read_script("draw")
        assert script.count("redis.call('TIME')") == 1
        script = script.replace("redis.call('TIME')", f"{{'0', redis.call('GET', '{self._state.key('clock')}')}}")
        limits._draw = self._state.redis.register_script(script)


@asynccontextmanager
async def reaching(url: str) -> AsyncIterator[State]:
    state = open_state(StateSettings(url=url, timeout=2.0))
    try:
        yield state
    finally:
        await state.redis.aclose()


@asynccontextmanager
async def replicas(
    url: str, count: int = 1, *, book: Book | None = None, **changes: float
) -> AsyncIterator[tuple[Time, list[SharedLimits]]]:
    """Replicas on one Redis, with one clock."""
    async with reaching(url) as state:
        time = Time(state)
        await time.pass_(0)
        chosen = LimitSettings.model_validate(changes)
        made = [SharedLimits(chosen, state, book or Book(), clock=lambda: time.now) for _ in range(count)]
        for limits in made:
            time.rule(limits)
        try:
            yield time, made
        finally:
            for limits in made:
                await limits.close()


async def ask(limits: SharedLimits, caller: Caller = ADA) -> float:
    """One request, answered at once: 0, or the seconds after which it may come again."""
    try:
        await limits.enter(caller)
    except Busy as busy:
        return busy.retry_after
    limits.leave(caller)
    return 0.0


async def count_granted(limits: SharedLimits, times: int, caller: Caller = ADA) -> int:
    return [await ask(limits, caller) for _ in range(times)].count(0.0)


def count_draws(server: RedisServer) -> int:
    stats = dict(server.admin.info("commandstats"))
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_eval", "cmdstat_evalsha") if name in stats)


@pytest.mark.parametrize("where", ["server", "cluster", "fake"])
async def test_the_burst_is_granted_and_no_more(where: str, request: pytest.FixtureRequest) -> None:
    if where == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        cluster.flush()
        url = cluster.url().replace("redis://", "redis+cluster://").removesuffix("/0")
    else:
        url = request.getfixturevalue("redis_url" if where == "server" else "fake_url")
    async with reaching(url) as state:
        # At a thousandth of a request a second no time that the test takes matters.
        limits = SharedLimits(LimitSettings(rate=0.001, burst=40), state, Book())
        assert await count_granted(limits, 60) == 40
        assert 900 < await ask(limits) <= 1_000


async def test_who_comes_again_after_the_time_told_is_let_in_and_not_before(redis_url: str) -> None:
    async with replicas(redis_url, rate=3, burst=5) as (time, (limits,)):
        assert await count_granted(limits, 5) == 5
        for _ in range(20):
            wait = await ask(limits)
            assert 0 < wait <= 1 / 3 + 1e-6
            await time.pass_(wait * 0.9)
            assert await ask(limits) == pytest.approx(wait * 0.1, abs=2e-6)
            await time.pass_(wait * 0.1 + 2e-6)
            assert await ask(limits) == 0


@given(
    rate=st.sampled_from([0.5, 7, 40, 1_000]),
    burst=st.integers(1, 60),
    steps=st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 12), st.sampled_from([0, 0, 0.001, 0.04, 0.3, 0.9, 1.2, 5])),
        max_size=60,
    ),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_two_replicas_grant_no_more_than_burst_and_rate_in_any_span(
    redis_server: RedisServer, rate: float, burst: int, steps: list[tuple[int, int, float]]
) -> None:
    redis_server.flush()
    granted: list[float] = []
    async with replicas(redis_server.url(), 2, rate=rate, burst=burst, in_flight=1_000) as (time, both):
        for replica, times, gap in steps:
            answers = await asyncio.gather(*(ask(both[replica]) for _ in range(times)))
            granted += [time.now] * answers.count(0.0)
            await time.pass_(gap)
    for first, began in enumerate(granted):
        for last in range(first, len(granted)):
            assert last - first + 1 <= burst + rate * (granted[last] - began) + 1e-3


@pytest.mark.parametrize(("rate", "burst"), [(20, 100), (1, 5), (200, 100)])
async def test_what_one_replica_holds_is_not_lost_to_the_others(redis_url: str, rate: float, burst: int) -> None:
    async with replicas(redis_url, 3, rate=rate, burst=burst) as (time, three):
        for _ in range(100):  # each replica in turn, all in all at nine tenths of the rate
            for limits in three:
                assert await ask(limits) == 0
                await time.pass_(1 / rate / 0.9)


async def test_a_replica_that_holds_tokens_does_not_ask_redis(redis_url: str, redis_server: RedisServer) -> None:
    async with replicas(redis_url, rate=10_000, burst=8_000) as (_, (limits,)):
        before = count_draws(redis_server)
        assert await count_granted(limits, 2_000) == 2_000
        assert count_draws(redis_server) - before <= 8


async def test_an_empty_bucket_is_not_asked_again_before_its_time(redis_url: str, redis_server: RedisServer) -> None:
    async with replicas(redis_url, rate=1, burst=1) as (_, (limits,)):
        assert await ask(limits) == 0
        before = count_draws(redis_server)
        assert await count_granted(limits, 500) == 0
        assert count_draws(redis_server) == before


async def test_many_at_once_are_one_question_to_redis(redis_url: str, redis_server: RedisServer) -> None:
    async with replicas(redis_url, rate=0.5, burst=20) as (_, (limits,)):
        before = count_draws(redis_server)
        answers = await asyncio.gather(*(ask(limits) for _ in range(30)))
        assert answers.count(0.0) == 20
        assert count_draws(redis_server) - before <= 3  # evalsha, eval on a server that has the script not yet


async def test_a_runaway_agent_leaves_the_others_alone(redis_url: str) -> None:
    async with replicas(redis_url, 2, rate=20, burst=100) as (time, both):
        going, asked, granted = True, 0, 0

        async def run_away(limits: SharedLimits) -> None:
            nonlocal asked, granted
            while going:
                got = await count_granted(limits, 50, EVE)
                asked, granted = asked + 50, granted + got
                await asyncio.sleep(0)

        running = [asyncio.create_task(run_away(limits)) for limits in both for _ in range(8)]
        for number in range(100):
            assert await ask(both[number % 2]) == 0
            await time.pass_(0.06)
        going = False
        await asyncio.gather(*running)
        assert asked > 10 * granted
        assert 200 <= granted <= 100 + round(20 * time.now, 6)  # the clock is a sum of floats


async def test_agents_of_one_person_have_a_bucket_each(redis_url: str) -> None:
    async with replicas(redis_url, rate=0.1, burst=2) as (_, (limits,)):
        assert await count_granted(limits, 5) == 2
        assert await count_granted(limits, 5, replace(ADA, agent="another")) == 2
        assert await count_granted(limits, 5, replace(ADA, name="Ada L.", channel=Channel.STDIO)) == 0


async def test_a_child_app_has_a_bucket_of_its_own(redis_url: str) -> None:
    async with replicas(redis_url, rate=0.1, burst=2) as (_, (limits,)):
        assert await count_granted(limits, 5, replace(ADA, within="main/argocd/orders-api")) == 2
        assert await count_granted(limits, 5, replace(ADA, within="main/argocd/orders-db")) == 2
        assert await count_granted(limits, 5) == 2


async def test_unanswered_requests_are_bounded_and_an_answer_makes_room(redis_url: str) -> None:
    async with replicas(redis_url, rate=100, burst=100, in_flight=2) as (_, (limits,)):
        await limits.enter(ADA)
        await limits.enter(ADA)
        with pytest.raises(Busy, match="At most 2 requests at once"):
            await limits.enter(ADA)
        assert await ask(limits, EVE) == 0
        limits.leave(ADA)
        assert await ask(limits) == 0


async def test_a_request_that_goes_away_while_it_waits_holds_no_place(
    redis_url: str, redis_server: RedisServer
) -> None:
    async with replicas(redis_url, rate=100, burst=100, in_flight=1) as (_, (limits,)):
        redis_server.pause()
        gone = asyncio.create_task(limits.enter(ADA))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        redis_server.resume()
        assert await ask(limits) == 0


async def test_while_redis_is_away_each_replica_keeps_the_same_limits_by_itself(
    redis_url: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with replicas(redis_url, 2, rate=2, burst=5) as (time, both):
        redis_server.stop()
        with caplog.at_level(logging.WARNING, logger=module.__name__):
            for limits in both:
                assert await count_granted(limits, 10) == 5
                assert await ask(limits) == pytest.approx(0.5)
            time.now += 0.5
            assert await count_granted(both[0], 10) == 1
        assert len([record for record in caplog.records if "by this replica alone" in record.message]) == 2
        redis_server.start()
        await time.pass_(1.5)
        await ask(both[0])  # finds out, beside the call
        await both[0].close()
        assert not both[0]._alone
        assert await count_granted(both[0], 10) + await count_granted(both[1], 10) < 15


async def test_a_redis_that_does_not_answer_holds_up_a_call_for_a_moment_only(
    redis_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert module._PATIENCE_SECONDS < 0.5
    async with replicas(redis_url, rate=1, burst=5) as (_, (limits,)):
        redis_server.pause()
        async with asyncio.timeout(3):
            assert await count_granted(limits, 10) == 5
        redis_server.resume()


async def test_refusals_are_on_record_once_a_minute_with_their_count(redis_url: str) -> None:
    book = Book()
    async with replicas(redis_url, book=book, rate=0.001, burst=1) as (time, (limits,)):
        await count_granted(limits, 51)
        await time.pass_(61)
        await count_granted(limits, 3)
    told = [(entry.event, entry.caller, entry.agent, entry.outcome, entry.detail[-3:]) for entry in book.entries]
    assert told == [
        (Event.CALLER_LIMITED, ADA.key, ADA.agent, "busy", ": 1"),
        (Event.CALLER_LIMITED, ADA.key, ADA.agent, "busy", " 50"),
    ]


async def test_a_record_that_could_not_be_written_is_counted_in_the_next(redis_url: str) -> None:
    book = Book(full=True)
    async with replicas(redis_url, book=book, rate=0.001, burst=1) as (time, (limits,)):
        assert await count_granted(limits, 11) == 1
        book.full = False
        await time.pass_(61)
        await ask(limits)
    assert [entry.detail[-3:] for entry in book.entries] == [" 11"]


async def test_many_refused_callers_do_not_fill_the_record(redis_url: str) -> None:
    book = Book()
    async with replicas(redis_url, book=book, rate=0.001, burst=1) as (_, (limits,)):
        for number in range(100):
            assert await count_granted(limits, 2, replace(ADA, subject=str(number))) == 1
    assert len(book.entries) == 20


async def test_many_callers_take_no_more_memory_than_a_few(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KNOWN", 10)
    async with replicas(redis_url, rate=0.001, burst=1, in_flight=1) as (_, (limits,)):
        await limits.enter(EVE)
        for number in range(50):
            assert await ask(limits, replace(ADA, subject=str(number))) == 0
        assert len(limits._buckets) == 10
        assert await ask(limits, replace(ADA, subject="0")) > 0  # forgotten here, not in Redis
        limits.leave(EVE)


async def test_a_bucket_leaves_redis_when_it_is_full_again(redis_url: str, redis_server: RedisServer) -> None:
    async with replicas(redis_url, rate=2, burst=10) as (_, (limits,)):
        await count_granted(limits, 6)
        (name,) = redis_server.admin.keys("*limit:*")
        assert 3_000 <= redis_server.admin.pttl(name) <= 4_000


class Gate:
    """Counts the calls that get through."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(
        self, _caller: Caller, name: str, _arguments: object, *, trace_id: str = "", report: object = None
    ) -> Answer:
        self.calls += 1
        if name == "breaks":
            raise RuntimeError(trace_id)
        return Answer({}, "fine")


async def test_a_local_session_over_its_limit_is_told_when_to_come_again(redis_url: str) -> None:
    async with replicas(redis_url, rate=0.5, burst=2, in_flight=1) as (_, (limits,)):
        gate = Gate()
        limited = Limited(cast("Calls", gate), limits)
        assert (await limited.call(ADA, "app_get", {})).text == "fine"
        with pytest.raises(RuntimeError):
            await limited.call(ADA, "breaks", {})
        answer = await limited.call(ADA, "app_get", {})
    assert gate.calls == 2
    assert isinstance(answer.error, Busy)
    assert (answer.structured, answer.text, answer.error.hint) == (None, "", "Try again in 2 s.")


class Knows:
    """An authenticator that knows who everybody is."""

    challenges = Challenges("http://127.0.0.1/metadata", ())

    async def authenticate(self, _scope: Scope) -> Caller:
        return ADA


async def test_over_http_the_answer_is_429_with_the_seconds_to_wait(redis_url: str) -> None:
    async with replicas(redis_url, rate=0.4, burst=1) as (_, (limits,)):
        app = Authenticated(PlainTextResponse("fine"), cast("Authenticator", Knows()), limits)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as client:
            answers = [await client.post("/mcp") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"] == "3"
