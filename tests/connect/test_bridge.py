"""The bridge before the real doors of Arborgate: a real MCP client on a pipe, a real server over HTTP."""

from pathlib import Path

import pytest
from mcp.shared.exceptions import MCPError

from tests.connect.bridging import connected, piped, prepare, request
from tests.server.serving import ERAS
from tests.server.test_http import open_doors

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_of_either_era_lists_and_calls_tools_through_the_bridge(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token())
        async with connected(login, era) as client:
            tools = await client.list_tools()
            result = await client.call_tool("app_get", {"app": "api", "note": "größer"})
    assert [tool.name for tool in tools.tools] == ["app_get"]
    assert result.structured_content == {"app": "api", "note": "größer", "rows": []}
    assert login.told() == ""


@pytest.mark.parametrize("era", ERAS)
async def test_a_protocol_error_comes_through_as_it_is(tmp_path: Path, era: str) -> None:
    async with open_doors(tmp_path) as doors:
        login = prepare(tmp_path, f"{doors.url}/mcp", doors.token())
        async with connected(login, era) as client:
            with pytest.raises(MCPError, match="no tool of that name"):
                await client.call_tool("lösche alles", {})
