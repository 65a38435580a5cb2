"""What a change is held to besides its app's health, looked at in a real Redis and on a real HAProxy's statistics page."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import BadConfiguration, Refused
from arborgate.server.probes import Prober, open_prober
from arborgate.server.settings import Settings, parse_settings
from arborgate.tools.change import Change, Check, digest_json
from arborgate.tools.probes import HaproxyProbe, Probe, RedisProbe
from tests.parts.haproxy import BACKEND, USER, Haproxy, run_haproxy
from tests.parts.redis import RedisServer, make_passwords
from tests.server.applier.world import World, until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haproxy]:
    with run_haproxy(tmp_path_factory.mktemp("haproxy")) as running:
        yield running


def configure(haproxy: Haproxy | None = None, redis: str = "", **apps: Any) -> Settings:
    page = {}
    if haproxy is not None:
        page = {"edge": {"url": haproxy.url, "username": USER, "password_file": str(haproxy.password_file)}}
    return parse_settings(
        {
            "redis": [{"name": "cache", "url": redis, "timeout": 1.0}] if redis else [],
            "applier": {"probes": {"haproxy": page, "apps": apps}},
        }
    )


@asynccontextmanager
async def probing(settings: Settings) -> AsyncIterator[Prober]:
    async with open_prober(settings) as prober:
        yield prober


def hold(change: Change, *probes: Probe) -> Change:
    return change.model_copy(update={"check": change.check.model_copy(update={"probes": probes})})


async def test_a_backend_holds_with_enough_servers_up(world: World, haproxy: Haproxy) -> None:
    change = world.scale("api")
    async with probing(configure(haproxy)) as prober:

        async def says(up: int, said: str) -> None:
            probe = HaproxyProbe(endpoint="edge", backend=BACKEND, up=up)

            async def there() -> bool:
                return await prober.probe(hold(change, probe)) == said

            await until(there, f"{up}: {said!r}")

        told = f"The backend {BACKEND} of the HAProxy edge has 2 of 3 servers up."
        await says(3, "")
        haproxy.server_down(1)
        await says(3, told)
        await says(2, "")
        haproxy.server_up(1)
        await says(3, "")


@pytest.mark.parametrize("backend", ["be_empty", "be_none", "stats", "FRONTEND"])
async def test_a_backend_without_servers_does_not_hold(world: World, haproxy: Haproxy, backend: str) -> None:
    probe = HaproxyProbe(endpoint="edge", backend=backend)
    async with probing(configure(haproxy)) as prober:
        said = await prober.probe(hold(world.scale("api"), probe))
    assert said == f"The backend {backend} of the HAProxy edge has no servers."


async def test_a_page_that_does_not_let_us_read_does_not_hold(world: World, haproxy: Haproxy, tmp_path: Path) -> None:
    settings = configure(haproxy)
    wrong = tmp_path / "password"
    wrong.write_text("another")
    page = settings.applier.probes.haproxy["edge"].model_copy(update={"password_file": wrong})
    probes = settings.applier.probes.model_copy(update={"haproxy": {"edge": page}})
    settings = settings.model_copy(update={"applier": settings.applier.model_copy(update={"probes": probes})})
    async with probing(settings) as prober:
        said = await prober.probe(hold(world.scale("api"), HaproxyProbe(endpoint="edge", backend=BACKEND)))
    assert said == "The statistics of the HAProxy edge can't be read."


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"nonsense\r\n\r\n", b""])
async def test_what_is_no_statistics_page_does_not_hold(world: World, answer: bytes) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    page = {"edge": {"url": f"http://127.0.0.1:{port}/stats"}}
    async with server, probing(parse_settings({"applier": {"probes": {"haproxy": page}}})) as prober:
        said = await prober.probe(hold(world.scale("api"), HaproxyProbe(endpoint="edge", backend=BACKEND)))
    assert said == "The statistics of the HAProxy edge can't be read."


async def test_a_redis_holds_while_it_answers_as_a_primary(world: World, redis_server: RedisServer) -> None:
    change = hold(world.scale("api"), RedisProbe(source="cache"))
    async with probing(configure(redis=redis_server.url("reader"))) as prober:
        assert await prober.probe(change) == ""
        redis_server.refuse_writes()
        assert await prober.probe(change) == "The Redis cache is no primary."
        redis_server.accept_writes()
        redis_server.pause()
        assert await prober.probe(change) == "The Redis source cache does not answer."
        redis_server.resume()


async def test_a_redis_holds_with_enough_replicas_that_are_near(world: World, tmp_path: Path) -> None:
    passwords, change = make_passwords(), world.scale("api")
    probe = hold(change, RedisProbe(source="cache", replicas=1))
    with RedisServer(tmp_path, name="primary", passwords=passwords) as primary:
        follows = (f"replicaof {primary.host} {primary.port}",)
        async with probing(configure(redis=primary.url("reader"))) as prober:

            async def says(said: str) -> None:
                async def there() -> bool:
                    return await prober.probe(probe) == said

                await until(there, said)

            await says("The Redis cache has 0 of 1 replicas.")
            with RedisServer(tmp_path, name="replica", passwords=passwords, config=follows) as replica:
                await says("")
                replica.kill()
                await says("The Redis cache has 0 of 1 replicas.")


async def test_probes_of_the_settings_are_added_to_those_that_were_approved(world: World) -> None:
    asked = {"kind": "redis", "source": "cache"}
    settings = configure(redis="redis://127.0.0.1:1/0", api=[asked, {**asked, "replicas": 1}])
    own, approved = RedisProbe(source="cache"), RedisProbe(source="cache", replicas=2)
    async with probing(settings) as prober:
        assert prober.probes(world.scale("api")) == (own, RedisProbe(source="cache", replicas=1))
        assert prober.probes(hold(world.scale("api"), approved, own))[:2] == (approved, own)
        assert prober.probes(world.scale("db")) == ()


async def test_a_wave_waits_for_its_probes_and_is_undone_when_they_do_not_come(world: World, haproxy: Haproxy) -> None:
    async with probing(configure(haproxy)) as prober:
        world.prober = prober
        world.worker = world.make_worker()
        probe = HaproxyProbe(endpoint="edge", backend=BACKEND, up=4)
        proposal = await world.approved(hold(world.scale("db"), probe), world.scale("api"))
        await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert done.state == "rolled_back"
    assert done.state_note.endswith(f"The backend {BACKEND} of the HAProxy edge has 3 of 4 servers up.")
    assert [name for name, _ in world.cluster.patched] == ["db", "db"]


async def test_a_probe_that_fails_twice_while_it_bakes_is_harm(world: World, haproxy: Haproxy) -> None:
    probe = HaproxyProbe(endpoint="edge", backend=BACKEND, up=3)
    async with probing(configure(haproxy)) as prober:
        world.prober = prober
        world.worker = world.make_worker()
        change = hold(world.scale("db"), probe)
        change = change.model_copy(update={"check": change.check.model_copy(update={"bake": 3_000})})
        proposal = await world.approved(change)
        down = False

        async def sleep(seconds: float) -> None:
            nonlocal down
            if not down:
                haproxy.server_down(0)
                down = True

                async def seen() -> bool:
                    return bool(await prober.probe(change))

                await until(seen, "HAProxy has seen it")
            await world.clock.sleep(seconds)

        world.worker._pace = replace(world.worker._pace, sleep=sleep)
        await world.worker.advance(proposal.id)
        haproxy.server_up(0)
    done = await world.book.get(proposal.id)
    assert (done.state, done.state_note.startswith("It was well, and is no longer.")) == ("rolled_back", True)


async def test_a_probe_that_the_applier_can_not_look_at_is_refused_before_anybody_approves(world: World) -> None:
    async with probing(configure()) as prober:
        world.prober = prober
        world.worker = world.make_worker()
        drafted = await world.draft([hold(world.scale("db"), RedisProbe(source="cache"))])
        await world.worker.advance(drafted.id)
        done = await world.book.get(drafted.id)
    assert (done.state, done.state_note) == ("refused", "The applier has no redis cache to probe.")
    with pytest.raises(Refused):
        prober.check(hold(world.scale("db"), HaproxyProbe(endpoint="edge", backend="x")))


@pytest.mark.parametrize(
    ("applier", "told"),
    [
        ({"bake": {"prod": 5}}, "bake.prod: there is no such environment"),
        ({"bake": {"unassigned": -1}}, "greater than or equal to 0"),
        ({"probes": {"apps": {"api": [{"kind": "redis", "source": "none"}]}}}, "there is no Redis source 'none'"),
        (
            {"probes": {"apps": {"api": [{"kind": "haproxy", "endpoint": "none", "backend": "b"}]}}},
            "apps.api: there is no haproxy 'none'",
        ),
        ({"probes": {"apps": {"api": [{"kind": "ping"}]}}}, "does not match any of the expected tags"),
        ({"probes": {"haproxy": {"edge": {"url": "http://h/stats;csv"}}}}, "with nothing behind it"),
        ({"probes": {"haproxy": {"edge": {"url": "http://user:word@h/stats"}}}}, "with nothing behind it"),
        ({"probes": {"haproxy": {"edge": {"url": "unix:///run/haproxy.sock"}}}}, "with nothing behind it"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(applier: dict[str, Any], told: str) -> None:
    with pytest.raises(BadConfiguration, match=told.replace(".", r"\.")):
        parse_settings({"applier": applier})


def test_a_check_from_before_there_were_probes_keeps_its_digest() -> None:
    before = {"app": "main/argocd/api", "health": "Healthy", "sync": None, "operation": False, "timeout": 300}
    assert digest_json(Check(app="main/argocd/api").model_dump(mode="json")) == digest_json(before)
    for after in (Check(app="main/argocd/api", bake=1), Check(app="main/argocd/api", probes=(RedisProbe(source="c"),))):
        assert digest_json(after.model_dump(mode="json")) != digest_json(before)
