"""Connections to Redis by URL: a single server, Sentinel or Cluster, over one asyncio pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel, SentinelConnectionPool
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from ...policies.errors import BadConfiguration

FAULTS = (RedisError, OSError, TimeoutError)
"""What a Redis that is away, slow or of another mind can raise."""

_RETRIES, _FIRST_PAUSE, _LONGEST_PAUSE = 3, 0.02, 0.25
_CONNECTIONS = 2**31
"""No bound of its own: redis-py's pool (100) refuses the next command instead of letting it wait, and how many there are at
once is bounded by who asks."""
_SENTINEL_PORT, _REDIS_PORT = 26379, 6379
_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


def connect(url: str, *, username: str = "", password: str = "", timeout: float = 2.0, decode: bool = True) -> Redis:
    """A client for `redis://host:port/db`, `redis+sentinel://host:port,host:port/service/db` or
    `redis+cluster://host:port,host:port`; `rediss` is the same over TLS. Nothing is sent before first use.

    `username` and `password` win over those in the URL, `timeout` (seconds) bounds connecting and each answer, `decode`
    makes answers text. A Cluster's client has the same commands, but keys of one call must share a hash tag. Raises
    `BadConfiguration`, which does not repeat the URL."""
    try:
        parts = urlsplit(url)
        kind, options = parts.scheme.partition("+")[2], _options(url, username, password, timeout, decode)
        if parts.scheme not in _SCHEMES or not parts.netloc:
            raise ValueError("its scheme is not one of " + ", ".join(_SCHEMES))
        if parts.scheme.startswith("rediss"):
            options["ssl"] = True
        match kind:
            case "sentinel":
                return _connect_sentinel(url, options)
            case "cluster":
                return _connect_cluster(url, options)
            case _:
                (host, port), database = _hosts(url, _REDIS_PORT)[0], parts.path.strip("/")
                return Redis(host=host, port=port, db=int(database or 0), **options)
    except ValueError as error:
        raise BadConfiguration(
            f"This is not the URL of a Redis: {error}.",
            field="url",
            hint="redis://host:port/db, redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port.",
        ) from None


class _SentinelRedis(Redis):
    """A client that closes its connections to the sentinels too."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        pool = cast("SentinelConnectionPool", self.connection_pool)
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


class _Following(SentinelManagedConnection):
    """Asks the sentinels again whenever it lost its server: redis-py 8.1 would retry a command on the dead one."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]  # untyped there
        await super().send_packed_command(command, check_health)


class _FollowingOverTls(_Following, SentinelManagedSSLConnection):
    """The same over TLS."""


def _connect_sentinel(url: str, options: dict[str, Any]) -> Redis:
    service, _, database = urlsplit(url).path.strip("/").partition("/")
    if not service:
        raise ValueError("it does not name the service")
    shared = ("socket_timeout", "socket_connect_timeout", "retry", "ssl", "max_connections")
    own = {name: options[name] for name in shared if name in options}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # untyped there
        _hosts(url, _SENTINEL_PORT), sentinel_kwargs=own, **options
    )
    connection = _FollowingOverTls if "ssl" in options else _Following
    master = sentinel.master_for(
        service, redis_class=_SentinelRedis, connection_class=connection, db=int(database or 0)
    )
    return cast("Redis", master)


def _connect_cluster(url: str, options: dict[str, Any]) -> Redis:
    if urlsplit(url).path.strip("/"):
        raise ValueError("a Cluster has no databases")
    nodes = [ClusterNode(host, port) for host, port in _hosts(url, _REDIS_PORT)]
    # The same commands by another class: redis-py has no base of both that is typed.
    return cast("Redis", RedisCluster(startup_nodes=nodes, **options))


def _options(url: str, username: str, password: str, timeout: float, decode: bool) -> dict[str, Any]:
    before, at, _ = urlsplit(url).netloc.rpartition("@")
    name, _, word = before.partition(":") if at else ("", "", "")
    return {
        "username": username or unquote(name) or None,
        "password": password or unquote(word) or None,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "decode_responses": decode,
        "max_connections": _CONNECTIONS,
        # Fast: a call waits for it, and what is gone longer than this is told to whoever asked.
        "retry": Retry(ExponentialBackoff(cap=_LONGEST_PAUSE, base=_FIRST_PAUSE), _RETRIES),
    }


def _hosts(url: str, default_port: int) -> list[tuple[str, int]]:
    """The `host:port` pairs of a URL; an IPv6 address stands in brackets."""
    found = []
    for each in urlsplit(url).netloc.rpartition("@")[2].split(","):
        host, colon, port = each.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = each, str(default_port)
        if not host or not port.isdecimal():
            raise ValueError("one of its hosts is not host:port")
        found.append((host.strip("[]"), int(port)))
    return found
