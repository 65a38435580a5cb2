"""Consumer groups of the state's streams: joined before they are read, and rid of consumers that ended long ago."""

from __future__ import annotations

from redis.exceptions import ResponseError

from .leases import read_script
from .state import State, reaching_state

_ALIVE = 86_400.0
"""Seconds. Before Redis 7.2 a consumer that only asks counts as idle."""


async def join_group(state: State, stream: str, group: str, *, start: str, alive: float = _ALIVE) -> None:
    """Makes sure that there is the group; a new one begins at the id `start` (`0` the oldest entry, `$` what comes next).

    Forgets consumers that hold nothing and have taken nothing for `alive` seconds, since each process is one of its own; one
    that lives all the same is known again as soon as it takes something. Raises `Unavailable`."""
    with reaching_state():
        try:
            await state.redis.xgroup_create(stream, group, id=start, mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        forget = state.redis.register_script(read_script("forget_consumers"))
        await forget(keys=[stream], args=[group, int(alive * 1_000)])
