"""Connections to Redis by URL: a single server, Sentinel or Cluster, over one asyncio pool."""

from __future__ import annotations

from redis.asyncio import Redis


def connect(url: str, *, username: str = "", password: str = "", timeout: float = 2.0) -> Redis:
    """A client for `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`. Nothing is sent before first use."""
    return Redis.from_url(
        url,
        username=username or None,
        password=password or None,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=True,
    )
