"""The login of the terminal: at the approvals, with a client and an audience of its own."""

from __future__ import annotations

from collections.abc import Callable

from ..policies.errors import Unavailable
from .connect.asking import Manner
from .connect.browsers import has_browser, open_browser
from .connect.discovery import find_provider, parse
from .connect.entries import Place, Slot, check_url
from .connect.session import Session
from .connect.store import Store
from .connect.web import Web
from .protected import APPROVALS_PATH
from .web.terminal import METADATA_PATH, Door


def open_approvals(url: str, say: Callable[[str], None], *, device: bool = False) -> Session:
    """The login at the approvals of an Arborgate, as it is kept. Nobody is asked to log in but by `Session.log_in`.

    Raises `Invalid` for a URL that a token must not go to."""
    base = check_url(url, "--url")

    async def find(web: Web) -> Place:
        return await find_approvals(web, base)

    manner = Manner(
        ask=False, device=device, show=open_browser if has_browser() else None, command="arborgate proposals list"
    )
    return Session(Slot(f"{base}{APPROVALS_PATH}"), Store.of(say), find, manner=manner, say=say)


async def find_approvals(web: Web, url: str) -> Place:
    """Where a person at a terminal gets tokens for the approvals of the Arborgate at `url`. Raises `Unavailable`.

    Such a login ends with its token: who approves has been there lately."""
    answer = await web.get(f"{url}{METADATA_PATH}")
    if not answer.fine:
        raise Unavailable(f"{url} has no approvals for the terminal.")
    door = parse(Door, answer)
    provider = await find_provider(web, door.issuer)
    return Place(
        audience=door.audience,
        provider=provider,
        issuers=(door.issuer,),
        client_id=door.client_id,
        scope=door.scope,
        lasting=False,
    )
