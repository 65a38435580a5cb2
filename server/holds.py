"""Holds: what a person tells the applier to do about a proposal that it is applying, beside the proposal itself.

They lie in keys of their own, so that an order never loses a race against the applier's own steps. The applier believes
them: whoever forges one can make it stop and undo, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from pydantic import ValidationError

from ..tools.proposal import Hold, Order, ProposalState, Requester
from .leases import read_script
from .state import State, reaching_state

_KEPT = 30 * 86_400
"""Seconds after which an order that nobody took back is forgotten: long after what it was about."""
_EVENTS_KEPT = 10_000
_NOBODY = Requester(key="", issuer="", subject="", name="an order that can't be read", groups=(), roles=(), agent="")
_UNREADABLE = Hold(order=Order.PAUSE, by=_NOBODY, comment="Resume or abort it: that replaces the order.", at=0.0)
"""Somebody ordered something, so the applier goes no further until a person says what."""


class Holds:
    """The orders in the state Redis, at most one for each proposal. Every method raises `Unavailable`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._swap = state.redis.register_script(read_script("steer"))

    async def read(self, proposal_id: str) -> Hold | None:
        """The order that stands; one that can't be read counts as an order to wait."""
        return (await self.read_kept(proposal_id))[0]

    async def read_kept(self, proposal_id: str) -> tuple[Hold | None, str]:
        """The order that stands, with what `swap` compares."""
        with reaching_state():
            text = cast("str | None", await self._state.redis.get(self._key(proposal_id))) or ""
        try:
            return (Hold.model_validate_json(text) if text else None), text
        except ValidationError:
            return _UNREADABLE, text

    async def swap(
        self,
        proposal_id: str,
        kept: str,
        after: Hold | None,
        *,
        by: str,
        at: float,
        states: Iterable[ProposalState],
    ) -> bool | None:
        """Puts `after` in place of what is `kept`, and tells those who follow the proposal; False when that no longer is,
        None when the proposal is in none of the `states`: then nothing changes. `by` is a person's key."""
        keys = [self._key(proposal_id), self._state.key("proposal", proposal_id), self._state.key("events")]
        put = after.model_dump_json() if after else ""
        arguments: list[str | int] = [proposal_id, kept, put, _KEPT, str(at), by, _EVENTS_KEPT, *map(str, states)]
        done = await self._state.run(self._swap, keys, arguments)
        return None if done == -1 else bool(done)

    async def put(self, proposal_id: str, hold: Hold | None) -> None:
        """Another order in place of the one that stands; None takes it back."""
        with reaching_state():
            if hold is None:
                await self._state.redis.delete(self._key(proposal_id))
            else:
                await self._state.redis.set(self._key(proposal_id), hold.model_dump_json(), ex=_KEPT)

    def _key(self, proposal_id: str) -> str:
        return self._state.key("hold", proposal_id)
