"""`subscriptions/listen` (MCP 2026-07-28): who may read a proposal is told whenever it is another than before."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from ..policies.errors import Busy
from ..policies.model import Caller
from .background import end
from .errors import tell
from .following import Follower, Watch
from .mcp import CallerOf, Calls, RequestContext
from .scope import leave_place

PROPOSAL_URI = re.compile(r"^arborgate://proposal/([^/]{1,100})$")

_MOST_URIS = 8
"""Proposals of one subscription."""
_LASTS = 300.0
"""Seconds after which a client has to subscribe anew, with the token that it has then."""


class Listening:
    """The handler of one MCP server. Only proposals change in a way that it tells of; of the other kinds that can be
    subscribed to it honours none, nor a proposal that the caller may not read, or that is not there."""

    def __init__(self, gate: Calls, caller_of: CallerOf, follower: Follower) -> None:
        self._gate = gate
        self._caller_of = caller_of
        self._follower = follower

    async def __call__(
        self, ctx: RequestContext, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        caller, subscription = self._caller_of(ctx), ctx.request_id
        asked = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))[:_MOST_URIS]
        found = {uri: match[1] for uri in map(str, asked) if (match := PROPOSAL_URI.match(uri))}
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: subscription}
        try:
            async with self._watch(caller, found) as watches:
                honoured = [uri for uri in watches if await self._may_read(caller, found[uri])]
                await ctx.session.send_notification(_acknowledge(honoured, meta), related_request_id=subscription)
                if ctx.request is not None:
                    leave_place(ctx.request.scope)
                async for uri in _hear({uri: watches[uri] for uri in honoured}):
                    if not await self._may_read(caller, found[uri]):
                        break
                    await ctx.session.send_notification(_tell(uri, meta), related_request_id=subscription)
        except Busy as busy:
            raise MCPError(code=types.INTERNAL_ERROR, message=tell(busy)) from busy
        return types.SubscriptionsListenResult(_meta=meta)

    @asynccontextmanager
    async def _watch(self, caller: Caller, found: Mapping[str, str]) -> AsyncIterator[dict[str, Watch]]:
        async with AsyncExitStack() as stack:
            watch = self._follower.watch
            yield {uri: await stack.enter_async_context(watch(found[uri], caller.key)) for uri in found}

    async def _may_read(self, caller: Caller, proposal_id: str) -> bool:
        """Asked of the gate like any reading, so that it is on record like any other."""
        answer = await self._gate.call(caller, "proposal_get", {"proposal": proposal_id})
        return answer.error is None


async def _hear(watches: Mapping[str, Watch]) -> AsyncIterator[str]:
    """The URIs of those of which there is news, as it comes, until it is time to subscribe anew."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + _LASTS
    waiting = {asyncio.create_task(watch.wait(_LASTS)): uri for uri, watch in watches.items()}
    try:
        while waiting and (left := ends - loop.time()) > 0:
            done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                uri = waiting.pop(task)
                if not task.result():
                    return  # the time is over, or the process ends
                waiting[asyncio.create_task(watches[uri].wait(_LASTS))] = uri
                yield uri
    finally:
        await end(*waiting)


def _acknowledge(honoured: Sequence[str], meta: dict[str, Any]) -> types.SubscriptionsAcknowledgedNotification:
    return types.SubscriptionsAcknowledgedNotification(
        params=types.SubscriptionsAcknowledgedNotificationParams(
            notifications=types.SubscriptionFilter(resource_subscriptions=list(honoured) or None), _meta=meta
        )
    )


def _tell(uri: str, meta: dict[str, Any]) -> types.ResourceUpdatedNotification:
    return types.ResourceUpdatedNotification(params=types.ResourceUpdatedNotificationParams(uri=uri, _meta=meta))
