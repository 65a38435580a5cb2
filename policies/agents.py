"""The agents that the platform team knows: which it trusts, and which must not be here at all."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from .model import AgentTrust


class Agents(BaseModel):
    """Agents by the name that their provider gives them (`client_id`); patterns are shell's (`ide-*`).

    One that is in neither list is unknown. What each kind may do is for the policies to say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trusted: tuple[str, ...] = Field(default=(), description="agents that may do for a person what policies allow")
    forbidden: tuple[str, ...] = Field(default=(), description="agents that may do nothing; this wins over trusted")

    def trust(self, agents: Iterable[str], *, interactive: bool) -> AgentTrust:
        """What to think of a call that comes through all of these, "" being one that nobody names. `interactive`: a
        person is there, so no agent is between where none is named."""
        between = [agent for agent in agents if agent or not interactive]
        if any(_matches(agent, self.forbidden) for agent in between):
            return AgentTrust.FORBIDDEN
        if not between:
            return AgentTrust.NONE
        known = all(agent and _matches(agent, self.trusted) for agent in between)
        return AgentTrust.TRUSTED if known else AgentTrust.UNKNOWN


def _matches(agent: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(agent, pattern) for pattern in patterns)
