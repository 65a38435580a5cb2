"""Connecting to clusters and reading one object, against a real API server as `serve`."""

import json
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from kubernetes.aio.config import incluster_config

from arborgate.policies.errors import BadConfiguration, Refused, Unavailable
from arborgate.server.settings import HttpSettings
from arborgate.tools.change import Target
from arborgate.tools.kubernetes.source import PLURALS, READ_TIMEOUT, Clusters, connect, fetch, object_path
from tests.parts.kube import Identity, KubeApi
from tests.tools.kubernetes.stand_in import run_stand_in

pytestmark = pytest.mark.anyio


def _target(name: str, namespace: str = "default", **changed: str) -> Target:
    fields = {"app": "a", "cluster": "sandbox", "api": "apps/v1", "kind": "Deployment", **changed}
    return Target(namespace=namespace, name=name, **fields)


def _kubeconfig(folder: Path, server: str, **user: Any) -> Path:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "one", "cluster": {"server": server}}],
        "users": [{"name": "one", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": "one", "user": "one"}} for name in ("here", "there")],
        "current-context": "here",
    }
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
async def clusters(kube_api: KubeApi) -> AsyncIterator[Clusters]:
    found = Clusters({"sandbox": await connect("sandbox", kube_api.kubeconfig(Identity.SERVE), "")})
    yield found
    await found.close()


async def test_an_object_is_read_as_it_is_and_a_missing_one_is_none(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    made = kube_api.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": kube_namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        }
    )
    assert await clusters.read(_target("web", kube_namespace)) == made
    assert await clusters.read(_target("none", kube_namespace)) is None


async def test_a_cluster_that_is_away_is_named_and_its_address_is_not(
    kube_api: KubeApi, kube_namespace: str, clusters: Clusters
) -> None:
    kube_api.stop()
    with pytest.raises(Unavailable) as caught:
        await clusters.read(_target("web", kube_namespace))
    told = f"{caught.value} {caught.value.hint} {caught.value.detail}"
    assert "sandbox" in told
    assert "127.0.0.1" not in told


async def test_a_credential_that_is_refused_is_no_missing_object(kube_api: KubeApi, tmp_path: Path) -> None:
    file = _kubeconfig(tmp_path, kube_api.url, token="nobody-has-this")
    config = json.loads(file.read_text())
    config["clusters"][0]["cluster"]["certificate-authority"] = str(kube_api.ca_file)
    file.write_text(json.dumps(config))
    clusters = Clusters({"sandbox": await connect("sandbox", file, "")})
    with pytest.raises(Unavailable, match="does not let Arborgate read"):
        await clusters.read(_target("web"))
    await clusters.close()


async def test_an_unknown_cluster_is_told_with_the_known_ones(clusters: Clusters) -> None:
    with pytest.raises(Unavailable, match="'elsewhere'") as caught:
        await clusters.read(_target("web", cluster="elsewhere"))
    assert caught.value.hint == "Configured: sandbox."


async def test_an_answer_that_is_no_object_is_no_answer() -> None:
    async with run_stand_in() as server:
        server.lists = [_nonsense, _nonsense]
        clusters = Clusters({"sandbox": server.client()})
        with pytest.raises(Unavailable, match="something else than"):
            await clusters.read(_target("web"))
        await clusters.close()


async def _nonsense(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>a login page</html>", content_type="application/json")


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap", "Application/../Secret"])
def test_only_the_kinds_on_the_list_have_a_path(kind: str) -> None:
    assert kind not in PLURALS
    with pytest.raises(Refused):
        object_path(_target("web", kind=kind))


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "../secrets/x"},
        {"name": ".."},
        {"name": ""},
        {"name": "a?watch=1"},
        {"name": "Upper"},
        {"namespace": "default/secrets"},
        {"namespace": ""},
        {"api": "v1/namespaces/x/secrets"},
        {"api": "../v1"},
    ],
)
def test_a_name_that_is_no_name_reaches_nothing(changed: dict[str, str]) -> None:
    target = _target(**{"name": "web", **changed})
    with pytest.raises(Refused):
        object_path(target)


def test_core_kinds_and_grouped_kinds_have_their_own_roots() -> None:
    assert object_path(_target("a", api="v1", kind="Pod")) == "/api/v1/namespaces/default/pods/a"
    assert object_path(_target("a")) == "/apis/apps/v1/namespaces/default/deployments/a"


async def test_a_kubeconfig_is_read_with_the_context_that_is_asked_for(tmp_path: Path) -> None:
    client = await connect("alpha", _kubeconfig(tmp_path, "http://127.0.0.1:1", token="t"), "there")
    assert client.configuration.host == "http://127.0.0.1:1"


@pytest.mark.parametrize("context", ["", "nowhere"])
async def test_a_configuration_that_cannot_be_used_names_the_cluster(tmp_path: Path, context: str) -> None:
    file = _kubeconfig(tmp_path, "http://127.0.0.1:1") if context else tmp_path / "missing"
    with pytest.raises(BadConfiguration, match="'alpha'"):
        await connect("alpha", file, context)


async def test_in_a_pod_the_pods_own_account_is_used_and_its_token_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text(_read_any_authority())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    client = await connect("alpha", None, "")
    assert client.configuration.host == "https://10.0.0.1:443"
    assert await client.configuration.get_api_key_with_prefix("BearerToken") == "bearer first"
    token.write_text("second")
    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=_Later, timedelta=timedelta))
    assert await client.configuration.get_api_key_with_prefix("BearerToken") == "bearer second"


class _Later(datetime):
    """A clock that is two minutes ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Later":
        return super().now(tz) + timedelta(minutes=2)


def _read_any_authority() -> str:
    return ssl.DER_cert_to_PEM_cert(ssl.create_default_context().get_ca_certs(binary_form=True)[0])


async def test_a_plugins_token_is_renewed_when_it_is_about_to_expire(tmp_path: Path) -> None:
    count = tmp_path / "count"
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        f"echo x >> {count}\n"
        f"n=$(wc -l < {count})\n"
        'printf \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"number-%d","expirationTimestamp":"2020-01-01T00:00:00Z"}}\' $n\n'
    )
    plugin.chmod(0o700)
    how = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    client = await connect("alpha", _kubeconfig(tmp_path, "http://127.0.0.1:1", exec=how), "")
    assert await client.configuration.get_api_key_with_prefix("BearerToken") == "Bearer number-2"
    assert await client.configuration.get_api_key_with_prefix("BearerToken") == "Bearer number-3"


async def test_a_slow_cluster_is_given_up_before_the_deadline_of_a_call() -> None:
    assert READ_TIMEOUT.total is not None
    assert READ_TIMEOUT.total < HttpSettings().call_timeout
    async with run_stand_in() as server:
        server.lists = [server.never_answer]
        clusters = Clusters({"sandbox": server.client()})
        with pytest.raises(TimeoutError):
            await fetch(clusters.client("sandbox"), "/api", limit=ClientTimeout(total=0.05))
        await clusters.close()
