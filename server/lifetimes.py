"""Times that a proposal and its approvals claim, held to the applier's own clock and settings."""

from __future__ import annotations

from ..policies.errors import Refused
from ..tools.proposal import Approval, Content

LEEWAY = 30.0
"""Seconds that the clocks of two machines may differ."""

UNDONE_WITHIN = 2 * 86_400.0
"""Seconds after its end in which a proposal is undone by itself: a change bakes for a day, and an applier may be away."""


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


def check_undo(content: Content, now: float) -> None:
    """What was done long ago is not turned back because Redis says that it has failed. Raises `Refused`."""
    if now > content.expires_at + UNDONE_WITHIN:
        raise Refused("it was approved too long ago to be undone without somebody looking.")
