"""Evidence: calls on record that an agent points to for its proposal, as they were found when it was made."""

from __future__ import annotations

from .closed import Closed

MOST = 10
"""How many calls one proposal points to."""


class Evidence(Closed):
    """One call: `line` is its line in the audit log (`replica/number`), `at` RFC 3339. It was made for the same person as
    the proposal. All but `note`, the agent's own words, is what the record says; `resource` is `""` where the call was
    answered that there is no such thing."""

    line: str
    at: str
    tool: str
    resource: str
    outcome: str
    arguments_digest: str
    note: str = ""
