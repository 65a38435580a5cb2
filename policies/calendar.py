"""The calendar: when changes are frozen, when maintenance windows are open, and what the working hours are."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Season:
    """What the calendar says of one app at one moment: in a freeze, with its maintenance windows closed, out of hours."""

    frozen: bool = False
    closed: bool = False
    off_hours: bool = False


class Calendar(BaseModel):
    """Windows in time, of which each may be for some environments or apps alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def season(self, environment: str, app: str, at: float) -> Season:
        """What holds for an app (`cluster/namespace/name`, "" for none) of an environment at a moment, in seconds since
        the epoch."""
        return Season()
