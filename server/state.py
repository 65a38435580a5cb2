"""Arborgate's own keyspace in Redis: where proposals, sessions, events and the searchable record live."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from ..tools.redis.connection import connect
from .settings import StateSettings


@dataclass(frozen=True, slots=True)
class State:
    """The connection and the prefix that every key of ours has (with a hash tag: one slot of a Redis Cluster)."""

    redis: Redis
    prefix: str

    def key(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)


def open_state(settings: StateSettings) -> State:
    """Connects lazily: a Redis that is away makes the calls that need it fail, not the start."""
    password = settings.password_file.read_text(encoding="utf-8").strip() if settings.password_file else ""
    client = connect(settings.url, username=settings.username, password=password, timeout=settings.timeout)
    return State(client, settings.prefix)
