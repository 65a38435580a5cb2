"""The bare MCP SDK with one trivial tool: what any server built on it can reach at most (`python -m bench.bare PORT`)."""

from __future__ import annotations

import sys

import mcp_types as types
import uvicorn
import uvloop
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

Context = ServerRequestContext[dict[str, object], object]


async def _list(_ctx: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool(name="hello", input_schema={"type": "object"})])


async def _call(_ctx: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text="hello")])


def build() -> Server[dict[str, object]]:
    return Server("bare", version="1", on_list_tools=_list, on_call_tool=_call)


async def _serve_pipe() -> None:
    server = build()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> None:
    if sys.argv[1:] == ["--stdio"]:
        uvloop.run(_serve_pipe())
        return
    app = build().streamable_http_app(stateless_http=True, json_response=True)
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
