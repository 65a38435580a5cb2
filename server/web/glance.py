"""What an approver has to see first: how risky a proposal is and why, and what would make it less so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...tools.risk import WEIGHTS, Factor, RiskFactor

LOWER: Mapping[Factor, str] = {
    Factor.DOWNGRADE: "Go forward to a new version that mends it, or make sure that nothing was migrated since.",
    Factor.MANY_APPS: "Split it into proposals of a few apps each, one after the other.",
    Factor.NEW_REQUESTER: "Nothing in this proposal; it falls away once something they proposed has been applied.",
    Factor.OFF_HOURS: "Propose it again during the working hours.",
    Factor.REPLICAS_TO_ZERO: "Leave one replica running.",
    Factor.SECRETS_TOUCHED: "Leave the Secrets that are used as they are, and change those by themselves.",
    Factor.STRICT_ENVIRONMENT: "Nothing in this proposal; try it first in an environment that is not strict.",
}
"""What would take a factor away."""


@dataclass(frozen=True, slots=True)
class RiskView:
    """One factor, which counts once, and all the reasons that it was found for."""

    factor: str
    weight: int
    reasons: tuple[str, ...]
    lower: str


def view_risks(factors: Iterable[RiskFactor]) -> tuple[RiskView, ...]:
    """The factors, the heaviest first."""
    reasons: dict[Factor, list[str]] = {}
    for each in factors:
        reasons.setdefault(each.factor, []).append(each.why)
    views = [RiskView(factor, WEIGHTS[factor], tuple(whys), LOWER[factor]) for factor, whys in reasons.items()]
    return tuple(sorted(views, key=lambda view: (-view.weight, view.factor)))
