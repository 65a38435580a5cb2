"""What the demo says when it is ready: addresses, configuration to paste, and what to ask first."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import indent

from .run import Demo

QUESTIONS = (
    "What is broken in production, and since when?",
    "Why does payments-worker fail, and what waits in its Redis queue?",
    "Propose the safest way to mend payments-worker.",
    "payments-staging looks healthy, and payments-api-staging is not. What is wrong there?",
    "Who approved the last change of payments-worker?",
)


def describe_demo(demo: Demo, port: int) -> str:
    """The banner."""
    mcp, option = f"{demo.url}/mcp", "" if port == 8484 else f" --port {port}"
    helper = {
        "mcpServers": {
            "arborgate": {
                "type": "http",
                "url": mcp,
                "headersHelper": f"arborgate demo token developer --headers{option}",
            }
        }
    }
    bridge = {"mcpServers": {"arborgate": {"command": _find_program(), "args": ["connect", mcp]}}}
    code = {"servers": {"arborgate": {"type": "http", "url": mcp}}}
    cursor = {"mcpServers": {"arborgate": {"url": mcp}}}
    unguarded = "" if demo.redis_guarded else _UNGUARDED
    return f"""
Arborgate demo: everything in it is made up, runs on this machine alone, and is gone after Ctrl-C.
{unguarded}
  MCP endpoint      {mcp}
  Approval page     {demo.url}/proposals   (log in as approver; no password)
  The record        arborgate record verify {demo.folder}/record

Connect an agent. It opens a browser, where you choose who to be: viewer, developer or approver.

  Claude Code       claude mcp add --transport http arborgate {mcp}
                    then /mcp to log in. Without a browser, as a developer, in .mcp.json:
{_show(helper)}
  VS Code           .vscode/mcp.json
{_show(code)}
  Cursor            .cursor/mcp.json
{_show(cursor)}
  Any stdio client  a bridge that logs you in and binds the token to a key on this machine
{_show(bridge)}
  Anything else     a header with a token that is good for ten minutes:
                    Authorization: Bearer $(arborgate demo token developer{option})

Or call a tool from here:

  arborgate demo call developer app_list '{{"health": "Degraded"}}'{option}
  arborgate demo call developer app_diagnose '{{"app": "production"}}'{option}

Ask first:

{indent(chr(10).join(QUESTIONS), "  ")}

Ctrl-C ends it."""


_UNGUARDED = """
  No redis-server was found, so Redis is one in pure Python, which does not enforce who may do what.
"""


def _find_program() -> str:
    """Where this `arborgate` is: an IDE has another PATH."""
    own = Path(sys.executable).with_name("arborgate")
    return str(own) if own.exists() else "arborgate"


def _show(config: object) -> str:
    return indent(json.dumps(config, indent=2), " " * 20)
