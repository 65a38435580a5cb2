"""`arborgate demo`: run the demo, get a token of it, call a tool of it as somebody."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from ...policies.errors import Invalid
from .running import DEFAULT_PORT, ROLES, read_running

commands = typer.Typer(help="Everything on this machine, on embedded parts: a demo, gone after Ctrl-C.")

Port = Annotated[int, typer.Option("--port", "-p", min=1, max=65_535, help="The demo's port on 127.0.0.1.")]
Role = Annotated[str, typer.Argument(help=f"Who to be: {', '.join(ROLES)}.", show_default=False)]


@commands.callback(invoke_without_command=True)
def demo(context: typer.Context, port: Port = DEFAULT_PORT) -> None:
    """Runs the demo until Ctrl-C: Redis, a sandbox cluster with about forty apps, a sandbox login, Arborgate on them."""
    if context.invoked_subcommand is not None:
        return
    from .banner import describe_demo  # noqa: PLC0415  # the other commands need none of it
    from .run import run_demo  # noqa: PLC0415

    asyncio.run(run_demo(port, lambda running: typer.echo(describe_demo(running, port))))


@commands.command()
def token(
    role: Role,
    port: Port = DEFAULT_PORT,
    headers: Annotated[bool, typer.Option("--headers", help="As a JSON object of HTTP headers.")] = False,
) -> None:
    """Prints an access token of the running demo: ten minutes as somebody of that role, for agents."""
    from .calling import fetch_token  # noqa: PLC0415

    _require_role(role)
    found = asyncio.run(fetch_token(read_running(port), role))
    typer.echo(json.dumps({"Authorization": f"Bearer {found}"}) if headers else found)


@commands.command()
def call(
    role: Role,
    tool: Annotated[str, typer.Argument(help="The tool's name.", show_default=False)],
    arguments: Annotated[str, typer.Argument(help="Its arguments, a JSON object.")] = "{}",
    port: Port = DEFAULT_PORT,
    as_json: Annotated[bool, typer.Option("--json", help="The structured content, not the text.")] = False,
) -> None:
    """Calls a tool of the running demo as somebody of that role, through the MCP SDK's own client over HTTP.

    Exits 1 when the tool answers with an error."""
    from .calling import call_tool  # noqa: PLC0415

    _require_role(role)
    answer = asyncio.run(call_tool(read_running(port), role, tool, _parse(arguments)))
    typer.echo(json.dumps(answer.structured, indent=2, ensure_ascii=False) if as_json else answer.text)
    if answer.failed:
        raise typer.Exit(1)


def _require_role(role: str) -> None:
    if role not in ROLES:
        raise Invalid(f"{role!r} is nobody in the demo.", field="role", hint=f"Be one of: {', '.join(ROLES)}.")


def _parse(arguments: str) -> dict[str, Any]:
    try:
        parsed = json.loads(arguments)
    except json.JSONDecodeError as error:
        raise Invalid(
            f"The arguments are not JSON: {error.msg} at character {error.pos + 1}.",
            field="arguments",
            hint="""Quote them for your shell, like '{"app": "payments-worker"}'.""",
        ) from error
    if not isinstance(parsed, dict):
        raise Invalid("The arguments are not a JSON object.", field="arguments", hint='Like \'{"app": "shop"}\'.')
    return parsed
