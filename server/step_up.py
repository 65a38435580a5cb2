"""Step-up (RFC 9470): which login would do, found by asking policy itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from ..policies.errors import LoginNeeded
from ..policies.model import Action, ActionGroup, Caller

_AGES: Final = (0, 60, 120, 300, 600, 900, 1_200, 1_800, 2_700, 3_600, 7_200, 14_400, 21_600, 28_800, 43_200, 86_400)
"""The ages of a login, in seconds, that are asked for: the oldest of them with which policy allows it."""

_JUDGED: Final = frozenset({ActionGroup.APPROVE, ActionGroup.PROPOSE})
"""The groups of actions whose policies know of logins."""


def find_login(
    caller: Caller,
    action: Action,
    allows: Callable[[Caller], bool],
    *,
    acr_values: Sequence[str] = (),
    now: float,
) -> LoginNeeded | None:
    """The login with which the same caller would be allowed what they were denied; None when none would do.

    `allows` asks policy about a caller, as of `now` (seconds since the epoch). A more recent login of the same strength
    is preferred over a stronger one; `acr_values` are those the provider knows, the weakest first. Of a policy that
    wants a login to be old, nothing is promised."""
    if caller.itself or action.group not in _JUDGED:
        return None

    def would(age: int, acr: str) -> bool:
        return allows(replace(caller, authenticated_at=int(now) - age, acr=acr))

    def find_oldest(acr: str) -> int:
        return _AGES[bisect_left(_AGES, True, key=lambda age: not would(age, acr)) - 1]

    if would(0, caller.acr):
        return LoginNeeded(find_oldest(caller.acr))
    stronger = tuple(acr for acr in acr_values if would(0, acr))
    return LoginNeeded(find_oldest(stronger[0]), stronger) if stronger else None
