"""Subscriptions of the 2026 era, kept open for the client whatever becomes of the connection beneath them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...policies.errors import Busy, Unavailable
from .failures import grow
from .messages import Message, write
from .remote import Deliver, Remote

METHOD: Final = "subscriptions/listen"

_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_ID_META: Final = "io.modelcontextprotocol/subscriptionId"
_LONGEST_PAUSE: Final = 30.0
_CHANGES: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
"""What can be subscribed to, and how its change is told (MCP 2026-07-28, `subscriptions/listen`)."""


class Subscription:
    """One `subscriptions/listen` request. Once the server has acknowledged it, it is opened again whenever it breaks.

    The server replays nothing, so what happened in between is not known: the client is told that all it subscribed to
    has changed, and reads it again."""

    def __init__(self, remote: Remote, message: Message, deliver: Deliver) -> None:
        self._remote = remote
        self._message = message
        self._deliver = deliver
        self._honored: Mapping[str, Any] | None = None
        self._pauses = grow(_LONGEST_PAUSE)

    async def follow(self) -> None:
        """Delivers what comes until the server ends the subscription; raises as `Remote.forward` while it was never
        acknowledged, and `LoginRequired` whenever a person has to log in."""
        while True:
            try:
                await self._remote.forward(self._message, self._take)
            except (Busy, Unavailable):
                if self._honored is None:
                    raise
            else:
                return
            await asyncio.sleep(next(self._pauses))

    async def _take(self, line: bytes, message: Mapping[str, Any]) -> None:
        if message.get("method") != _ACKNOWLEDGED:
            await self._deliver(line, message)
            return
        again = self._honored is not None
        params = message.get("params")
        honored = params.get("notifications") if isinstance(params, dict) else None
        self._honored = honored if isinstance(honored, dict) else {}
        self._pauses = grow(_LONGEST_PAUSE)
        if not again:
            await self._deliver(line, message)
            return
        for change in self._list_changes(self._honored):
            await self._deliver(write(change), change)

    def _list_changes(self, honored: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        meta = {_ID_META: self._message.id}
        for kind, method in _CHANGES.items():
            if honored.get(kind):
                yield {"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}}
        for uri in honored.get("resourceSubscriptions") or ():
            params = {"uri": uri, "_meta": meta}
            yield {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}
