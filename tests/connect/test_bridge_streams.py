"""What comes in streams through the bridge: progress, cancellation, subscriptions, and what survives a restart."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from mcp.client.subscriptions import ResourceUpdated, ToolsListChanged

from tests.connect.bridging import SECONDS, connected, piped, prepare, request
from tests.connect.remotes import Sdk
from tests.server.serving import ERAS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ERAS)
async def test_progress_comes_before_the_answer(tmp_path: Path, era: str) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    remote = Sdk()
    async with remote.started(), connected(prepare(tmp_path, remote.url), era) as client:
        result = await client.call_tool("count", {"to": 3}, progress_callback=note)
    assert result.structured_content == {"result": "counted"}
    assert seen == [(1, 3, "1 of 3"), (2, 3, "2 of 3"), (3, 3, "3 of 3")]


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_client_cancels_ends_at_the_server(tmp_path: Path, era: str) -> None:
    remote = Sdk()
    async with remote.started(), connected(prepare(tmp_path, remote.url), era) as client:
        call = asyncio.create_task(client.call_tool("wait", {}))
        async with asyncio.timeout(SECONDS):
            await remote.running.wait()
            call.cancel()
            await remote.cancelled.wait()
        assert (await client.call_tool("read", {"text": "on"})).structured_content == {"result": "on"}


async def test_a_cancelled_request_gets_no_answer_and_leaves_its_id_free(tmp_path: Path) -> None:
    remote = Sdk()
    async with remote.started(), piped(prepare(tmp_path, remote.url)) as pipe:
        await pipe.send(request(1, "tools/call", name="wait", arguments={}))
        async with asyncio.timeout(SECONDS):
            await remote.running.wait()
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        await pipe.send({**cancelled, "params": {"requestId": "1"}}, cancelled)
        async with asyncio.timeout(SECONDS):
            await remote.cancelled.wait()
        answer = await pipe.ask(request(1, "tools/call", name="read", arguments={"text": "next"}))
        assert answer["result"]["structuredContent"] == {"result": "next"}
        assert await pipe.end() == []


async def test_an_id_that_is_used_again_belongs_to_the_newer_request(tmp_path: Path) -> None:
    remote = Sdk()
    async with remote.started(), piped(prepare(tmp_path, remote.url)) as pipe:
        await pipe.send(request(1, "tools/call", name="wait", arguments={}))
        async with asyncio.timeout(SECONDS):
            await remote.running.wait()
        answer = await pipe.ask(request(1, "tools/call", name="read", arguments={"text": "newer"}))
        assert answer["result"]["structuredContent"] == {"result": "newer"}
        async with asyncio.timeout(SECONDS):
            await remote.cancelled.wait()


async def test_a_big_answer_comes_through_whole(tmp_path: Path) -> None:
    text = "größer\u2028\n" * 200_000
    remote = Sdk()
    async with remote.started(), connected(prepare(tmp_path, remote.url), "2026-07-28") as client:
        result = await client.call_tool("read", {"text": text})
    assert result.structured_content == {"result": text}


async def test_a_subscription_delivers_changes(tmp_path: Path) -> None:
    remote = Sdk()
    async with (
        remote.started(),
        connected(prepare(tmp_path, remote.url), "2026-07-28") as client,
        client.listen(tools_list_changed=True) as subscription,
        asyncio.timeout(SECONDS),
    ):
        await remote.bus.publish(ToolsListChanged())
        assert await anext(subscription) == ToolsListChanged()


async def test_a_subscription_that_a_restart_breaks_is_opened_again_and_tells_what_may_have_changed(
    tmp_path: Path,
) -> None:
    remote = Sdk()
    login = prepare(
        tmp_path, remote.url, patience={"server": 0.0}
    )  # a request gives up at once, a subscription does not
    async with AsyncExitStack() as first:
        await first.enter_async_context(remote.started())
        async with (
            connected(login, "2026-07-28") as client,
            client.listen(tools_list_changed=True, resource_subscriptions=["notes://ä"]) as subscription,
            asyncio.timeout(SECONDS),
        ):
            await first.aclose()
            async with remote.started():
                assert [await anext(subscription), await anext(subscription)] == [
                    ToolsListChanged(),
                    ResourceUpdated("notes://ä"),
                ]
                await remote.bus.publish(ResourceUpdated("notes://ä"))
                assert await anext(subscription) == ResourceUpdated("notes://ä")


@pytest.mark.parametrize("era", ERAS)
async def test_no_read_fails_while_the_server_restarts(tmp_path: Path, era: str) -> None:
    remote = Sdk()
    login = prepare(tmp_path, remote.url)
    done = 0
    async with AsyncExitStack() as first:
        await first.enter_async_context(remote.started())
        async with connected(login, era) as client, asyncio.timeout(SECONDS):
            restarted = asyncio.Event()

            async def read_on() -> None:
                nonlocal done
                while not restarted.is_set():
                    result = await client.call_tool("read", {"text": "again"})
                    assert result.structured_content == {"result": "again"}
                    done += 1

            await client.list_tools()
            readers = [asyncio.create_task(read_on()) for _ in range(4)]
            while done < 20:
                await asyncio.sleep(0.01)
            await first.aclose()
            before = done
            async with remote.started():
                while done < before + 20:
                    await asyncio.sleep(0.01)
                restarted.set()
                await asyncio.gather(*readers)
    assert login.told().splitlines()[-1] == "arborgate connect: Arborgate answers again."
