"""A session for one Arborgate, opened in the way that a command asks for."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import Manner
from .browsers import has_browser, open_browser
from .entries import Place, Slot, mcp_url
from .session import Session
from .store import Store

if TYPE_CHECKING:
    from .web import Web

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a command was told. `ask`: requests may ask the person to log in; `browser`: one may be opened for it."""

    account: str = DEFAULT_ACCOUNT
    device: bool = False
    client_id: str = ""
    issuer: str = ""
    ask: bool = True
    browser: bool = True


def open_session(url: str, say: Callable[[str], None], wishes: Wishes, store: Store | None = None) -> Session:
    """The login at `/mcp` of an Arborgate, as it is kept. Raises `Invalid` for a URL that a token must not go to."""
    slot = Slot(mcp_url(url), wishes.account)
    named = "" if wishes.account == DEFAULT_ACCOUNT else f" --account {shlex.quote(wishes.account)}"
    manner = Manner(
        ask=wishes.ask,
        device=wishes.device,
        show=open_browser if wishes.browser and has_browser() else None,
        client_id=wishes.client_id,
        command=f"arborgate login {shlex.quote(slot.resource.removesuffix('/mcp'))}{named}",
    )

    kept_in = store or Store.of(say)

    async def find(web: Web) -> Place:
        from .discovery import find_mcp  # noqa: PLC0415  # a login that still lives does not wait for it

        kept = await asyncio.to_thread(kept_in.read, slot)
        before = kept.place.provider.issuer if kept else ""
        return await find_mcp(web, slot.resource, wishes.issuer, before)

    return Session(slot, kept_in, find, manner=manner, say=say)
