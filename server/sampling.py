"""How many of a kind are kept: the first few each second, so that what strangers send can't fill a disk."""

from __future__ import annotations

import time
from collections.abc import Callable


class Sampling:
    """Takes at most `per_second` of what is offered in each second of `clock`, and says how many it passed over."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = -1
        self._taken = 0
        self._passed_over = 0

    def take(self) -> bool:
        """Whether this one is kept."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._taken = second, 0
        if self._taken >= self._per_second:
            self._passed_over += 1
            return False
        self._taken += 1
        return True

    def tell_missed(self) -> str:
        """The end of a detail: how many were passed over since the last time this was asked; "" for none."""
        missed, self._passed_over = self._passed_over, 0
        return f"; {missed} more since the last one of these" if missed else ""
