"""Whether votes on a proposal are valid, and enough: how many there are, and whose."""

from __future__ import annotations

from collections.abc import Sequence

from ..policies.errors import Invalid
from ..tools.proposal import GLASS_REASON_LEAST, Approval, count_votes
from ..tools.risk import Risk


def find_lack(approvals: Sequence[Approval], needed: int, risk: Risk, *, alone: bool) -> str:
    """What the approvals lack, in words; `""` when they are enough.

    Of a high risk, and where not every parent app among them may decide `alone`, one has to be a person's."""
    if (have := count_votes(approvals)) < needed:
        return f"It has {have} of the {needed} approvals that it needs."
    if all(one.statement for one in approvals) and (risk is Risk.HIGH or not alone):
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
