"""The pages behind a real server on loopback, for a real browser and a real terminal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arborgate.server.doorkeeper import Doorkeeper
from arborgate.server.listen import listen, serve_until
from arborgate.server.metrics import Metrics
from arborgate.server.settings import HttpSettings
from tests.server.web.world import World


@asynccontextmanager
async def serve(world: World, port: int = 0) -> AsyncIterator[None]:
    """Serves at the world's own URL (or at another port, as a replica behind it), behind the checks of Host and Origin
    that stand before every request."""
    port = port or int(world.url.rpartition(":")[2])
    settings = HttpSettings(port=port, public_url=world.url, drain_timeout=1.0)
    stop = asyncio.Event()
    with listen(settings.host, port) as socket:
        app = Doorkeeper(world.app, settings, Metrics())
        serving = asyncio.create_task(serve_until(stop, app, settings, socket, world.book.follower.end))
        try:
            yield
        finally:
            stop.set()
            await serving
