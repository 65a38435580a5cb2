"""Holds: what a person tells the applier to do about a proposal that it is applying, beside the proposal itself.

They lie in keys of their own, so that an order never loses a race against the applier's own steps. The applier believes
them: whoever forges one can make it stop and undo, and nothing else.
"""

from __future__ import annotations

from typing import cast

from pydantic import ValidationError

from ..tools.proposal import Hold
from .state import State, reaching_state

_KEPT = 30 * 86_400
"""Seconds after which an order that nobody took back is forgotten: long after what it was about."""


class Holds:
    """The orders in the state Redis, at most one for each proposal. Both methods raise `Unavailable`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def read(self, proposal_id: str) -> Hold | None:
        """The order that stands; one that can't be read counts as none."""
        with reaching_state():
            text = cast("str | None", await self._state.redis.get(self._key(proposal_id)))
        try:
            return Hold.model_validate_json(text) if text else None
        except ValidationError:
            return None

    async def put(self, proposal_id: str, hold: Hold | None) -> None:
        """Another order in place of the one that stands; None takes it back."""
        with reaching_state():
            if hold is None:
                await self._state.redis.delete(self._key(proposal_id))
            else:
                await self._state.redis.set(self._key(proposal_id), hold.model_dump_json(), ex=_KEPT)

    def _key(self, proposal_id: str) -> str:
        return self._state.key("hold", proposal_id)
