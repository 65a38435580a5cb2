"""What lint finds in policies: one thing each, how much it matters, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .locations import Passage


class Level(StrEnum):
    """How much a finding matters: it can't be meant; it is probably not meant; it is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Rule(StrEnum):
    """What is found."""

    AGENT_BY_NAME = "agent-by-name"
    ALL_ACTIONS = "all-actions"
    ANY_ENVIRONMENT = "any-environment"
    ANYBODY = "anybody"
    FORBIDDEN = "forbidden"
    NEVER = "never"
    REDUNDANT = "redundant"
    SHADOWED = "shadowed"
    UNKNOWN_AGENT = "unknown-agent"
    UNKNOWN_ENVIRONMENT = "unknown-environment"
    UNKNOWN_GROUP = "unknown-group"
    UNKNOWN_ROLE = "unknown-role"
    UNKNOWN_WORD = "unknown-word"
    UNREACHABLE = "unreachable"


LEVELS = {
    Rule.AGENT_BY_NAME: Level.NOTE,
    Rule.ALL_ACTIONS: Level.WARNING,
    Rule.ANY_ENVIRONMENT: Level.NOTE,
    Rule.ANYBODY: Level.WARNING,
    Rule.FORBIDDEN: Level.WARNING,
    Rule.NEVER: Level.ERROR,
    Rule.REDUNDANT: Level.NOTE,
    Rule.SHADOWED: Level.WARNING,
    Rule.UNKNOWN_AGENT: Level.NOTE,
    Rule.UNKNOWN_ENVIRONMENT: Level.WARNING,
    Rule.UNKNOWN_GROUP: Level.NOTE,
    Rule.UNKNOWN_ROLE: Level.WARNING,
    Rule.UNKNOWN_WORD: Level.ERROR,
    Rule.UNREACHABLE: Level.WARNING,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one policy."""

    rule: Rule
    policy: str
    passage: Passage
    problem: str

    @property
    def level(self) -> Level:
        return LEVELS[self.rule]

    def tell(self) -> str:
        """The finding as it is printed, in three lines."""
        return self.passage.tell(f"{self.level}: {self.policy}: {self.problem} [{self.rule}]")
