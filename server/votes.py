"""Whether votes on a proposal are valid, and enough: how many there are, and whose."""

from __future__ import annotations

from collections.abc import Sequence

from ..policies.errors import Invalid
from ..tools.proposal import GLASS_REASON_LEAST, Approval
from ..tools.risk import Risk


def find_lack(approvals: Sequence[Approval], needed: int, risk: Risk, *, alone: bool) -> str:
    """What the approvals lack, in words; `""` when they are enough.

    Parent apps together take the place of one person, however many have approved. Of a high risk, and where not every
    one of them may decide `alone`, that leaves a place which only a person can take."""
    people = [one for one in approvals if not one.statement]
    have = len(people) + min(len(approvals) - len(people), 1)
    if have < needed:
        return f"It has {have} of the {needed} approvals that it needs."
    if not people and (risk is Risk.HIGH or not alone):
        return "What a parent app has approved here waits for a person as well."
    return ""


def check_glass(approval: Approval, lasts: float) -> None:
    """Raises `Invalid` unless broken glass has a reason, and an end that is at most `lasts` seconds away."""
    if len(" ".join(approval.comment.split())) < GLASS_REASON_LEAST:
        raise Invalid(
            f"Say why the glass is broken, in at least {GLASS_REASON_LEAST} characters.",
            field="comment",
            hint="What is failing, for whom, and what this change does about it.",
        )
    if not approval.at < approval.until <= approval.at + lasts:
        raise Invalid("Broken glass does not last that long.", field="until")
