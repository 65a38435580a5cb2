"""Arborgate's own keyspace in Redis: where proposals, sessions, events and the searchable record live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..policies.errors import BadConfiguration, Unavailable
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
    try:
        password = settings.password_file.read_text(encoding="utf-8").strip() if settings.password_file else ""
    except OSError as error:
        raise BadConfiguration(f"state.password_file: can't be read: {error.strerror}") from error
    client = connect(settings.url, username=settings.username, password=password, timeout=settings.timeout)
    return State(client, settings.prefix)


@contextmanager
def reaching_state() -> Iterator[None]:
    """Turns every fault of the state Redis (gone, slow, read-only) into `Unavailable`, which names no host.

    Also gives back a cancellation that the client has lost: it waits by `asyncio.wait_for`, which before Python 3.12
    drops one that comes together with the answer."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(
            "Arborgate's own state can't be reached right now.",
            hint="Nothing was changed by this call as far as is known: look again in a moment.",
            detail=f"{type(error).__name__}: {error}",
        ) from error
    finally:
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError
