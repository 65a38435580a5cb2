"""Calls to a running demo: a token from its issuer, a tool through the MCP SDK's own client over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Implementation, TextContent

from ...policies.errors import NotThere, Unavailable
from .running import DEMO_CLIENT, ROLE_GRANT, Running

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered: as text, as structured content, and whether it is an error."""

    text: str
    structured: Mapping[str, Any] | None
    failed: bool


async def fetch_token(running: Running, role: str) -> str:
    """An access token for the demo's MCP endpoint; raises `Unavailable` when the demo does not answer."""
    form = {"grant_type": ROLE_GRANT, "role": role}
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{running.issuer}/token", data=form, auth=(DEMO_CLIENT, running.secret))
            found: str = answer.raise_for_status().json()["access_token"]
            return found
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        raise Unavailable("The demo's issuer does not answer.", hint="Start the demo again.") from error


async def call_tool(running: Running, role: str, tool: str, arguments: Mapping[str, Any]) -> Answer:
    """Calls a tool as the role. Raises `NotThere` for a tool that the role does not have, `Unavailable` when the demo
    does not answer."""
    token = await fetch_token(running, role)
    headers = {"Authorization": f"Bearer {token}"}
    result: CallToolResult | None = None
    try:
        async with (
            httpx2.AsyncClient(headers=headers, timeout=TIMEOUT, trust_env=False) as http,
            Client(
                streamable_http_client(running.mcp, http_client=http),
                client_info=Implementation(name="arborgate-demo", version="1"),
            ) as client,
        ):
            tools = sorted(one.name for one in (await client.list_tools()).tools)
            if tool in tools:
                result = await client.call_tool(tool, dict(arguments))
    except* (MCPError, httpx2.HTTPError, OSError) as group:
        raise Unavailable("The demo does not answer.", detail=str(group.exceptions[0])) from group
    if result is None:
        raise NotThere(f"There is no tool {tool!r} for a {role}.", hint=f"There are: {', '.join(tools)}.")
    text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
    return Answer(text, result.structured_content, bool(result.is_error))
