"""The orders of people about one proposal, as the applier hears them while it is at work."""

from __future__ import annotations

from ..policies.errors import Refused
from ..tools.cuts import shorten
from ..tools.proposal import Hold, Order
from .holds import Holds

PAUSED = "Paused"
"""How the message of a step begins that waits because somebody said so."""

_WORDS = 300


class Orders:
    """What stands now. An order to abort ends everything at once; an order to wait stands in `pause`."""

    def __init__(self, holds: Holds, proposal_id: str) -> None:
        self._holds = holds
        self._proposal = proposal_id
        self.pause: Hold | None = None

    async def hear(self) -> None:
        """Raises `Refused` when somebody has aborted it, and `Unavailable` when it can't be told what stands."""
        hold = await self._holds.read(self._proposal)
        if hold is not None and hold.order is Order.ABORT:
            raise Refused(f"{hold.by.name} aborted it{_quote(hold)}.")
        self.pause = hold

    async def is_aborted(self) -> bool:
        """Whether somebody has aborted it. Raises `Unavailable`."""
        hold = await self._holds.read(self._proposal)
        return hold is not None and hold.order is Order.ABORT

    @property
    def told(self) -> str:
        """The order to wait, in words; `""` when there is none."""
        return f"{PAUSED} by {self.pause.by.name}{_quote(self.pause)}" if self.pause else ""


def _quote(hold: Hold) -> str:
    return f': "{shorten(hold.comment, _WORDS)}"' if hold.comment.strip() else ""
