"""The real parts as fixtures: each starts once a session, and each test gets it clean."""

from collections.abc import Iterator

import pytest

from tests.parts.kube import KubeApi
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer, run_cluster, run_sentinel


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
