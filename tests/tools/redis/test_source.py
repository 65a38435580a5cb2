"""The two locks on reading: credentials that can't write, and a list of commands that nothing else passes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from redis.exceptions import NoPermissionError

from arborgate.policies.errors import BadConfiguration, Refused, Unavailable
from arborgate.tools.redis.acl import CONNECTS, READER_RULES
from arborgate.tools.redis.connection import connect
from arborgate.tools.redis.source import READS, RedisState, open_redis_state
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer

pytestmark = pytest.mark.anyio

WRITES: tuple[tuple[str | int, ...], ...] = (
    ("SET", "orders:a", "1"),
    ("DEL", "orders:a"),
    ("EXPIRE", "orders:a", 1),
    ("FLUSHALL",),
    ("EVAL", "return redis.call('SET', 'orders:a', '1')", 0),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("RENAME", "orders:a", "orders:b"),
    ("XADD", "orders:s", "*", "a", "1"),
    ("GETDEL", "orders:a"),
    ("SORT", "orders:l", "STORE", "orders:m"),
    ("COPY", "orders:a", "orders:b"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", 1),
    ("ACL", "SETUSER", "reader", "allcommands"),
    ("PUBLISH", "orders", "hello"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MIGRATE", "127.0.0.1", 1, "orders:a", 0, 1),
    ("SCRIPT", "FLUSH"),
)


class Settings(BaseModel):
    """What `open_redis_state` needs of the settings."""

    name: str = "main"
    url: str
    username: str = "reader"
    password_file: Path | None = None
    timeout: float = 2.0


@pytest.fixture
async def state(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> AsyncIterator[RedisState]:
    file = tmp_path / "password"
    file.write_text(redis_server.passwords["reader"] + "\n")
    found = open_redis_state([Settings(url=f"redis://{redis_server.host}:{redis_server.port}", password_file=file)])
    yield found
    await found.close()


@pytest.mark.parametrize("command", WRITES, ids=lambda command: str(command[0]))
async def test_the_credentials_of_a_reader_can_not_write(
    redis_server: RedisServer, redis_url: str, command: tuple[str | int, ...]
) -> None:
    redis_server.admin.set("orders:a", "kept")
    client: Any = connect(redis_server.url("reader"))  # redis-py has no types for commands without a method
    try:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command)
    finally:
        await client.aclose()
    assert redis_server.admin.get("orders:a") == b"kept"


@pytest.mark.parametrize("command", [*WRITES, ("GET", "a"), ("KEYS", "*"), ("get", "a"), ("type", "a"), ("",)], ids=str)
async def test_a_command_that_is_not_in_the_list_never_leaves(
    redis_server: RedisServer, command: tuple[str | int, ...]
) -> None:
    # With credentials that may do anything: the list alone stands in the way.
    state = RedisState({"main": connect(redis_server.url("admin"), decode=False)})
    redis_server.admin.set("orders:a", "kept")
    try:
        with pytest.raises(Refused, match="not one of the commands that read"):
            await state.ask("main", [("TYPE", "orders:a"), command])
    finally:
        await state.close()
    assert redis_server.admin.get("orders:a") == b"kept"


async def test_the_reader_may_do_what_is_ever_sent_and_connect_and_nothing_else() -> None:
    allowed = {rule[1:] for rule in READER_RULES if rule.startswith("+")}
    assert allowed == {command.lower().replace(" ", "|") for command in READS | CONNECTS}
    assert not any("@" in rule for rule in READER_RULES)


async def test_a_source_that_is_gone_is_named_and_its_address_is_not(
    redis_server: RedisServer, state: RedisState
) -> None:
    assert await state.ask("main", [("TYPE", "orders:none")])
    redis_server.kill()
    try:
        with pytest.raises(Unavailable, match="The Redis source main does not answer") as gone:
            await state.ask("main", [("TYPE", "orders:none")])
        assert "127.0.0.1" not in f"{gone.value} {gone.value.hint}"
        with pytest.raises(Unavailable, match="source main"):
            await state.scan("main", b"*", 0, 0, 10)
        with pytest.raises(Unavailable, match="source main"):
            await state.info("main")
    finally:
        redis_server.recover()
    assert await state.ask("main", [("TYPE", "orders:none")])


async def test_a_reader_without_the_right_is_told_apart_from_a_source_that_is_gone(redis_server: RedisServer) -> None:
    state = RedisState({"main": connect(redis_server.url("arborgate"), decode=False)})
    try:
        with pytest.raises(Unavailable, match="does not let Arborgate read this"):
            await state.ask("main", [("TYPE", "orders:a")])
        with pytest.raises(Unavailable, match="does not let Arborgate read this"):
            await state.scan("main", b"*", 0, 0, 10)
    finally:
        await state.close()


async def test_a_key_that_is_of_another_type_by_now_has_no_answer(redis_server: RedisServer, state: RedisState) -> None:
    redis_server.admin.set("orders:a", "text")
    assert await state.ask("main", [("LLEN", "orders:a"), ("STRLEN", "orders:a"), ("XINFO GROUPS", "orders:no")]) == [
        None,
        4,
        None,
    ]


async def test_a_source_that_is_not_configured_is_told_with_those_that_are(state: RedisState) -> None:
    with pytest.raises(Unavailable) as unknown:
        await state.info("other")
    assert unknown.value.hint == "Configured: main."


async def test_a_password_file_that_is_missing_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="'main'"):
        open_redis_state([Settings(url="redis://127.0.0.1", password_file=tmp_path / "missing")])


async def scan_all(state: RedisState, pattern: bytes, count: int) -> list[bytes]:
    found: list[bytes] = []
    node = cursor = 0
    while node >= 0:
        keys, node, cursor = await state.scan("main", pattern, node, cursor, count)
        found += keys
    return found


async def test_a_scan_reaches_every_key(redis_server: RedisServer, state: RedisState) -> None:
    names = {f"orders:{number}".encode() for number in range(300)}
    redis_server.admin.mset(dict.fromkeys(names, b"1"))
    redis_server.admin.set("other:1", "1")
    assert set(await scan_all(state, b"orders:*", 20)) == names


async def test_a_cluster_is_scanned_and_asked_server_by_server(redis_cluster: RedisCluster) -> None:
    redis_cluster.flush()
    hosts = ",".join(f"{node.host}:{node.port}" for node in redis_cluster.nodes)
    password = redis_cluster.passwords["reader"]
    state = RedisState(
        {"main": connect(f"redis+cluster://{hosts}", username="reader", password=password, decode=False)}
    )
    admin = connect(f"redis+cluster://{hosts}", username="admin", password=redis_cluster.passwords["admin"])
    names = {f"orders:{number}".encode() for number in range(120)}
    try:
        for name in names:
            await admin.set(name, "1")
        assert set(await scan_all(state, b"orders:*", 10)) == names
        sizes = await state.ask("main", [("MEMORY USAGE", name) for name in names])
        assert len(sizes) == len(names)
        assert all(size > 0 for size in sizes)
        infos = await state.info("main")
        assert [info["redis_mode"] for info in infos] == ["cluster"] * 3
        assert sum(info["db0"]["keys"] for info in infos) == len(names)
    finally:
        await state.close()
        await admin.aclose()


async def test_a_source_behind_sentinel_is_read(redis_sentinel: RedisSentinel) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in redis_sentinel.sentinels)
    url = f"redis+sentinel://{hosts}/{redis_sentinel.master_name}"
    password = redis_sentinel.passwords["reader"]
    state = RedisState({"main": connect(url, username="reader", password=password, decode=False)})
    redis_sentinel.find_primary().admin.set("orders:a", "text")
    try:
        assert await state.ask("main", [("STRLEN", "orders:a")]) == [4]
    finally:
        await state.close()
