"""The whole on real parts: an API server, a Redis, an OpenID provider, a browser, and the two processes."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import CallToolResult
from playwright.async_api import Page, expect

from arborgate.server.chain import read_records, verify
from arborgate.tools.record import Event
from tests.controller import controlling, fail
from tests.installation import CLUSTER, Installation
from tests.parts.kube import Identity, KubeApi
from tests.parts.oidc import OidcProvider
from tests.parts.redis import RedisServer
from tests.server.serving import ERAS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

GOOD, BAD = "1" * 40, "2" * 40
SOURCE = {"repoURL": "https://git.example.com/shop.git", "path": "api", "targetRevision": "main"}
HISTORY = [
    {"id": 3, "revision": GOOD, "deployedAt": "2026-11-19T10:00:00Z", "source": SOURCE},
    {"id": 4, "revision": BAD, "deployedAt": "2026-11-20T10:00:00Z", "source": SOURCE},
]
BROKEN = {
    "health": {"status": "Degraded", "message": "CrashLoopBackOff"},
    "sync": {"status": "Synced", "revision": BAD},
    "history": HISTORY,
}


@pytest.fixture
def installation(
    tmp_path: Path,
    kube_api: KubeApi,
    kube_namespace: str,
    redis_server: RedisServer,
    redis_url: str,
    oidc_provider: OidcProvider,
) -> Iterator[Installation]:
    with Installation(tmp_path, kube_api, redis_server, oidc_provider, kube_namespace) as installed:
        yield installed


def text_of(result: CallToolResult) -> str:
    assert result.content[0].type == "text"
    return result.content[0].text


def data_of(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    data: dict[str, Any] = result.structured_content
    return data


async def until(condition: Callable[[], Any], *, seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def propose_rollback(installation: Installation, *apps: str, person: str = "dev") -> dict[str, Any]:
    changes = [{"app": app, "kind": "rollback", "history_id": 3} for app in apps]
    async with installation.copilot(person) as client:
        result = await client.call_tool(
            "rollout_propose", {"reason": "The last deploy crash-loops; the one before was fine.", "changes": changes}
        )
    drafted = data_of(result)
    proposed = await wait_for_state(installation, drafted["proposal"], "proposed", "refused")
    return {**drafted, **proposed}


async def wait_for_state(installation: Installation, proposal: str, *states: str) -> dict[str, Any]:
    async with installation.copilot("dev") as client, asyncio.timeout(60):
        while True:
            found = data_of(await client.call_tool("proposal_get", {"proposal": proposal}))
            if found["state"] in states:
                return found
            await asyncio.sleep(0.1)


async def approve_by_terminal(
    installation: Installation, proposal: dict[str, Any], *, person: str = "april"
) -> httpx2.Response:
    """What `arborgate proposals approve` sends."""
    headers = {"Authorization": f"Bearer {installation.terminal_token(person)}"}
    async with httpx2.AsyncClient(base_url=installation.url, headers=headers) as http:
        return await http.post(f"/approvals/{proposal['proposal']}/approve", json={"digest": proposal["digest"]})


async def log_in(page: Page, installation: Installation, person: str, path: str) -> None:
    await page.goto(f"{installation.url}{path}")
    await page.get_by_role("link", name="Log in").click()
    await page.get_by_label("User name").fill(person)
    await page.get_by_role("button", name="Log in").click()


async def test_an_agent_proposes_a_person_approves_in_a_browser_and_the_applier_applies(
    installation: Installation, page: Page
) -> None:
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    installation.start_applier()
    proposal = await propose_rollback(installation, "api")
    assert proposal["state"] == "proposed"
    await log_in(page, installation, "april", f"/proposals/{proposal['proposal']}")
    await expect(page.get_by_text("The last deploy crash-loops")).to_be_visible()
    await expect(page.get_by_text(proposal["digest"][:12]).first).to_be_visible()
    async with controlling(installation) as ran:
        await page.get_by_role("button", name="Approve").click()
        applied = await wait_for_state(installation, proposal["proposal"], "applied", "failed", "rolled_back", "stale")
    assert (applied["state"], ran) == ("applied", ["api"])
    app = installation.get_app("api")
    assert (app["status"]["sync"]["revision"], app["status"]["health"]["status"]) == (GOOD, "Healthy")
    async with installation.copilot("dev") as client:
        assert data_of(await client.call_tool("app_get", {"app": "api"}))["health"] == "Healthy"
    for log in installation.record.glob("*.jsonl"):
        assert verify(log).whole


async def test_a_failed_rollback_is_undone_in_reverse(installation: Installation) -> None:
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    installation.start_applier()
    proposal = await propose_rollback(installation, "api")
    async with controlling(installation, outcome=fail) as ran:
        assert (await approve_by_terminal(installation, proposal)).status_code == 200
        ended = await wait_for_state(installation, proposal["proposal"], "rolled_back", "failed", "applied")
        assert ended["state"] in ("rolled_back", "failed")
        await until(lambda: len(ran) == 2)
    assert ran == ["api", "api"]


async def test_an_agent_cannot_approve_whatever_its_person_may(installation: Installation) -> None:
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    installation.start_applier()
    proposal = await propose_rollback(installation, "api")
    mcp_token = installation.token("april")
    borrowed = installation.token("april", audience="/approvals")
    async with installation.copilot("april") as client:
        assert [tool.name for tool in (await client.list_tools()).tools if "approve" in tool.name] == []
    async with httpx2.AsyncClient(base_url=installation.url, headers={"Authorization": f"Bearer {mcp_token}"}) as http:
        by_terminal = await http.post(f"/approvals/{proposal['proposal']}/approve", json={"digest": proposal["digest"]})
        by_borrowed = await http.post(
            f"/approvals/{proposal['proposal']}/approve",
            json={"digest": proposal["digest"]},
            headers={"Authorization": f"Bearer {borrowed}"},
        )
        by_page = await http.post(
            f"/proposals/{proposal['proposal']}/approve",
            data={"digest": proposal["digest"]},
            headers={"Origin": installation.url},
        )
        page = await http.get(f"/proposals/{proposal['proposal']}")
    assert (by_terminal.status_code, by_borrowed.status_code) == (401, 403)
    assert by_page.status_code in (303, 401, 403)
    assert "crash-loops" not in page.text
    assert (await wait_for_state(installation, proposal["proposal"], "proposed"))["approvals"] == []


async def test_the_requester_never_approves(installation: Installation) -> None:
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    installation.start_applier()
    proposal = await propose_rollback(installation, "api")
    refused = await approve_by_terminal(installation, proposal, person="dev")
    assert refused.status_code == 409
    assert "You asked for this yourself" in refused.text
    assert (await wait_for_state(installation, proposal["proposal"], "proposed"))["approvals"] == []


async def test_a_target_that_moved_after_approval_makes_the_proposal_stale_and_nothing_is_applied(
    installation: Installation,
) -> None:
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    applier = installation.start_applier()
    proposal = await propose_rollback(installation, "api")
    applier.stop()
    assert (await approve_by_terminal(installation, proposal)).status_code == 200
    installation.patch_app("api", {"spec": {"syncPolicy": {"automated": {"prune": False}}}})
    installation.start_applier()
    ended = await wait_for_state(installation, proposal["proposal"], "stale", "applied", "failed")
    assert ended["state"] == "stale"
    assert "operation" not in installation.get_app("api")


async def test_an_applier_killed_between_two_changes_resumes_and_does_nothing_twice(
    installation: Installation,
) -> None:
    installation.add_app("db", status=BROKEN, metadata={"annotations": {"argocd.argoproj.io/sync-wave": "-1"}})
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    applier = installation.start_applier()
    proposal = await propose_rollback(installation, "api", "db")
    assert (await approve_by_terminal(installation, proposal)).status_code == 200
    await until(lambda: "operation" in installation.get_app("db"))
    applier.kill()
    assert "operation" not in installation.get_app("api")
    installation.start_applier()
    async with controlling(installation) as ran:
        ended = await wait_for_state(installation, proposal["proposal"], "applied", "failed", "rolled_back")
    assert ended["state"] == "applied"
    assert ran == ["db", "api"]


@pytest.mark.parametrize("era", ERAS)
async def test_reads_go_on_while_the_api_server_is_away(installation: Installation, era: str) -> None:
    installation.add_app("api")
    installation.start_serve()
    installation.kube.pause()
    try:
        async with installation.copilot("dev", era=era) as client:
            assert data_of(await client.call_tool("app_get", {"app": "api"}))["health"] == "Healthy"
            planned = await client.call_tool(
                "rollout_propose",
                {"reason": "a reason long enough", "changes": [{"app": "api", "kind": "sync"}]},
            )
    finally:
        installation.kube.resume()
    assert planned.is_error
    assert re.search(r"unavailable|deadline", text_of(planned))
    assert "127.0.0.1" not in text_of(planned)


async def test_the_tree_answers_while_redis_is_away_and_what_needs_it_says_so(installation: Installation) -> None:
    installation.add_app("api")
    installation.start_serve()
    async with installation.copilot("dev") as client:
        installation.redis.stop()
        assert data_of(await client.call_tool("app_get", {"app": "api"}))["health"] == "Healthy"
        assert not (await client.call_tool("app_list", {})).is_error
        refused = [await client.call_tool(name, {}) for name in ("proposal_list", "record_search")]
        installation.redis.restart()
        assert not (await client.call_tool("proposal_list", {})).is_error
    for result in refused:
        assert result.is_error
        assert text_of(result).startswith("unavailable")
        assert "127.0.0.1" not in text_of(result)


async def test_a_redis_that_takes_no_writes_refuses_proposals_and_keeps_reads(installation: Installation) -> None:
    installation.add_app("api", status=BROKEN)
    installation.start_serve()
    async with installation.copilot("dev") as client:
        installation.redis.refuse_writes()
        refused = await client.call_tool(
            "rollout_propose",
            {
                "reason": "a reason long enough",
                "changes": [{"app": "api", "kind": "rollback", "history_id": 3}],
            },
        )
        listed = await client.call_tool("proposal_list", {})
        installation.redis.accept_writes()
    assert refused.is_error
    assert text_of(refused).startswith("unavailable")
    assert not listed.is_error


async def test_known_keys_work_while_the_identity_provider_is_away(installation: Installation) -> None:
    installation.add_app("api")
    installation.start_serve()
    async with installation.copilot("dev") as client:
        await client.call_tool("whoami", {})
        installation.oidc.stop()
        assert not (await client.call_tool("app_get", {"app": "api"})).is_error
    installation.oidc.start()


async def test_rotated_keys_are_found_without_a_failed_call(installation: Installation) -> None:
    installation.add_app("api")
    installation.start_serve()
    async with installation.copilot("dev") as before:
        await before.call_tool("whoami", {})
        installation.oidc.rotate_keys()
        async with installation.copilot("vera") as after:
            assert not (await after.call_tool("app_get", {"app": "api"})).is_error
        assert not (await before.call_tool("app_get", {"app": "api"})).is_error


async def test_a_change_in_the_cluster_is_visible_to_calls(installation: Installation) -> None:
    installation.add_app("api")
    installation.start_serve()
    async with installation.copilot("dev") as client, asyncio.timeout(5):
        installation.patch_app("api", {"status": {"health": {"status": "Degraded"}}})
        while data_of(await client.call_tool("app_get", {"app": "api"}))["health"] != "Degraded":
            await asyncio.sleep(0.01)


async def test_a_bad_policy_file_keeps_the_old_set_and_refuses_a_start(
    tmp_path: Path, installation: Installation
) -> None:
    from arborgate.policies.loader import SHIPPED

    own = tmp_path / "policies"
    (own / "cases").mkdir(parents=True)
    for file in (*SHIPPED.glob("*.cedar"), *SHIPPED.glob("cases/*.yaml")):
        (own / file.relative_to(SHIPPED)).write_bytes(file.read_bytes())
    installation.changes["policies"] = {"dir": str(own)}
    installation.add_app("api")
    serve = installation.start_serve()
    (own / "broken.cedar").write_text('@id("broken")\npermit (principal, action == Action::"app:raed", resource);\n')
    log = installation.record / "serve.jsonl"
    await until(lambda: any(record.event is Event.POLICY_KEPT for record, _ in read_records(log)))
    async with installation.copilot("dev") as client:
        assert not (await client.call_tool("app_get", {"app": "api"})).is_error
    kept = [record for record, _ in read_records(log) if record.event is Event.POLICY_KEPT]
    assert "broken.cedar:2" in kept[0].detail
    serve.stop()
    again = installation.start("serve")
    await until(lambda: not again.running)
    assert "broken.cedar:2" in again.output.read_text()


@pytest.mark.parametrize("era", ERAS)
async def test_stdio_passes_the_same_gate_as_http(installation: Installation, era: str) -> None:
    installation.add_app("api")
    installation.changes["identity"] = {"stdio": {"me": {"subject": "ada", "groups": ["arborgate-viewers"]}}}
    command = StdioServerParameters(command=sys.executable, args=[*installation.argv("serve"), "--stdio", "--as", "me"])
    async with Client(command, mode=era) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        found = data_of(await client.call_tool("app_get", {"app": "api"}))
        missing = await client.call_tool("app_get", {"app": "nothing"})
        unknown = await client.call_tool("app_get", {"app": "api", "wrong": 1})
    assert "app_get" in tools
    assert "rollout_propose" not in tools
    assert found["app"].endswith("/api")
    assert text_of(missing).startswith("not_there [app]")
    assert "wrong: unknown field" in text_of(unknown)
    (log,) = installation.record.glob("serve-stdio-*.jsonl")
    assert verify(log).whole
    calls = [record for record, _ in read_records(log) if record.tool]
    assert [(call.caller, call.channel) for call in calls] == [("local#ada", "stdio")] * 3


@pytest.mark.parametrize("given", [[], ["--as", "nobody"]])
def test_stdio_without_a_configured_caller_does_not_start(installation: Installation, given: list[str]) -> None:
    argv = [sys.executable, *installation.argv("serve"), "--stdio", *given]
    ended = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert ended.returncode == 2
    assert "identity.stdio" in ended.stderr


async def test_what_serve_holds_for_the_cluster_cannot_write(installation: Installation) -> None:
    installation.add_app("api")
    path = installation.path("api")
    for dry_run in ({}, {"dryRun": "All"}):
        refused = installation.kube.request(
            "PATCH",
            path,
            {"spec": {"project": "other"}},
            identity=Identity.SERVE,
            content_type="application/merge-patch+json",
            params=dry_run,
        )
        assert refused.status_code == 403


async def test_a_resource_and_its_completion_lead_to_the_same_app(installation: Installation) -> None:
    from mcp_types import ResourceTemplateReference, TextResourceContents

    installation.add_app("payments-api")
    installation.add_app("shop-api")
    installation.start_serve()
    async with installation.copilot("vera") as client:
        template = ResourceTemplateReference(uri="arborgate://app/{cluster}/{namespace}/{name}")
        completed = await client.complete(template, {"name": "name", "value": "pay"})
        (name,) = completed.completion.values
        read = await client.read_resource(f"arborgate://app/{CLUSTER}/{installation.namespace}/{name}")
        prompts = (await client.list_prompts()).prompts
    assert isinstance(read.contents[0], TextResourceContents)
    assert '"app":"main/' in read.contents[0].text
    assert [prompt.name for prompt in prompts] == ["diagnose-app"]
