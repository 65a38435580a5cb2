"""`arborgate connect | login | logout | whoami`: a person's login at an Arborgate, and the bridge that uses it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..policies.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from .connect.session import Session

# Each command imports what it needs when it runs: a copilot waits for `connect` to be ready.

_DEFAULT = "default"

Url = Annotated[str, typer.Argument(help="Where Arborgate is, with or without /mcp.", envvar="ARBORGATE_URL")]
Account = Annotated[str, typer.Option("--account", help="A name for the login, to keep several at one Arborgate.")]
Device = Annotated[bool, typer.Option("--device", help="Log in by a code on another device.")]
ClientId = Annotated[
    str, typer.Option("--client-id", envvar="ARBORGATE_CLIENT_ID", help="The OAuth client to be; default: found out.")
]
Issuer = Annotated[str, typer.Option("--issuer", help="Which login service, where Arborgate trusts several.")]


def connect(
    url: Url,
    device: Device = False,
    client_id: ClientId = "",
    issuer: Issuer = "",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Never ask for a login: `arborgate login` has to be run before.")
    ] = False,
    account: Account = _DEFAULT,
) -> None:
    """Serves MCP over standard input and output from an Arborgate elsewhere, as you."""
    from .connect.bridge import run_bridge
    from .connect.opening import Wishes, open_session

    wishes = Wishes(account=account, device=device, client_id=client_id, issuer=issuer, ask=not no_browser)

    async def run(stop: asyncio.Event) -> None:
        async with open_session(url, _say, wishes) as session:
            await run_bridge(session.slot.resource, session, stop=stop)

    _run_until_stopped(run)


def login(
    url: Url,
    device: Device = False,
    client_id: ClientId = "",
    issuer: Issuer = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser, only say where to go.")] = False,
    account: Account = _DEFAULT,
    again: Annotated[bool, typer.Option("--again", help="Log in anew even if the login service knows you.")] = False,
    scope: Annotated[str, typer.Option("--scope", help="Scopes to ask for in addition.")] = "",
    max_age: Annotated[
        int | None, typer.Option("--max-age", min=0, help="How many seconds ago you may have logged in at most.")
    ] = None,
    acr_values: Annotated[str, typer.Option("--acr-values", help="How strongly: the login service's words.")] = "",
) -> None:
    """Logs you in at an Arborgate; the login is kept for `arborgate connect`."""
    from .connect.entries import Asked
    from .connect.opening import Wishes, open_session

    wishes = Wishes(account=account, device=device, client_id=client_id, issuer=issuer, browser=not no_browser)

    async def run() -> str:
        async with open_session(url, _say, wishes) as session:
            await session.log_in(Asked(scope, again, max_age, acr_values))
            return session.describe()

    typer.echo(f"Logged in. {asyncio.run(run())}")


def logout(
    url: Annotated[str, typer.Argument(help="Where Arborgate is.", envvar="ARBORGATE_URL")] = "",
    everywhere: Annotated[bool, typer.Option("--all", help="End every login that is kept on this machine.")] = False,
    account: Account = _DEFAULT,
) -> None:
    """Ends a login: takes it back at the login service where that can be, and forgets tokens and key."""
    from .connect.opening import Wishes, open_session
    from .connect.session import Session
    from .connect.store import Store

    if not url and not everywhere:
        raise Invalid("Which login? Name the URL of an Arborgate, or --all.", field="URL")
    store = Store.of(_say)

    async def run() -> list[str]:
        if everywhere:
            sessions = [Session.of_kept(slot, store, _say) for slot in store.list()]
        else:
            sessions = [open_session(url, _say, Wishes(account=account), store)]
        ended = []
        for session in sessions:
            async with session:
                if await session.log_out():
                    ended.append(session.slot.resource)
        return ended

    ended = asyncio.run(run())
    if everywhere:
        store.forget_clients()
    for resource in ended:
        typer.echo(f"Logged out of {resource}.")
    if not ended:
        typer.echo("There was no login.")


def whoami(url: Url, account: Account = _DEFAULT) -> None:
    """Says who you are at an Arborgate, what you may do there, and how your login is kept."""
    from .connect.opening import Wishes, open_session

    async def run() -> str:
        async with open_session(url, _say, Wishes(account=account, ask=False)) as session:
            told = await _ask_who(session)
            return f"{told}\n{session.describe()}"

    typer.echo(asyncio.run(run()))


async def _ask_who(session: Session) -> str:
    """What the tool `whoami` answers, as text. Raises `Unavailable`."""
    import httpx2
    from mcp import Client, MCPError
    from mcp.client.streamable_http import streamable_http_client
    from mcp.types import CallToolResult, Implementation, TextContent

    from .connect.authorization import Authorization
    from .connect.web import LOOPBACK_DIRECT

    await session.headers("POST", session.slot.resource)  # a login that is missing is said in its own words
    result: CallToolResult | None = None
    try:
        async with (
            httpx2.AsyncClient(
                auth=Authorization(session), timeout=30.0, follow_redirects=False, mounts=LOOPBACK_DIRECT
            ) as http,
            Client(
                streamable_http_client(session.slot.resource, http_client=http),
                client_info=Implementation(name="arborgate-whoami", version="1"),
            ) as client,
        ):
            result = await client.call_tool("whoami", {})
    except* (MCPError, httpx2.HTTPError, OSError) as group:
        raise Unavailable(
            f"{session.slot.resource} does not answer as Arborgate does.", detail=str(group.exceptions[0])
        ) from group
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _run_until_stopped(start: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Runs until done, or until SIGINT or SIGTERM asks to stop."""
    import uvloop

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await start(stop)

    uvloop.run(run())


def _say(text: str) -> None:
    typer.echo(text, err=True)
