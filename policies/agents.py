"""The agents that the platform team knows: which it trusts, and which must not be here at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .model import AgentTrust


class Agents(BaseModel):
    """Agents by the name that their provider gives them (`client_id`); patterns are shell's (`ide-*`).

    One that is in neither list is unknown. What each kind may do is for the policies to say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trusted: tuple[str, ...] = Field(default=(), description="agents that may do for a person what policies allow")
    forbidden: tuple[str, ...] = Field(default=(), description="agents that may do nothing; this wins over trusted")

    @field_validator("trusted", "forbidden")
    @classmethod
    def _can_fit(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not pattern or pattern != pattern.strip():
                raise ValueError(f"{pattern!r} fits no agent: a name is not empty, and has no space around it")
        return patterns

    def trust(self, agent: str, actors: Collection[str], *, direct: bool) -> AgentTrust:
        """What to think of a call that comes through an agent ("" where nobody names it) and those before it. `direct`:
        who asks is there, a person at the pages or the terminal or the applier, and the agent is but the program that
        they use."""
        if any(_fits(name, self.forbidden) for name in (agent, *actors)):
            return AgentTrust.FORBIDDEN
        between = actors if direct else (agent, *actors)
        if not between:
            return AgentTrust.NONE
        return AgentTrust.TRUSTED if all(_fits(name, self.trusted) for name in between) else AgentTrust.UNKNOWN


def _fits(agent: str, patterns: Iterable[str]) -> bool:
    return bool(agent) and any(fnmatchcase(agent, pattern) for pattern in patterns)
