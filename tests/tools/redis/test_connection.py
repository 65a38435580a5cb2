"""One URL for each way of running Redis: a single server, Sentinel, Cluster."""

import asyncio
from urllib.parse import quote

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from arborgate.policies.errors import BadConfiguration
from arborgate.tools.redis.connection import FAULTS, connect
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer

pytestmark = pytest.mark.anyio

USER = "arborgate"
AT_ONCE = 150


async def write_and_read(client: Redis) -> None:
    try:
        await client.set("arborgate:{t}:greeting", "hello")
        assert await client.get("arborgate:{t}:greeting") == "hello"
        script = client.register_script("return redis.call('GET', KEYS[1])")
        assert await script(keys=["arborgate:{t}:greeting"]) == "hello"
        async with client.pipeline(transaction=False) as pipe:
            pipe.get("arborgate:{t}:greeting")
            pipe.exists("arborgate:{t}:other")
            assert await pipe.execute() == ["hello", 0]
        assert await client.xadd("arborgate:{t}:stream", {"a": "1"})
        assert await client.xlen("arborgate:{t}:stream") == 1
        await client.delete("arborgate:{t}:stream", "arborgate:{t}:greeting")
        # However many wait at once, none is refused for it.
        waiting = (client.blpop(["arborgate:{t}:nothing"], timeout=0.5) for _ in range(AT_ONCE))
        assert await asyncio.gather(*waiting) == [None] * AT_ONCE
    finally:
        await client.aclose()


async def test_a_single_server(redis_server: RedisServer, redis_url: str) -> None:
    await write_and_read(connect(redis_url))
    bare = f"redis://{redis_server.host}:{redis_server.port}"
    await write_and_read(connect(bare, username=USER, password=redis_server.passwords[USER]))


async def test_sentinel(redis_sentinel: RedisSentinel) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in redis_sentinel.sentinels)
    url = f"redis+sentinel://{hosts}/{redis_sentinel.master_name}/0"
    await write_and_read(connect(url, username=USER, password=redis_sentinel.passwords[USER]))


async def test_sentinel_after_a_failover(redis_sentinel: RedisSentinel) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in redis_sentinel.sentinels)
    url = f"redis+sentinel://{USER}:{quote(redis_sentinel.passwords[USER])}@{hosts}/{redis_sentinel.master_name}"
    client = connect(url)
    try:
        await client.set("arborgate:before", "1")
        redis_sentinel.fail_over()
        # The first command after it finds the new primary by itself.
        await client.set("arborgate:after", "2")
        assert await client.get("arborgate:after") == "2"
    finally:
        await client.aclose()
        redis_sentinel.recover()


async def test_cluster(redis_cluster: RedisCluster) -> None:
    hosts = ",".join(f"{node.host}:{node.port}" for node in redis_cluster.nodes)
    await write_and_read(connect(f"redis+cluster://{hosts}", username=USER, password=redis_cluster.passwords[USER]))


async def test_answers_stay_bytes_where_that_is_asked_for(redis_url: str) -> None:
    client = connect(redis_url, decode=False)
    try:
        await client.set("arborgate:bytes", b"\xff\x00")
        assert await client.get("arborgate:bytes") == b"\xff\x00"
    finally:
        await client.aclose()


async def test_a_server_that_is_paused_is_given_up_in_time(redis_server: RedisServer, redis_url: str) -> None:
    client = connect(redis_url, timeout=0.1)
    redis_server.pause()
    try:
        with pytest.raises(FAULTS):
            await client.ping()
    finally:
        redis_server.resume()
        await client.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis://",
        "redis://127.0.0.1:x",
        "redis://127.0.0.1/x",
        "redis+sentinel://127.0.0.1:1",
        "redis+cluster://127.0.0.1:1/1",
        "redis+cluster://a:1,,b:1",
        "127.0.0.1:6379",
    ],
)
def test_what_is_no_redis_url_is_told_without_repeating_it(url: str) -> None:
    with pytest.raises(BadConfiguration) as wrong:
        connect(url.replace("://", "://user:planted@"))
    assert "planted" not in f"{wrong.value} {wrong.value.hint}"
    assert wrong.value.field == "url"


def test_an_ipv6_host_stands_in_brackets() -> None:
    client = connect("redis://[::1]:7000/3")
    known = client.connection_pool.connection_kwargs
    assert (known["host"], known["port"], known["db"]) == ("::1", 7000, 3)


def test_the_password_of_the_settings_wins_over_that_of_the_url() -> None:
    known = connect("redis://a:b@h", username="c", password="d").connection_pool.connection_kwargs
    assert (known["username"], known["password"], known["host"], known["port"]) == ("c", "d", "h", 6379)


def test_every_fault_of_redis_is_known() -> None:
    assert issubclass(RedisError, FAULTS)
