"""The real parts as fixtures: each starts once a session, and each test gets it clean."""

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakeredis import TcpFakeServer
from playwright.async_api import Browser, Page

from tests.parts.chromium import open_page, run_chromium
from tests.parts.git import GitServer
from tests.parts.kube import KubeApi
from tests.parts.oidc import OidcProvider
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer, run_cluster, run_sentinel
from tests.tools.git.repository import FILES, NAME


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One redis-server for the session; tests that keep state in it take `redis_url` instead."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """URL of an empty Redis as the user `arborgate`; faults that the test leaves behind are undone."""
    redis_server.recover()
    redis_server.flush()
    yield redis_server.url()
    redis_server.recover()


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """A Git server with the shop's repository."""
    folder = tmp_path / "repositories"
    folder.mkdir()
    with GitServer(folder) as running:
        running.add(NAME, FILES)
        yield running


@pytest.fixture
def fake_url() -> Iterator[str]:
    """The Redis in pure Python that the demo falls back to."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSentinel]:
    with run_sentinel(tmp_path_factory.mktemp("sentinel")) as sentinel:
        yield sentinel


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with run_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kube_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApi]:
    """One API server for the session; tests that put objects into it take `kube_namespace` too."""
    with KubeApi(tmp_path_factory.mktemp("kube")) as api:
        yield api


@pytest.fixture
def kube_namespace(kube_api: KubeApi) -> Iterator[str]:
    """An empty namespace of this test's own; faults and objects that the test leaves behind are undone."""
    kube_api.recover()
    with kube_api.fresh_namespace() as name:
        yield name
        kube_api.recover()


@pytest.fixture(scope="session")
def oidc_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


@pytest.fixture
def oidc_provider(oidc_session: OidcProvider) -> Iterator[OidcProvider]:
    """The session's OpenID provider; faults that the test leaves behind are undone."""
    yield oidc_session
    oidc_session.recover()


@pytest.fixture(scope="session")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    """One Chromium for the session, on the event loop that the asynchronous tests share."""
    async with run_chromium() as chromium:
        yield chromium


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page in a browser context of this test's own."""
    async with open_page(browser) as opened:
        yield opened
