"""Watching a folder: says when something in it may have changed, wherever the folder is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

_QUIET_MS = 100
"""How long nothing may happen before a burst of changes counts as over."""

_LONGEST_BURST_MS = 2_000


async def watch_folder(folder: Path, *, interval: float) -> AsyncGenerator[None, None]:
    """Yields soon after something changed in the folder, in the folders right below it, or in what it is itself (a link
    that was switched, a folder that is gone or back): once for a burst of changes.

    It yields every `interval` seconds at the latest, because not every file system tells of its changes (a network's does
    not), and each time that it begins to watch, because of what changed before."""
    while True:
        watched = await asyncio.to_thread(_find_watched, folder)
        try:
            async with aclosing(_follow([path for path, _ in watched], interval)) as changes:
                async for _ in changes:
                    yield
                    if await asyncio.to_thread(_find_watched, folder) != watched:
                        break
        except OSError:  # gone again, or the kernel has no watches left: look now and then
            await asyncio.sleep(interval)
            yield


async def _follow(paths: Sequence[Path], interval: float) -> AsyncGenerator[None, None]:
    changes = awatch(
        *paths,
        watch_filter=None,
        step=_QUIET_MS,
        debounce=_LONGEST_BURST_MS,
        rust_timeout=max(1, int(interval * 1_000)),
        yield_on_timeout=True,
        recursive=False,
    )
    first = asyncio.ensure_future(anext(changes))
    try:
        await asyncio.sleep(0)  # a turn of the loop, and it watches
        yield
        await first
        yield
        async for _ in changes:
            yield
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await changes.aclose()


def _find_watched(folder: Path) -> Sequence[tuple[Path, tuple[int, int]]]:
    """The folder, those around and below it, and which ones they are at the moment."""
    found = []
    try:
        below = sorted(folder.glob("*/"))
    except OSError:  # it went away while it was looked at
        below = []
    for path in (folder.parent, folder, *below):
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_dir():
            found.append((path, (status.st_dev, status.st_ino)))
    return found
