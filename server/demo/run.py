"""The demo: Arborgate itself, `serve` and the applier, on embedded parts of one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ...policies.errors import BadConfiguration, Unavailable
from ...tools.redis.connection import connect
from ..background import end
from .cluster import APPLIER, SERVE, SandboxCluster, write_kubeconfig
from .configuration import Places, write_configuration
from .listening import LOOPBACK, open_port, serving, url_of
from .parts import Part, arborgate, start_part
from .reconciler import Reconciler
from .redis import prepare_redis
from .running import Running, place_of, write_running
from .store import Store
from .traffic import Traffic, fill
from .world import read_world

READY_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_WORKER = "payments-worker"


@dataclass(frozen=True, slots=True)
class Demo:
    """What is running: its address, its folder (gone afterwards), and whether its Redis enforces who may do what."""

    url: str
    folder: Path
    redis_guarded: bool


async def run_demo(port: int, announce: Callable[[Demo], None], *, redis_program: str | None = None) -> None:
    """Runs the demo until SIGINT, SIGTERM or SIGHUP, and leaves nothing behind. `announce` is called once it serves.

    `redis_program` is the redis-server to use (`""`: the one in pure Python; default: by PATH). Raises
    `BadConfiguration` when the port is taken and `PartEnded` when a part ends by itself."""
    _require_free(port)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    work = asyncio.create_task(_run(port, announce, redis_program))
    try:
        await asyncio.wait({stopping, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        work.cancel()
        await asyncio.gather(stopping, work, return_exceptions=True)
    if not work.cancelled():
        work.result()


async def _run(port: int, announce: Callable[[Demo], None], redis_program: str | None) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="arborgate-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        url = f"http://{LOOPBACK}:{port}"
        cluster_socket, issuer_socket = (stack.enter_context(open_port()) for _ in range(2))
        places = Places(folder, url, url_of(issuer_socket))
        redis = prepare_redis(folder, _find_port(), program=redis_program)
        first = await start_part("redis", redis.command, folder)
        stack.push_async_callback(first.stop)

        client = connect(redis.url, username="apps", password=redis.passwords["apps"])
        stack.push_async_callback(client.aclose)
        traffic = Traffic(client)
        store = Store()
        reconciler = Reconciler(read_world(), store, settled=lambda app, runs: _settle(traffic, app, runs))
        tokens = {identity: secrets.token_urlsafe(32) for identity in (SERVE, APPLIER)}
        cluster = SandboxCluster(store, {token: identity for identity, token in tokens.items()})
        await stack.enter_async_context(serving(cluster.app, cluster_socket))
        stack.callback(cluster.close)
        write_kubeconfig(places.kubeconfig, url_of(cluster_socket), tokens[SERVE])
        write_kubeconfig(places.applier_kubeconfig, url_of(cluster_socket), tokens[APPLIER])
        write_configuration(places, port, redis)

        tasks = [asyncio.create_task(first.watch())]
        stack.push_async_callback(_end_all, tasks)
        await _first(_wait_for_redis(client), tasks)
        serve = await start_part("serve", arborgate("serve", "--config", str(places.serve)), folder)
        stack.push_async_callback(serve.stop)
        applier = await start_part("applier", arborgate("applier", "--config", str(places.applier)), folder)
        stack.push_async_callback(_stop_together, serve, applier)
        tasks += [asyncio.create_task(part.watch()) for part in (serve, applier)]

        await _first(fill(client), tasks)
        tasks += [asyncio.create_task(reconciler.run()), asyncio.create_task(traffic.run())]
        secret = secrets.token_urlsafe(32)
        await stack.enter_async_context(serving(_build_issuer(places, secret), issuer_socket))
        await _first(_wait_until_ready(url), tasks)
        found_at = place_of(port)
        stack.callback(found_at.unlink, missing_ok=True)
        write_running(Running(pid=os.getpid(), mcp=f"{url}/mcp", issuer=places.issuer, secret=secret), found_at)
        announce(Demo(url, folder, redis.guarded))
        await _first(asyncio.Event().wait(), tasks)


def _build_issuer(places: Places, secret: str) -> Any:
    # Imported while the other processes start: it takes a while.
    from .issuer import Issuer  # noqa: PLC0415
    from .issuer_pages import IssuerPages  # noqa: PLC0415

    return IssuerPages(Issuer(places.issuer, places.url, secret)).app


def _settle(traffic: Traffic, app: str, runs: bool) -> None:
    if app == _WORKER:
        traffic.running = runs


async def _first(work: Coroutine[Any, Any, object], tasks: list[asyncio.Task[None]]) -> None:
    """Until the work is done; raises when one of the tasks, which have no end of their own, fails before. What asks Redis
    is done by this alone: it is ended for certain, where a cancellation of our own might be lost (see `end`)."""
    doing = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({doing, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        await end(doing)


async def _end_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Those that there are by then."""
    await end(*tasks)


async def _stop_together(*parts: Part) -> None:
    await asyncio.gather(*(part.stop() for part in parts))


async def _wait_for_redis(client: Redis) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with suppress(RedisError, OSError):
                await client.get("any")
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def _wait_until_ready(url: str) -> None:
    """Until `serve` says that it is ready; raises `Unavailable` when that takes too long."""
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    with suppress(httpx2.TransportError):
                        if (await client.get("/readyz")).is_success:
                            return
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError as error:
            raise Unavailable(f"The demo was not ready within {READY_SECONDS:g} seconds.") from error


def _require_free(port: int) -> None:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as error:
        raise BadConfiguration(
            f"Port {port} can't be had: {error.strerror}.",
            hint=f"Another demo may be running. Choose another port: arborgate demo --port {port + 1}",
        ) from error


def _find_port() -> int:
    with open_port() as probe:
        number: int = probe.getsockname()[1]
        return number
