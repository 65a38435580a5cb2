"""The demo as a whole: the real `serve` and applier on embedded parts, from start to nothing left."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import orjson
import pytest
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp.types import TextContent
from pydantic import AnyUrl

from tests.parts.process import Process, find_free_ports, wait_until
from tests.server.demo.demos import DemoProcess, approve, browsing, environment, run_command, starting_demo

CALLBACK = "http://127.0.0.1:33418/callback"
LOSING = """
import asyncio, os, signal, sys
from arborgate.server.demo import run

async def fill(client):
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("lost", flush=True)
    await asyncio.Event().wait()

run.fill = fill
asyncio.run(run.run_demo(int(sys.argv[1]), print))
"""
"""A demo that fills its Redis for ever, gets a signal then, and goes on after a cancellation."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    with starting_demo(tmp_path_factory.mktemp("demo")) as running:
        running.wait_ready()
        yield running


class Memory(TokenStorage):
    """What an agent keeps of its login."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def test_the_broken_app_is_found_mended_by_proposal_and_approval_and_its_queue_drains(demo: DemoProcess) -> None:
    diagnosis = demo.call("developer", "app_diagnose", app="production")
    assert [failure["app"] for failure in diagnosis["failing"]] == ["sandbox/argocd/payments-worker"]
    (suggested,) = [one for one in diagnosis["next"] if one["tool"] == "rollout_propose"]

    asked = {**suggested["arguments"], "reason": "It crash-loops since the last deploy."}
    proposal = demo.call("developer", "rollout_propose", **asked)
    waiting = _queue_length(demo)
    with browsing(demo.url, "approver") as browser:
        assert approve(browser, proposal["proposal"]).status_code == 200

    assert _wait_for_end(demo, proposal["proposal"]) == "applied"
    found = demo.call("developer", "app_get", app="payments-worker")
    assert (found["health"], found["images"]) == ("Healthy", ["registry.example.com/payments/worker:2.13.1"])
    wait_until(lambda: _queue_length(demo) < waiting, "the queue drains")


def test_what_runs_in_staging_is_promoted_to_production_which_says_so_afterwards(demo: DemoProcess) -> None:
    proposal = demo.call(
        "developer", "promotion_propose", apps=["shop-web-staging"], reason="5.11.0 has run well in staging."
    )
    assert (proposal["title"], proposal["state"]) == ("Promote shop-web from staging to production", "proposed")
    with browsing(demo.url, "approver") as browser:
        assert approve(browser, proposal["proposal"]).status_code == 200

    assert _wait_for_end(demo, proposal["proposal"]) == "applied"
    found = demo.call("developer", "app_get", app="shop-web")
    assert (found["health"], found["images"]) == ("Healthy", ["registry.example.com/shop/web:5.11.0"])
    assert "approved by «Ada Approver»" in found["promoted"]
    assert {rung["environment"]: rung["same"] for rung in found["elsewhere"]} == {"dev": True, "staging": True}


def test_an_error_in_staging_is_told_at_the_top_with_the_child_that_is_missing(demo: DemoProcess) -> None:
    diagnosis = demo.call("developer", "app_diagnose", app="payments-staging")
    assert diagnosis["health"] == "Healthy"
    assert diagnosis["failing"][0]["app"] == "sandbox/argocd/payments-api-staging"
    kinds = {finding["kind"] for finding in diagnosis["findings"]}
    assert {"healthy_parent_missing_child", "waves_order_nothing"} <= kinds
    text = orjson.dumps(diagnosis).decode()
    assert "ignore previous instructions" in text
    assert "\\u001b" not in text


def test_a_live_change_that_the_parent_would_undo_is_refused(demo: DemoProcess) -> None:
    change = {"app": "payments-api-staging", "kind": "set_image", "image": "registry.example.com/payments/api:4.8.0"}
    asked = orjson.dumps({"changes": [change], "reason": "Back to the version before."}).decode()
    answer = demo.run("call", "developer", "rollout_propose", asked)
    assert answer.returncode == 1
    assert "payments-staging" in answer.stdout
    assert "Git" in answer.stdout


def test_values_are_read_where_policy_allows_and_secrets_in_them_are_not(demo: DemoProcess) -> None:
    key = {"app": "payments-worker", "key": "payments:settings:ledger"}
    denied = demo.run("call", "developer", "redis_read", orjson.dumps(key).decode())
    assert "1500" not in denied.stdout
    shown = demo.run("call", "approver", "redis_read", orjson.dumps(key).decode()).stdout
    assert "1500" in shown
    assert "made-up-for-the-demo" not in shown


@pytest.mark.anyio
async def test_an_agent_logs_in_by_itself_with_the_sdks_own_oauth_client(demo: DemoProcess) -> None:
    at: list[str] = []

    async def open_browser(url: str) -> None:
        at.append(url)

    async def wait_for_code() -> AuthorizationCodeResult:
        async with httpx2.AsyncClient(trust_env=False) as browser:
            answer = await browser.post(at[-1], data={"role": "developer"})
        returned = parse_qs(urlsplit(answer.headers["location"]).query)
        return AuthorizationCodeResult(code=returned["code"][0], state=returned["state"][0], iss=returned["iss"][0])

    login = OAuthClientProvider(
        f"{demo.url}/mcp",
        OAuthClientMetadata(redirect_uris=[AnyUrl(CALLBACK)], client_name="An agent"),
        Memory(),
        open_browser,
        wait_for_code,
    )
    async with (
        httpx2.AsyncClient(auth=login, trust_env=False, timeout=20) as http,
        Client(streamable_http_client(f"{demo.url}/mcp", http_client=http)) as client,
    ):
        result = await client.call_tool("whoami", {})
    (block,) = result.content
    assert isinstance(block, TextContent)
    assert block.text.startswith("«Dev Developer»")
    assert parse_qs(urlsplit(at[0]).query)["resource"] == [f"{demo.url}/mcp"]


def test_what_it_prints_can_be_pasted(demo: DemoProcess) -> None:
    for needed in (
        "made up",
        f"{demo.url}/mcp",
        f"{demo.url}/proposals",
        "Claude Code",
        "VS Code",
        "Cursor",
        "Ask first",
    ):
        assert needed in demo.output
    headers = orjson.loads(demo.run("token", "developer", "--headers").stdout)
    with httpx2.Client(base_url=demo.url, trust_env=False) as client:
        assert client.post("/mcp", json={}).status_code == 401
        assert client.post("/mcp", json={}, headers=headers).status_code == 400


def test_no_secret_is_on_a_command_line_or_open_to_others(demo: DemoProcess) -> None:
    (folder,) = demo.temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    (found,) = (demo.folder / "run" / "arborgate").iterdir()
    kept = [folder / name for name in ("apps", "arborgate", "reader", "signing-key.json", "kubeconfig", "redis.conf")]
    assert {file.stat().st_mode & 0o777 for file in (*kept, found)} == {0o600}
    secrets = [orjson.loads(found.read_bytes())["secret"], *(file.read_text() for file in kept[:3])]
    for pid in (demo.process.pid, *demo.children().values()):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not any(secret in line for secret in secrets)


def test_serve_is_not_given_what_can_write_or_approve_alone(demo: DemoProcess) -> None:
    (folder,) = demo.temporary.iterdir()
    serve, applier = ((folder / f"{name}.yaml").read_text() for name in ("serve", "applier"))
    assert "applier.kubeconfig" not in serve
    assert "verify-key" not in serve
    assert "signing-key" not in applier


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("call", "root", "whoami"), "'root' is nobody in the demo"),
        (("call", "viewer", "whoami", "{app"), "not JSON"),
        (("call", "viewer", "whoami", "[]"), "not a JSON object"),
        (("call", "viewer", "redis_drop"), "There is no tool 'redis_drop' for a viewer. There are: app_diagnose"),
        (("token", "nobody"), "Be one of: viewer, developer, approver"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_in_a_line(
    demo: DemoProcess, arguments: tuple[str, ...], said: str
) -> None:
    answer = demo.run(*arguments)
    assert answer.returncode == 2
    assert said in answer.stderr.replace("\narborgate:", "")
    assert "Traceback" not in answer.stderr


def test_without_a_running_demo_the_commands_say_so(tmp_path: Path) -> None:
    answer = run_command("token", "viewer", "--port", "1", folder=tmp_path)
    assert answer.returncode == 2
    assert "No demo is running on port 1." in answer.stderr


def test_a_port_that_is_taken_is_told_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = run_command("--port", str(port), folder=tmp_path)
    assert answer.returncode == 2
    assert f"Port {port} can't be had" in answer.stderr
    assert f"--port {port + 1}" in answer.stderr
    assert _left(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    with starting_demo(tmp_path) as demo:
        demo.wait_ready()
        children = demo.children()
        assert sorted(children) == ["applier", "redis", "serve"]
        demo.interrupt(number)
        demo.wait_ended()
        assert "Traceback" not in demo.output
        assert not any(_is_running(pid) for pid in children.values())
        assert _left(tmp_path) == []
        socket.create_server(("127.0.0.1", demo.port)).close()


def test_a_signal_while_it_starts_leaves_nothing_either(tmp_path: Path) -> None:
    with starting_demo(tmp_path) as demo:
        wait_until(lambda: "serve" in demo.children(), "serve is started")
        children = demo.children()
        demo.interrupt()
        demo.wait_ended()
        assert not any(_is_running(pid) for pid in children.values())
        assert _left(tmp_path) == []


def test_a_signal_that_redis_py_swallows_while_it_starts_is_heard_all_the_same(tmp_path: Path) -> None:
    """Its way of waiting loses a cancellation that comes together with an answer (before Python 3.12)."""
    script = tmp_path / "start.py"
    script.write_text(LOSING)
    (port,) = find_free_ports(1)
    process = Process("demo", (sys.executable, str(script), str(port)), tmp_path, env=environment(tmp_path))
    try:
        wait_until(lambda: not process.running, "the demo ends", seconds=30)
    finally:
        process.stop()
    assert "lost" in process.output.read_text()
    assert _left(tmp_path) == []


@pytest.mark.parametrize("part", ["applier", "redis", "serve"])
def test_a_part_that_dies_ends_the_demo_by_name(tmp_path: Path, part: str) -> None:
    with starting_demo(tmp_path) as demo:
        demo.wait_ready()
        children = demo.children()
        os.kill(children[part], signal.SIGKILL)
        demo.wait_ended()
        assert f"arborgate: {part} ended by itself" in demo.output
        assert not any(_is_running(pid) for pid in children.values())
        assert _left(tmp_path) == []


def test_without_a_redis_server_it_runs_on_one_in_pure_python_and_says_what_that_lacks(tmp_path: Path) -> None:
    with starting_demo(tmp_path, path=str(tmp_path)) as demo:
        demo.wait_ready()
        assert "does not enforce who may do what" in demo.output
        change = {"app": "shop-web", "kind": "sync"}
        proposal = demo.call("developer", "rollout_propose", changes=[change], reason="Deploy what is in Git.")
        with browsing(demo.url, "approver") as browser:
            assert approve(browser, proposal["proposal"]).status_code == 200

        assert _wait_for_end(demo, proposal["proposal"]) == "applied"


def _wait_for_end(demo: DemoProcess, proposal: str) -> str:
    """The state that the proposal ends in."""

    def state() -> str:
        return str(demo.call("developer", "proposal_get", proposal=proposal)["state"])

    wait_until(lambda: state() in ("applied", "failed", "rolled_back", "stale"), "it is applied", seconds=60)
    return state()


def _queue_length(demo: DemoProcess) -> int:
    keys = demo.call("developer", "redis_keys", app="payments-worker")["keys"]
    return next(int(key["length"]) for key in keys if key["key"] == "payments:queue:capture")


def _left(folder: Path) -> list[Path]:
    """The files that the demo left where it may have left any."""
    return [
        path for name in ("tmp", "run") for path in (folder / name).rglob("*") if not path.is_dir() or name == "tmp"
    ]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
