"""What is taken off the stream of work goes for good, in one step: a crash leaves an entry whole, or not at all."""

from typing import Any

import pytest

from arborgate.server.worker import GROUP
from tests.server.applier.world import World

pytestmark = pytest.mark.anyio


async def test_an_entry_is_acknowledged_and_deleted_in_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.worker._join()
    drafted = await world.draft([world.scale("api")])
    ((entry, proposal_id),) = await world.worker._take_new()
    assert proposal_id == drafted.id
    sent: list[str] = []
    send: Any = world.redis.execute_command

    async def watch(*words: Any, **options: Any) -> Any:
        sent.append(str(words[0]))
        return await send(*words, **options)

    monkeypatch.setattr(world.redis, "execute_command", watch)
    world.worker._start(entry, proposal_id)
    await world.worker._at_work[proposal_id]
    assert {"XACK", "XDEL"}.isdisjoint(sent), "alone, each can be the last thing that is done"
    work = world.book.store.work
    assert await world.redis.xlen(work) == 0
    assert (await world.redis.xpending(work, GROUP))["pending"] == 0
