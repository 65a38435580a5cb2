"""The two clusters that must answer alike: the sandbox of the demo, and a real API server."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2

from arborgate.server.demo.cluster import APPLIER, SERVE, SandboxCluster, write_kubeconfig
from arborgate.server.demo.listening import open_port, serving, url_of
from arborgate.server.demo.store import KINDS, NAMESPACE, Kind, Store
from tests.parts.kube import Identity, KubeApi

Json = dict[str, Any]


class Cluster(Protocol):
    """What the tests need of either: who may call it, a namespace of their own, and a hand that changes its objects."""

    url: str
    namespace: str

    def token(self, identity: Identity) -> str: ...
    def kubeconfig(self, identity: Identity, folder: Path) -> Path: ...
    def client(self) -> httpx2.AsyncClient: ...
    def put(self, manifest: Mapping[str, Any]) -> None: ...
    def delete(self, api: str, plural: str, name: str) -> None: ...
    def forget(self) -> None:
        """Forgets the past: older versions can't be watched from any more."""
        ...


class RealCluster:
    """The API server of the tests."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self.url = api.url
        self.namespace = namespace

    def token(self, identity: Identity) -> str:
        return self._api.token(identity)

    def kubeconfig(self, identity: Identity, folder: Path) -> Path:  # its own folder keeps it
        return self._api.kubeconfig(identity)

    def client(self) -> httpx2.AsyncClient:
        trust = ssl.create_default_context(cafile=self._api.ca_file)
        return httpx2.AsyncClient(base_url=self.url, verify=trust, trust_env=False, timeout=30)

    def put(self, manifest: Mapping[str, Any]) -> None:
        self._api.apply(manifest)

    def delete(self, api: str, plural: str, name: str) -> None:
        root = "/apis" if "/" in api else "/api"
        self._api.call("DELETE", f"{root}/{api}/namespaces/{self.namespace}/{plural}/{name}")

    def forget(self) -> None:
        self._api.forget_history()


class Sandbox:
    """The sandbox cluster; its store is at hand."""

    namespace = "argocd"

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = Store()
        self._tokens = {identity: secrets.token_hex(8) for identity in (Identity.SERVE, Identity.APPLIER)}
        who = {Identity.SERVE: SERVE, Identity.APPLIER: APPLIER}
        self.cluster = SandboxCluster(self.store, {token: who[each] for each, token in self._tokens.items()})
        self.store.put(NAMESPACE, {"metadata": {"name": self.namespace}})

    def token(self, identity: Identity) -> str:
        return self._tokens[identity]

    def kubeconfig(self, identity: Identity, folder: Path) -> Path:
        file = folder / "kubeconfig"
        write_kubeconfig(file, self.url, self.token(identity))
        return file

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30)

    def put(self, manifest: Mapping[str, Any]) -> None:
        kind = next(one for one in KINDS if (one.api, one.name) == (manifest["apiVersion"], manifest["kind"]))
        self.store.put(kind, manifest)

    def delete(self, api: str, plural: str, name: str) -> None:
        self.store.delete(_find_kind(api, plural), self.namespace, name)

    def forget(self) -> None:
        self.store.forget()


@asynccontextmanager
async def run_sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox cluster, served over HTTP on a loopback port."""
    with open_port() as bound:
        sandbox = Sandbox(url_of(bound))
        async with serving(sandbox.cluster.app, bound):
            yield sandbox
            sandbox.cluster.close()


def _find_kind(api: str, plural: str) -> Kind:
    return next(one for one in KINDS if (one.api, one.plural) == (api, plural))
