"""How much of its budget for the day an app has used, and what the budget is: found by asking policy itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ...policies.engine import Engine
from ...policies.model import Action, Resource
from ...tools.proposal import Proposal, proposal_resources
from ..counts import Counts
from ..proposals import APPLIER
from ..thresholds import MOST
from .rulings import Budget

_MOST_CHANGES = 1_024
"""More changes of an app in 24 hours than any budget allows."""


def find_budgets(
    engine: Engine, proposal: Proposal, apps: Sequence[Resource], counts: Counts, now: float
) -> tuple[Budget, ...]:
    """One for each of the apps that the proposal touches, by what the applier could apply at that moment (seconds since
    the epoch) with every approval that there can be."""
    budgets = []
    for app, resource in zip(apps, proposal_resources(proposal, apps), strict=True):

        def denies(count: int, resource: Resource = resource) -> bool:
            context = (("applied_today", count), ("approvals", MOST), ("signed_approvals", MOST))
            return not engine.decide(APPLIER, Action.PROPOSAL_APPLY, resource, context, at=now).allowed

        most = bisect_left(range(_MOST_CHANGES), True, key=denies)
        known = 0 < most < _MOST_CHANGES
        budgets.append(Budget(app.id.rpartition("/")[2], counts.applied(app.id, now), most if known else None))
    return tuple(budgets)
