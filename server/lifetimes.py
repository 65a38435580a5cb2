"""Times that a proposal and its approvals claim, held to the applier's own clock and settings."""

from __future__ import annotations

from ..policies.errors import Refused
from ..tools.proposal import Approval, Content

LEEWAY = 30.0
"""Seconds that the clocks of two machines may differ."""


def check_lifetime(content: Content, lasts: float, now: float) -> None:
    """Nobody makes what was approved last longer than `lasts` seconds, nor begin later than it was proposed.

    Raises `Refused`."""
    if content.created_at > now + LEEWAY:
        raise Refused("It was proposed in the future, by the applier's clock.")
    if content.expires_at - content.created_at > lasts + LEEWAY:
        raise Refused(f"It says that it lasts longer than the applier's proposals.expire_after, which is {lasts:g} s.")


def check_given(approval: Approval, now: float) -> None:
    """What is dated ahead would be judged by what may hold then. Raises `Refused`."""
    if max(approval.at, approval.authenticated_at) > now + LEEWAY:
        raise Refused(f"The approval by {approval.approver.name} is dated in the future, by the applier's clock.")
