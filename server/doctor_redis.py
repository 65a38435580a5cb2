"""What the doctor asks of the Redis that Arborgate keeps its state in (docs/proposals.md, "What Redis must be")."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from ..policies.errors import BadConfiguration
from ..tools.redis.connection import FAULTS, connect
from .doctor_findings import Finding, bad, good, judge_clock, poor
from .settings import StateSettings
from .state import State, open_state

_OLDEST = (6, 2)
_ALL = ("~*", "&*", "+@all")
_ASK = "ask as a user who may: --redis-user and --redis-password-file"


@dataclass(frozen=True, slots=True)
class Examiner:
    """A Redis user who may read the configuration and the users, which Arborgate's own may not."""

    name: str
    password: str


async def examine_redis(settings: StateSettings, examiner: Examiner | None) -> AsyncIterator[Finding]:
    """All about the server, or every primary of the Cluster."""
    async for finding in reach_redis(settings, lambda own: _examine_each(own.redis, settings, examiner)):
        yield finding


async def reach_redis(
    settings: StateSettings, look: Callable[[State], AsyncIterator[Finding]]
) -> AsyncIterator[Finding]:
    """Whether it answers to these credentials, and what `look` finds there."""
    try:
        own = open_state(settings)
    except BadConfiguration as error:
        yield bad("state.url", error.message, error.hint or "see docs/settings.md")
        return
    try:
        began = time.monotonic()
        await own.redis.ping()
        yield good("state.url", f"Redis answers in {(time.monotonic() - began) * 1000:.0f} ms")
        async for finding in look(own):
            yield finding
    except AuthenticationError:
        yield bad("state.url", "Redis does not know this user by this password", "see state.username, password_file")
    except FAULTS as error:
        yield bad("state.url", f"Redis does not answer: {type(error).__name__}", "see that it runs, and the URL")
    finally:
        await own.redis.aclose()


async def _examine_each(own: Redis, settings: StateSettings, examiner: Examiner | None) -> AsyncIterator[Finding]:
    if not isinstance(own, RedisCluster):
        async for finding in _examine_server(own, settings, examiner):
            yield finding
        for finding in _examine_replicas(settings, cast("Mapping[str, Any]", await own.info("replication"))):
            yield finding
        return
    scheme, at = settings.url.partition("+")[0], settings.url.rpartition("@")[0].partition("://")[2]
    for node in own.get_primaries():
        url = f"{scheme}://{at}{'@' if at else ''}{node.host}:{node.port}"
        alone = settings.model_copy(update={"url": url})
        server = open_state(alone).redis
        try:
            async for finding in _examine_server(server, alone, examiner):
                yield finding
        finally:
            await server.aclose()


async def _examine_server(server: Redis, settings: StateSettings, examiner: Examiner | None) -> AsyncIterator[Finding]:
    info = cast("Mapping[str, Any]", await server.info())
    version = str(info["redis_version"])
    old = tuple(map(int, version.split(".")[:2])) < _OLDEST
    yield bad("redis version", f"{version} is too old", "6.2 or later") if old else good("redis version", version)
    if info.get("aof_enabled"):
        yield good("redis appendonly", "yes")
    else:
        yield bad("redis appendonly", "no: a restart forgets every proposal", "appendonly yes")
    policy = str(info.get("maxmemory_policy", ""))
    if policy == "noeviction":
        yield good("redis maxmemory-policy", policy)
    else:
        yield bad("redis maxmemory-policy", f"{policy}: proposals are thrown away", "maxmemory-policy noeviction")
    seconds, microseconds = await server.time()
    yield judge_clock("redis clock", seconds + microseconds / 1e6 - time.time())
    trusted = _log_in(settings, examiner) if examiner else server
    try:
        async for finding in _examine_configuration(trusted):
            yield finding
    finally:
        if trusted is not server:
            await trusted.aclose()


def _log_in(settings: StateSettings, examiner: Examiner) -> Redis:
    return connect(settings.url, username=examiner.name, password=examiner.password, timeout=settings.timeout)


async def _examine_configuration(client: Redis) -> AsyncIterator[Finding]:
    """What only a user who may ask is told."""
    try:
        found = cast("Mapping[str, str]", await client.config_get("appendfsync"))
        yield _judge_sync(found.get("appendfsync", ""))
    except (NoPermissionError, ResponseError):
        yield poor("redis appendfsync", "is not told to this user", _ASK)
    try:
        user = cast("Mapping[str, Any]", await client.acl_getuser("default"))
        for finding in _judge_default(user):
            yield finding
    except (NoPermissionError, ResponseError):
        yield poor("redis user default", "is not told to this user", _ASK)


def _judge_sync(policy: str) -> Finding:
    if policy == "always":
        return good("redis appendfsync", policy)
    if policy == "everysec":
        told = "everysec: a machine that dies may take the last second with it"
        return poor("redis appendfsync", told, "appendfsync always, or replicas that acknowledge")
    return bad("redis appendfsync", f"{policy}: what is lost is left to chance", "appendfsync always")


def _judge_default(user: Mapping[str, Any]) -> Iterator[Finding]:
    """A server loads its append-only file as this user, and drops every script's effects that the user may not write."""
    what, flags = "redis user default", {str(flag) for flag in user.get("flags", ())}
    rules = {str(rule) for name in ("keys", "channels", "commands", "categories") for rule in _words(user.get(name))}
    missing = [rule for rule in _ALL if rule not in rules]
    if missing:
        told = f"may not do everything (no {', '.join(missing)}), so a restart drops what scripts wrote"
        yield bad(what, told, "user default off ~* &* +@all")
    elif "on" in flags and "nopass" in flags:
        yield bad(what, "lets anybody in without a password", "user default off ~* &* +@all")
    else:
        yield good(what, "may do everything, and nobody gets in by it unasked")


def _words(value: object) -> list[str]:
    return value.split() if isinstance(value, str) else [str(each) for each in cast("list[object]", value or [])]


def _examine_replicas(settings: StateSettings, info: Mapping[str, Any]) -> Iterator[Finding]:
    """What a failover would take with it."""
    what, wanted = "state.replicas_acknowledge", settings.replicas_acknowledge
    online = sum(
        1
        for name, each in info.items()
        if name.startswith("slave") and isinstance(each, Mapping) and each.get("state") == "online"
    )
    fails_over = "+sentinel" in settings.url or online
    if not wanted:
        if fails_over:
            told = f"is 0 with {online} replicas: a failover may lose the last approvals"
            yield poor(what, told, "set it to 1, with two replicas or more")
        else:
            yield good(what, "is 0, and there is nothing to fail over to")
        return
    if online < wanted:
        yield bad(what, f"is {wanted} with {online} replicas: no vote counts", "start the replicas")
    elif online == wanted:
        yield poor(what, f"is {wanted} with {online} replicas: no vote counts while one is away", "add one more")
    else:
        yield good(what, f"is {wanted}, with {online} replicas")
    if "min_slaves_good_slaves" in info:
        yield good("redis min-replicas-to-write", "is set")
    else:
        told = "is not set: a primary that is cut off goes on taking writes"
        yield poor("redis min-replicas-to-write", told, f"min-replicas-to-write {wanted}")
