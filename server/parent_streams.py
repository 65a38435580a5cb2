"""The two streams between the applier and the controller of a parent app, and what the controller's Redis user may do."""

from __future__ import annotations

from .state import State

LENGTH = 1_000
"""How many entries either stream keeps, about: the newest."""

STATEMENT, PROPOSAL, DIGEST, CONTENT, APP = "statement", "proposal", "digest", "content", "app"
"""The fields of entries: one of statements has the first alone, one of proposals the others."""


def asked_key(state: State, app: str) -> str:
    """The stream of proposals for one parent app, by its id."""
    return state.key("parent", app, "asked")


def said_key(state: State, app: str) -> str:
    """The stream of what the parent app says."""
    return state.key("parent", app, "said")
