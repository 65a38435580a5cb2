"""Work that goes on beside a block: started with it, ended with it for certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_AGAIN_SECONDS = 1.0
_finishing: set[asyncio.Task[Any]] = set()
"""What goes on although nobody may wait for it any more: the event loop itself would let go of it."""


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs a coroutine beside the block; ends it with the block, and the block with it should it fail."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            await end(task)
    except BaseExceptionGroup as failed:
        match failed.exceptions:
            case (alone,):
                raise alone from None  # as it was raised, so that whoever waits for it knows it
            case _:
                raise


@asynccontextmanager
async def finishing(seconds: float) -> AsyncIterator[None]:
    """Gives what lingers so long at the end of the block to come to its own end, and then ends it: before what it works
    with is closed."""
    try:
        yield
    finally:
        loop = asyncio.get_running_loop()
        if left := [task for task in _finishing if task.get_loop() is loop]:
            await asyncio.wait(left, timeout=seconds)
            await end(*left)


async def complete(work: Coroutine[Any, Any, T]) -> T:
    """What it comes to. Once begun it goes on to its end even when whoever waits for it goes away; how it failed then is
    for itself to tell."""
    return await asyncio.shield(linger(work))


def linger(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begins it, for nobody to wait for."""
    task = asyncio.create_task(work)
    _finishing.add(task)
    task.add_done_callback(_let_go)
    return task


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels until they have ended: before Python 3.12 `asyncio.wait_for`, by which redis-py waits, can lose one. Who is
    cancelled meanwhile goes only after that. How they ended is for who asks them."""
    interrupted: asyncio.CancelledError | None = None
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            interrupted = error
    for task in tasks:
        _look_at(task)
    if interrupted:
        raise interrupted


def _let_go(task: asyncio.Task[Any]) -> None:
    _finishing.discard(task)
    _look_at(task)


def _look_at(task: asyncio.Task[Any]) -> None:
    """The loop would complain that nobody did."""
    if not task.cancelled():
        task.exception()
