"""What the settings tell the policies: the agents that the platform team knows, and its calendar."""

from __future__ import annotations

from dataclasses import dataclass, field

from .agents import Agents
from .calendar import Calendar


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that a decision depends on besides the policies, the caller and the resource."""

    agents: Agents = field(default_factory=Agents)
    calendar: Calendar = field(default_factory=Calendar)
