"""Reading the tree over HTTP, beside kubernetes-mcp-server on the same API server."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx2
import orjson
from tests.parts.kube import MERGE_PATCH, KubeApi

from .load import Load, Loaded, run_load
from .report import Line, Part
from .servers import McpServer
from .world import COLLECTION, NAMESPACE, make_status_patch, name_app

_SECONDS: Final = 4.0
_ASKED: Final = 200
"""How many different apps are asked for, so that no single answer is what is measured."""

_CHANGES: Final = 30
_VISIBLE_SECONDS: Final = 5.0
_PEER: Final = "kubernetes-mcp-server"
_APPLICATION: Final = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "namespace": NAMESPACE}


def measure_reading(ours: McpServer, peer: McpServer, api: KubeApi, apps: int) -> Part:
    """One app, the first page, a change, and what a model pays for the tools."""
    with httpx2.Client(timeout=30, trust_env=False) as client:
        get = _load(ours, *(ours.write_call("app_get", {"app": name_app(number)}) for number in range(_ASKED)))
        first_page = _load(ours, ours.write_call("app_list"))
        peer_get, peer_get_size = _time(
            peer, client, 20, "resources_get", lambda number: {**_APPLICATION, "name": name_app(number)}
        )
        peer_list, peer_list_size = _time(peer, client, 5, "resources_list", lambda _: _APPLICATION)
        seen = [_see_change(ours, api, client, number) for number in range(_CHANGES)]
        tools, peer_tools = _list_tools(ours, client), _list_tools(peer, client)
    beside_get, beside_list = f"{_PEER} resources_get", f"{_PEER} resources_list"
    tools_beside = f"{_PEER}, {len(peer_tools)} tools"
    return Part(
        f"Reading {apps:,} Applications of 20 resources each, over HTTP, one call at a time",
        (
            Line("app_get, median", get.median, "ms", beside_get, statistics.median(peer_get), at_most=5),
            Line("app_get, p99", get.p99, "ms", beside_get, max(peer_get)),
            Line("app_get, answer", get.size, "bytes", beside_get, peer_get_size),
            Line(
                "app_list, first page, median", first_page.median, "ms", beside_list, statistics.median(peer_list), 15
            ),
            Line("app_list, first page, p99", first_page.p99, "ms", beside_list, max(peer_list)),
            Line("app_list, first page, answer", first_page.size, "bytes", beside_list, peer_list_size, 8_192),
            Line("a change seen by app_get, median", statistics.median(seen), "ms"),
            Line(f"a change seen by app_get, slowest of {_CHANGES}", max(seen), "ms", at_most=250),
            Line(f"tool list, {len(tools)} tools", _size(tools), "bytes", tools_beside, _size(peer_tools), 32_768),
            Line(
                "tool list, what a model pays for one tool",
                _pay(tools) / len(tools),
                "bytes",
                tools_beside,
                _pay(peer_tools) / len(peer_tools),
                at_most=600,
            ),
        ),
    )


def _load(server: McpServer, *requests: str) -> Loaded:
    return run_load(Load(server.port, requests, connections=1, seconds=_SECONDS))


def _time(server: McpServer, client: httpx2.Client, times: int, tool: str, arguments: Any) -> tuple[list[float], int]:
    """Milliseconds of each call, and the bytes of the last answer."""
    took, size = [], 0
    for number in range(times):
        began = time.perf_counter()
        _, size = server.ask("tools/call", {"name": tool, "arguments": arguments(number)}, client)
        took.append((time.perf_counter() - began) * 1e3)
    return took, size


def _see_change(server: McpServer, api: KubeApi, client: httpx2.Client, number: int) -> float:
    """Milliseconds from the sending of a change to the API server to the end of the first call that shows it."""
    name, mark = name_app(number * 7), f"changed-{number}-{time.time_ns()}"
    path, patch = f"{COLLECTION}/{name}", make_status_patch(mark)
    change = threading.Thread(target=lambda: api.call("PATCH", path, patch, content_type=MERGE_PATCH))
    began = time.perf_counter()
    change.start()
    while True:
        result, _ = server.ask("tools/call", {"name": "app_get", "arguments": {"app": name}}, client)
        took = time.perf_counter() - began
        if result["structuredContent"].get("message") == mark:
            change.join()
            return took * 1e3
        if took > _VISIBLE_SECONDS:
            raise RuntimeError(f"a change of {name} was not seen within {_VISIBLE_SECONDS:g} s")
        time.sleep(0.002)  # the API server needs a core as well


def _list_tools(server: McpServer, client: httpx2.Client) -> list[Mapping[str, Any]]:
    result, _ = server.ask("tools/list", {}, client)
    tools: list[Mapping[str, Any]] = result["tools"]
    return tools


def _size(value: object) -> int:
    return len(orjson.dumps(value))


def _pay(tools: list[Mapping[str, Any]]) -> int:
    """What most hosts put before a model of each tool: name, description, input schema."""
    return sum(_size({key: tool[key] for key in ("name", "description", "inputSchema")}) for tool in tools)
