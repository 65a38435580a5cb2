"""Agents inside the cluster: ServiceAccount tokens of the real API server's own issuer."""

from __future__ import annotations

import re
import ssl
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml
from joserfc.util import urlsafe_b64decode

from arborgate.tools.record import Event
from tests.identity.served import Seen, Served
from tests.parts.kube import Identity, KubeApi
from tests.parts.redis import RedisServer

pytestmark = pytest.mark.anyio

ISSUER = "https://kubernetes.default.svc"
PAGE = Path(__file__).parents[2] / "docs" / "identity" / "kubernetes.md"


@dataclass(frozen=True)
class Cluster:
    """A replica that trusts the API server's issuer, and the namespace of the agents."""

    served: Served
    kube: KubeApi
    namespace: str

    def subject(self, account: str) -> str:
        return f"system:serviceaccount:{self.namespace}:{account}"

    def token(self, account: str, *audiences: str, **spec: Any) -> str:
        """What the kubelet would project into a pod of this account."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": audiences or (self.served.audience,), "expirationSeconds": 600, **spec},
        }
        return str(self.kube.call("POST", path, asked)["status"]["token"])


@pytest.fixture(scope="module")
def trusting(
    tmp_path_factory: pytest.TempPathFactory, kube_api: KubeApi, redis_server: RedisServer
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("served")
    own, groups = folder / "serve.token", folder / "groups.yaml"
    issuer = {
        "issuer": ISSUER,
        "jwks_url": f"{kube_api.url}/openid/v1/jwks",
        "ca_file": str(kube_api.ca_file),
        "jwks_token_file": str(own),
        "services": True,
        "agent_claim": "sub",
        "groups_file": str(groups),
        "longest_life": 3600,
    }
    kube_api.recover()
    redis_server.recover()
    with kube_api.fresh_namespace() as namespace:
        for account in ("scaler", "watcher"):
            metadata = {"name": account, "namespace": namespace}
            kube_api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        groups.write_text(yaml.safe_dump({"arborgate-developers": [f"system:serviceaccount:{namespace}:scaler"]}))
        own.touch(mode=0o600)
        own.write_text(kube_api.token(Identity.SERVE))
        with Served(folder, redis_server.url(), [issuer], jwks_min_interval=0.1) as served:
            yield Cluster(served, kube_api, namespace)
        kube_api.recover()


@pytest.fixture
def cluster(trusting: Cluster) -> Iterator[Cluster]:
    """The one replica and namespace of these tests; faults that a test leaves behind are undone."""
    yield trusting
    trusting.kube.recover()


async def test_an_agent_in_the_cluster_is_its_service_account(cluster: Cluster) -> None:
    scaler, watcher = (f"{ISSUER}#{cluster.subject(name)}" for name in ("scaler", "watcher"))
    assert await cluster.served.ask(cluster.token("scaler")) == Seen(
        scaler, cluster.subject("scaler"), groups=("arborgate-developers",), roles=("developer",), itself=True
    )
    assert await cluster.served.ask(cluster.token("watcher")) == Seen(watcher, cluster.subject("watcher"), itself=True)
    recorded = [one.caller for one in cluster.served.records(Event.CALL_ANSWERED) if one.tool == "whoami"]
    assert recorded[-2:] == [scaler, watcher]


async def test_a_token_that_is_bound_to_a_pod_is_the_same_caller(cluster: Cluster) -> None:
    spec = {"serviceAccountName": "scaler", "containers": [{"name": "agent", "image": "agent"}]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "agent", "namespace": cluster.namespace},
        "spec": spec,
    }
    uid = cluster.kube.apply(pod)["metadata"]["uid"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "agent", "uid": uid}
    token = cluster.token("scaler", boundObjectRef=bound)
    claims = orjson.loads(urlsafe_b64decode(token.split(".")[1].encode()))
    assert claims["kubernetes.io"]["pod"]["name"] == "agent"
    assert (await cluster.served.ask(token)).roles == ("developer",)


async def test_the_pod_of_the_documentation_gets_a_token_that_is_good_here(cluster: Cluster) -> None:
    blocks = re.findall(r"^   ```yaml kubernetes\n(.*?)^   ```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    account, pod = yaml.safe_load_all(
        textwrap.dedent(blocks[0]).replace("namespace: shop", f"namespace: {cluster.namespace}")
    )
    made = cluster.kube.apply(pod)
    (volume,) = made["spec"]["volumes"]
    (source,) = volume["projected"]["sources"]
    asked = source["serviceAccountToken"]
    assert asked["audience"] == "https://arborgate.example.com/mcp"
    cluster.kube.apply(account)
    token = cluster.token(made["spec"]["serviceAccountName"], expirationSeconds=asked["expirationSeconds"])
    assert (await cluster.served.ask(token)).key == f"{ISSUER}#{cluster.subject('release-agent')}"


async def test_a_token_for_the_api_server_itself_opens_nothing(cluster: Cluster) -> None:
    """What a pod finds under /var/run/secrets by default, and what steals no access here when it leaks."""
    for audiences in ((ISSUER,), ("https://vault.example.test",)):
        assert (await cluster.served.knock(cluster.token("scaler", *audiences))).status_code == 401
    assert (await cluster.served.knock(cluster.kube.token(Identity.SERVE))).status_code == 401


async def test_a_token_that_lives_too_long_is_refused(cluster: Cluster) -> None:
    assert (await cluster.served.knock(cluster.token("scaler", expirationSeconds=7200))).status_code == 401
    claims = orjson.loads(urlsafe_b64decode(cluster.token("scaler").split(".")[1].encode()))
    assert claims["exp"] - time.time() < 660


async def test_known_keys_outlive_the_api_server(cluster: Cluster) -> None:
    token, another = cluster.token("scaler"), cluster.token("watcher")
    await cluster.served.ask(token)
    cluster.kube.stop()
    for one in (token, another):
        assert (await cluster.served.ask(one)).key.startswith(f"{ISSUER}#system:serviceaccount:")


def test_the_keys_are_for_those_with_an_account_alone(kube_api: KubeApi) -> None:
    """Why `jwks_token_file` is there: by Kubernetes' own default role, every ServiceAccount may read the keys."""
    with httpx2.Client(verify=ssl.create_default_context(cafile=kube_api.ca_file), trust_env=False) as stranger:
        assert stranger.get(f"{kube_api.url}/openid/v1/jwks").status_code in (401, 403)
    found = kube_api.request("GET", "/openid/v1/jwks", identity=Identity.SERVE)
    assert (found.status_code, [key["alg"] for key in found.json()["keys"]]) == (200, ["ES256"])
