"""How fast the applier goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait: seconds between two looks (growing up to `longest`), and for health at most."""

    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]
    shortest: float
    longest: float
    health_timeout: float

    def pauses(self) -> Iterator[float]:
        """Seconds to wait between one look and the next, without end."""
        pause = self.shortest
        while True:
            yield pause
            pause = min(pause * 1.5, self.longest)
