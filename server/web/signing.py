"""What the terminal, where there are no passkeys, is told of what has to be signed with one."""

from __future__ import annotations

from dataclasses import replace

from ...policies.model import Caller
from ..enrolment import Enrolment
from .rulings import SIGN_THERE, UNSIGNED, Ruling, Seen


async def tell_terminal(enrolment: Enrolment | None, caller: Caller, seen: Seen) -> Seen:
    """The proposal with what the settings want signed: not to be done there, but on its page. What policy wants signed is
    told already. Raises `Unavailable`."""
    if enrolment is None:
        return seen
    needed = enrolment.needs(seen.proposal.content.risk, await enrolment.find(caller.key))
    if not needed:
        return seen
    return replace(seen, approve=_send_there(seen.approve), break_glass=_send_there(seen.break_glass))


def _send_there(ruling: Ruling) -> Ruling:
    return replace(ruling, allowed=False, why=f"{UNSIGNED} {SIGN_THERE}", signs=True) if ruling.allowed else ruling
