"""Arborgate's own keyspace in Redis: where proposals, sessions, events and the searchable record live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from ..policies.errors import BadConfiguration, Unavailable
from ..tools.redis.connection import connect
from .settings import StateSettings


@dataclass(frozen=True, slots=True)
class State:
    """The connection and the prefix that every key of ours has (with a hash tag: one slot of a Redis Cluster).

    `replicas` must have what `run` wrote within `patience` seconds."""

    redis: Redis
    prefix: str
    replicas: int = 0
    patience: float = 1.0

    def key(self, *parts: str) -> str:
        return self.prefix + ":".join(parts)

    async def run(self, script: AsyncScript, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """What a script answers, once enough replicas have what it wrote: then no failover loses it.

        Raises `Unavailable`, also where it was written and too few replicas have said that they have it."""
        with reaching_state():
            if not self.replicas:
                return await script(keys=keys, args=args)
            # On one connection: WAIT is about what that connection has written.
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.eval(str(script.script), len(keys), *keys, *args)
                pipe.execute_command("WAIT", self.replicas, int(self.patience * 1000))
                answer, replicas = await pipe.execute()
        if replicas < self.replicas:
            raise Unavailable(
                "This may not be kept: too few replicas of Arborgate's own state have it.",
                hint="Look at what is there before you try again.",
                detail=f"{replicas} of {self.replicas} replicas within {self.patience:g} s",
            )
        return answer


def open_state(settings: StateSettings) -> State:
    """Connects lazily: a Redis that is away makes the calls that need it fail, not the start."""
    try:
        password = settings.password_file.read_text(encoding="utf-8").strip() if settings.password_file else ""
    except OSError as error:
        raise BadConfiguration(f"state.password_file: can't be read: {error.strerror}") from error
    if settings.replicas_acknowledge and urlsplit(settings.url).scheme.endswith("+cluster"):
        raise BadConfiguration(
            "state.replicas_acknowledge: the nodes of a Cluster can't be asked for their replicas",
            hint="Use Sentinel, or leave it out.",
        )
    client = connect(settings.url, username=settings.username, password=password, timeout=settings.timeout)
    # Half of the time for an answer, so that it is told apart from a server that does not answer.
    return State(client, settings.prefix, settings.replicas_acknowledge, settings.timeout / 2)


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
