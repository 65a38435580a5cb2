"""How much one caller through one agent may ask: a token bucket for all replicas, a bound on what is unanswered."""

from __future__ import annotations

from typing import Protocol

from ..policies.model import Caller


class Limits(Protocol):
    """Every `enter` that returns is followed by one `leave`."""

    async def enter(self, caller: Caller) -> None:
        """Takes one request out of the caller's bucket; raises `Busy` when it is empty."""
        ...

    def leave(self, caller: Caller) -> None: ...


class Unlimited:
    """No limit: for what has no other callers to protect."""

    async def enter(self, caller: Caller) -> None:
        """Lets everybody in."""

    def leave(self, caller: Caller) -> None:
        """Counts nobody."""
