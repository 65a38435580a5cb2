"""A whole Arborgate on real parts: `serve` and `applier` as processes of their own, each under its own identity."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml
from mcp.client.client import Client

from arborgate.server.approvals import new_signing_key
from tests.parts.kube import Identity, KubeApi
from tests.parts.oidc import OidcProvider, describe_agent, describe_pages
from tests.parts.process import Process, find_free_ports
from tests.parts.redis import RedisServer
from tests.server.serving import connected

CLUSTER = "main"
PAGES_SECRET = "only-for-this-test"
ENVIRONMENTS = [
    {"name": "production", "strict": True, "namespaces": ["prod-*"]},
    {"name": "dev", "namespaces": ["dev-*"]},
]


class Installation:
    """Settings, keys and two processes in one folder; Applications live in `namespace` of the API server."""

    def __init__(
        self,
        folder: Path,
        kube: KubeApi,
        redis: RedisServer,
        oidc: OidcProvider,
        namespace: str,
        **changes: Any,
    ) -> None:
        (port,) = find_free_ports(1)
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.kube, self.redis, self.oidc, self.namespace = kube, redis, oidc, namespace
        self.record = folder / "record"
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True)
        self.changes = changes
        self._serve: Process | None = None
        self._applier: Process | None = None
        private, public = new_signing_key()
        self._keep("signing.jwk", private)
        self._keep("verify.jwk", public)
        self._keep("pages.secret", PAGES_SECRET)
        self._port = port

    def settings(self, identity: Identity) -> dict[str, Any]:
        """The settings of one of the two processes: same world, other credentials."""
        clusters = [
            {
                "name": CLUSTER,
                "kubeconfig": str(self.kube.kubeconfig(identity)),
                "namespaces": [self.namespace],
                "workloads": False,
            }
        ]
        serve = identity is Identity.SERVE
        own: Mapping[str, Any] = {
            "http": {"port": self._port, "call_timeout": 5},
            "identity": {
                "issuers": [{"issuer": self.oidc.issuer}],
                "jwks_min_interval": 0.1,
                "pages": {
                    "issuer": self.oidc.issuer,
                    "client_id": "arborgate-pages",
                    "client_secret_file": str(self.folder / "pages.secret"),
                    "scope": "openid profile",
                },
            },
            "redis": [{"name": "main", "url": self.redis.url("reader")}],
        }
        return {
            "replica": str(identity),
            "clusters": clusters,
            "environments": ENVIRONMENTS,
            "agents": {"trusted": ["*"]},
            "stale_after": 30,
            "state": {"url": self.redis.url(), "timeout": 1},
            "record": {"dir": str(self.record)},
            "proposals": {
                "signing_key_file" if serve else "verify_key_file": str(
                    self.folder / ("signing.jwk" if serve else "verify.jwk")
                ),
            },
            "applier": {"health_timeout": 20, "lease": 5},
            **(own if serve else {}),
            **self.changes,
        }

    def start_serve(self, *, ready: bool = True) -> Process:
        self._serve = self.start("serve")
        self._serve.wait_ready(self._is_ready if ready else self._is_alive)
        return self._serve

    def start_applier(self) -> Process:
        self._applier = self.start("applier")
        return self._applier

    def __enter__(self) -> Self:
        for client in (
            describe_pages("arborgate-pages", PAGES_SECRET, f"{self.url}/login/callback"),
            describe_agent("arborgate-terminal"),
        ):
            self.oidc.add_client(client)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._serve, self._applier):
            if process is not None:
                process.stop()

    def token(self, person: str, *, audience: str = "/mcp") -> str:
        """An access token of a person through their copilot."""
        return str(self.oidc.log_in(person, resource=f"{self.url}{audience}")["access_token"])

    def terminal_token(self, person: str) -> str:
        """An access token as `arborgate proposals` gets it: another client, another audience."""
        resource = f"{self.url}/approvals"
        return str(self.oidc.log_in(person, client_id="arborgate-terminal", resource=resource)["access_token"])

    @asynccontextmanager
    async def copilot(self, person: str, *, era: str = "2026-07-28") -> AsyncIterator[Client]:
        """The MCP SDK's own client, as this person's copilot."""
        async with connected(f"{self.url}/mcp", self.token(person), era) as client:
            yield client

    def add_app(self, name: str, **changes: Any) -> dict[str, Any]:
        """Puts an Application into the cluster as Argo CD would show it; `changes` go into spec and status by name."""
        spec = {
            "project": "default",
            "source": {
                "repoURL": "https://git.example.com/shop.git",
                "path": name,
                "targetRevision": "main",
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "prod-shop"},
            **changes.get("spec", {}),
        }
        manifest = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name, "namespace": self.namespace, **changes.get("metadata", {})},
            "spec": spec,
        }
        applied = self.kube.apply(manifest)
        status = {
            "health": {"status": "Healthy"},
            "sync": {
                "status": "Synced",
                "revision": "a" * 40,
                "comparedTo": {"source": spec["source"], "destination": spec["destination"]},
            },
            **changes.get("status", {}),
        }
        self.patch_app(name, {"status": status})
        return applied

    def patch_app(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch as admin: what Argo CD's own controller would write."""
        return self.kube.call("PATCH", self.path(name), patch, content_type="application/merge-patch+json")

    def get_app(self, name: str) -> dict[str, Any]:
        return self.kube.call("GET", self.path(name))

    def path(self, name: str) -> str:
        return f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/applications/{name}"

    def start(self, command: str) -> Process:
        """Starts one of the two, ready or not."""
        return Process(command, (sys.executable, *self.argv(command)), self._logs)

    def argv(self, command: str) -> list[str]:
        """What Python is to run for `serve` or `applier`, with settings written for it."""
        identity = Identity.SERVE if command == "serve" else Identity.APPLIER
        config = self._keep(f"{command}.yaml", yaml.safe_dump(self.settings(identity)))
        return ["-m", "arborgate.server.cli", command, "--config", str(config)]

    def _keep(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def _is_ready(self) -> bool:
        return self._status("/readyz") == 200

    def _is_alive(self) -> bool:
        return self._status("/healthz") == 200

    def _status(self, path: str) -> int:
        try:
            return httpx2.get(f"{self.url}{path}", timeout=2).status_code
        except httpx2.HTTPError:
            return 0
