"""Work that goes on beside others is ended with them, or goes on to its end; how it fails is never left lying."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest

from arborgate.server import background
from arborgate.server.background import complete, end, finishing, linger

pytestmark = pytest.mark.anyio


async def test_work_that_is_to_be_finished_goes_on_when_nobody_waits_for_it_any_more() -> None:
    go, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    waiting = asyncio.create_task(complete(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gc.collect()
    go.set()
    async with asyncio.timeout(5):
        await done.wait()


async def test_at_the_end_it_is_waited_for_and_what_does_not_end_is_ended() -> None:
    begun, told = asyncio.Event(), list[str]()

    async def write() -> None:
        await begun.wait()
        told.append("written")

    async def retry() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("ended")

    async with finishing(0.05):
        linger(write())
        retrying = linger(retry())
        begun.set()
    assert told == ["written", "ended"]
    assert retrying.cancelled()


async def test_how_it_fails_then_is_not_complained_about_by_the_loop() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        raise OSError("the state is gone")

    try:
        waiting = asyncio.create_task(complete(work()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        go.set()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert complaints == []
    finally:
        asyncio.get_running_loop().set_exception_handler(None)


async def test_who_waits_is_told_how_it_failed() -> None:
    async def work() -> None:
        raise OSError("the state is gone")

    with pytest.raises(OSError, match="the state is gone"):
        await complete(work())


async def lose_one(told: list[str]) -> None:
    """Goes on after the first cancellation, as what waits by redis-py may."""
    for _ in range(2):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
    raise OSError("the state is gone")


async def test_what_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_AGAIN_SECONDS", 0.01)
    told: list[str] = []
    tasks = [asyncio.create_task(lose_one(told)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(*tasks)
    assert told == ["cancelled"] * 4
    assert all(task.done() for task in tasks)


async def test_who_is_cancelled_while_ending_something_goes_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_AGAIN_SECONDS", 0.01)
    go, told = asyncio.Event(), list[str]()

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            while not go.is_set():
                with suppress(asyncio.CancelledError):
                    await go.wait()
            told.append("cleaned up")

    work = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end(work))
    await asyncio.sleep(0)
    ending.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ending.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert told == ["cleaned up"]
