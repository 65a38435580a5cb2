"""The demo's Redis, both kinds of it: who may do what, and that it runs what Arborgate runs in a Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

import arborgate.server
from arborgate.server.demo.redis import EmbeddedRedis, prepare_redis
from arborgate.server.demo.traffic import PILED_UP, QUEUE, Traffic, fill
from arborgate.tools.redis.connection import connect
from arborgate.tools.redis.overview import summarise_source
from arborgate.tools.redis.source import RedisState
from arborgate.tools.redis.values import describe_keys
from tests.parts import redis as parts
from tests.parts.process import Process, find_free_ports

pytestmark = pytest.mark.anyio

LUA = Path(arborgate.server.__path__[0]) / "lua"


@pytest.fixture(params=["real", "python"])
async def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    (port,) = find_free_ports(1)
    redis = prepare_redis(tmp_path, port, program=None if request.param == "real" else "")
    process = Process("redis", redis.command, tmp_path)
    try:
        process.wait_ready(lambda: parts._listens("127.0.0.1", port))
        yield redis
    finally:
        process.kill()


def log_in(redis: EmbeddedRedis, user: str) -> Redis:
    return connect(redis.url, username=user, password=redis.passwords[user])


async def test_every_user_logs_in_and_the_sample_data_is_read(embedded: EmbeddedRedis) -> None:
    async with log_in(embedded, "apps") as apps, log_in(embedded, "reader") as reader:
        await fill(apps)
        assert await reader.llen(QUEUE) == PILED_UP
        assert await reader.type("data:events:orders") == "stream"
        assert await reader.pttl("shop:cart:1000") > 0


async def test_the_queue_grows_until_the_worker_runs_and_then_drains(embedded: EmbeddedRedis) -> None:
    async with log_in(embedded, "apps") as apps:
        await fill(apps)
        traffic = Traffic(apps, coming=2, taken=60)
        await traffic.move()
        assert await apps.llen(QUEUE) == PILED_UP + 2
        traffic.running = True
        await traffic.move()
        assert await apps.llen(QUEUE) == PILED_UP + 2 + 2 - 60


async def test_it_runs_our_scripts_and_streams(embedded: EmbeddedRedis) -> None:
    async with log_in(embedded, "arborgate") as own:
        place = "{arborgate}:test:"
        transition = own.register_script((LUA / "transition.lua").read_text())
        names = ("proposal", "events", "work", "all", "expiry", "glass", "known", "hold", "stuck", "ledger")
        keys = [place + name for name in names]
        moved = ["p", "", "", "token", "0", "drafted", "1.5", "dev", "99", "1", "100", "2.5", "dev"]
        arguments = [*moved, "0", "0", "3.5", "2", "", "field", "value"]
        assert await transition(keys=keys, args=arguments) == 1
        assert await transition(keys=keys, args=[*arguments[:3], "other", *arguments[4:]]) == 0
        assert (await own.hgetall(keys[0]))["version"] == "1"
        assert await own.zrange(keys[8], 0, -1, withscores=True) == [("p", 3.5)]
        assert await own.zrange(keys[9], 0, -1) == ["p/1", "p/2"]
        acquire = own.register_script((LUA / "acquire.lua").read_text())
        leases = [place + "fence", place + "lease"]
        assert await acquire(keys=leases, args=["p", "one", "5000"]) == "1/one"
        assert await acquire(keys=leases, args=["q", "two", "5000"]) == 0
        await own.xgroup_create(keys[2], "appliers", id="0", mkstream=True)
        read: Any = await own.xreadgroup("appliers", "me", {keys[2]: ">"}, count=1, block=100)
        ((_, ((entry, fields),)),) = read
        assert fields == {"proposal": "p"}
        claimed: Any = await own.xautoclaim(keys[2], "appliers", "other", 0, "0-0", count=1)
        assert [one for one, _ in claimed[1]] == [entry]
        assert await own.xack(keys[2], "appliers", entry) == 1
        forget = own.register_script((LUA / "forget_consumers.lua").read_text())
        assert await forget(keys=[keys[2]], args=["appliers", 86_400_000]) == 0
        assert await forget(keys=[keys[2]], args=["appliers", 0]) == 2


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    (port,) = find_free_ports(1)
    redis = prepare_redis(tmp_path, port)
    process = Process("redis", redis.command, tmp_path)
    process.wait_ready(lambda: parts._listens("127.0.0.1", port))
    yield redis
    process.kill()


async def test_the_user_that_agents_read_with_can_not_write(guarded: EmbeddedRedis) -> None:
    assert guarded.guarded
    async with log_in(guarded, "reader") as client:
        reader: Any = client  # redis-py has no types for commands without a method
        for command in (
            ("SET", "a", "b"),
            ("DEL", "a"),
            ("FLUSHALL",),
            ("EVAL", "return 1", "0"),
            ("CONFIG", "GET", "*"),
        ):
            with pytest.raises(NoPermissionError):
                await reader.execute_command(*command)


async def test_arborgates_own_user_stays_in_its_keyspace(guarded: EmbeddedRedis) -> None:
    async with log_in(guarded, "arborgate") as own:
        with pytest.raises(NoPermissionError):
            await own.get("payments:queue:capture")
        with pytest.raises(NoPermissionError):
            await own.scan(0)


async def test_nobody_gets_in_without_a_password(guarded: EmbeddedRedis) -> None:
    async with connect(guarded.url) as nobody:
        with pytest.raises(RedisError):
            await nobody.get("any")


def test_the_file_that_it_is_configured_by_holds_no_password(tmp_path: Path) -> None:
    redis = prepare_redis(tmp_path, 1)
    config = tmp_path / "redis.conf"
    assert config.stat().st_mode & 0o777 == 0o600
    assert not any(password in config.read_text() for password in redis.passwords.values())


async def test_agents_read_the_sample_data_through_the_redis_tools_source(embedded: EmbeddedRedis) -> None:
    client = connect(embedded.url, username="reader", password=embedded.passwords["reader"], decode=False)
    state = RedisState({"main": client})
    async with log_in(embedded, "apps") as apps:
        await fill(apps)
    try:
        keys, node, _ = await state.scan("main", b"payments:queue:*", 0, 0, 1_000)
        described = await describe_keys(state, "main", sorted(keys))
        (info,) = await state.info("main")
        row = summarise_source("main", [info])
    finally:
        await state.close()
    assert (described[0].name, described[0].type, described[0].length) == (QUEUE.encode(), "list", PILED_UP)
    assert (node, row.source, row.servers) == (-1, "main", 1)
