"""The servers that are measured, each a process of its own on a loopback port: `arborgate serve`, the bare SDK, the peer."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml
from tests.parts.install import install_npm
from tests.parts.kube import Identity, KubeApi
from tests.parts.process import PartFailed, Process, find_free_ports
from tests.parts.redis import RedisServer

from .issuer import Issuer
from .load import write_request

ROOT: Final = Path(__file__).parent.parent
PEER_SOURCE: Final = Path(__file__).parent / "peer"
PROTOCOL: Final = "2026-07-28"

_READY_SECONDS: Final = 60
META: Final = {
    "io.modelcontextprotocol/protocolVersion": PROTOCOL,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class McpServer:
    """An MCP server on loopback: how to ask it over HTTP."""

    port: int
    headers: Mapping[str, str]
    modern: bool

    def write_call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> str:
        """A `tools/call` as a whole HTTP request."""
        headers, body = self._describe("tools/call", {"name": tool, "arguments": dict(arguments or {})})
        return write_request(self.port, "/mcp", headers, body)

    def ask(self, method: str, params: Mapping[str, Any], client: httpx2.Client) -> tuple[dict[str, Any], int]:
        """The result of one request, and the bytes of its body; raises RuntimeError when it is an error."""
        headers, body = self._describe(method, params)
        answer = client.post(f"http://127.0.0.1:{self.port}/mcp", headers=headers, content=json.dumps(body))
        text = answer.text
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            text = next(line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:"))
        if answer.status_code != 200 or "result" not in (parsed := json.loads(text)):
            raise RuntimeError(f"{method} was answered with {answer.status_code}: {text[:600]}")
        result: dict[str, Any] = parsed["result"]
        if result.get("isError"):
            raise RuntimeError(f"{method} was answered with an error: {text[:600]}")
        return result, len(answer.content)

    def _describe(self, method: str, params: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self.headers,
        }
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}
        if self.modern:
            headers |= {"MCP-Protocol-Version": PROTOCOL, "Mcp-Method": method}
            if "name" in params:
                headers["Mcp-Name"] = str(params["name"])
            body["params"]["_meta"] = META
        return headers, body


def write_settings(folder: Path, api: KubeApi, redis: RedisServer, issuer: Issuer, port: int) -> Path:
    """The settings of a `serve` with everything on: tokens, policy, redaction, the durable record, all watches."""
    password = folder / "redis-password"
    password.touch(mode=0o600)
    password.write_text(redis.passwords["arborgate"])
    settings = {
        "http": {"port": port},
        "identity": {
            "issuers": [{"issuer": issuer.url}],
            "limits": {"rate": 1_000_000, "burst": 1_000_000, "in_flight": 1_000},  # what is measured is one caller
            "stdio": {"bench": {"subject": "ada", "groups": ["arborgate-developers"]}},
        },
        "clusters": [{"name": "live", "kubeconfig": str(api.kubeconfig(Identity.SERVE))}],
        "environments": [
            {"name": "production", "strict": True, "labels": {"env": "production"}},
            {"name": "staging", "labels": {"env": "staging"}},
            {"name": "development", "labels": {"env": "development"}},
        ],
        "agents": {"trusted": ["*"]},
        "state": {
            "url": f"redis://{redis.host}:{redis.port}/0",
            "username": "arborgate",
            "password_file": str(password),
        },
        "record": {"dir": str(folder / "record")},
    }
    file = folder / "arborgate.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@contextmanager
def run_arborgate(folder: Path, settings: Path, issuer: Issuer, port: int) -> Iterator[McpServer]:
    """`arborgate serve`, ready: the tree is in memory."""
    argv = (sys.executable, "-m", "arborgate.server.cli", "serve", "--config", settings)
    with _running("arborgate", argv, folder, f"http://127.0.0.1:{port}/readyz"):
        token = issuer.token(f"http://127.0.0.1:{port}/mcp")
        yield McpServer(port, {"Authorization": f"Bearer {token}"}, modern=True)


@contextmanager
def run_bare(folder: Path) -> Iterator[McpServer]:
    """The bare SDK with one trivial tool, `hello`."""
    (port,) = find_free_ports(1)
    with _running("bare", (sys.executable, ROOT / "bench" / "bare.py", str(port)), folder, f"http://127.0.0.1:{port}/"):
        yield McpServer(port, {}, modern=True)


@contextmanager
def run_peer(folder: Path, api: KubeApi) -> Iterator[McpServer]:
    """kubernetes-mcp-server, read-only, under the same identity as `arborgate serve`."""
    (port,) = find_free_ports(1)
    argv = (
        find_peer(),
        "--bind-address=127.0.0.1",
        f"--port={port}",
        "--read-only",
        "--stateless",
        f"--kubeconfig={api.kubeconfig(Identity.SERVE)}",
    )
    with _running("kubernetes-mcp-server", argv, folder, f"http://127.0.0.1:{port}/healthz"):
        yield McpServer(port, {}, modern=False)


def find_peer() -> Path:
    """The program of kubernetes-mcp-server, installed from npm into the cache of the tests' parts when it is missing."""
    folder = install_npm("peer", PEER_SOURCE)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"kubernetes-mcp-server-{sys.platform}-{machine}"
    found = folder / "node_modules" / name / "bin" / name
    if not found.exists():
        raise PartFailed(f"kubernetes-mcp-server has no program for {sys.platform} on {machine}")
    return found


@contextmanager
def _running(name: str, argv: tuple[str | Path, ...], folder: Path, url: str) -> Iterator[None]:
    """The program, once something answers at the URL with anything but "not yet" (503)."""
    process = Process(name, argv, folder, env={"NO_PROXY": "127.0.0.1"})
    try:
        process.wait_ready(lambda: _answers(url), seconds=_READY_SECONDS)
        yield
    finally:
        process.stop()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code != 503
    except httpx2.TransportError:
        return False
