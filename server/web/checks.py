"""What has to be right before a verdict counts: what the person typed, and that what they saw is what is there."""

from __future__ import annotations

import secrets

from ...policies.errors import Conflict, Invalid
from ...tools.proposal import Proposal, touched

COMMENT_LIMIT = 2_000
"""The most characters of an approver's comment."""


def check_comment(comment: str) -> None:
    """Raises `Invalid` for one that is too long."""
    if len(comment) > COMMENT_LIMIT:
        raise Invalid(f"A comment has at most {COMMENT_LIMIT} characters.", field="comment")


def check_digest(proposal: Proposal, digest: str) -> None:
    """Raises `Conflict` unless the digest shown is the proposal's."""
    if not secrets.compare_digest(digest.encode(), proposal.digest.encode()):
        raise Conflict(
            "What you saw is not what this proposal says now, so nothing was decided.",
            field="digest",
            hint="Read it again, then decide.",
        )


def check_app(proposal: Proposal, typed: str) -> None:
    """Raises `Invalid` unless the name of the first app that the proposal touches was typed."""
    name = touched(proposal)[0].name
    if typed.strip() != name:
        raise Invalid(f"To break the glass, type the name of the app: {name}.", field="app")
