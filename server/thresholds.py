"""How many have to approve a proposal, and how many of them by passkey: found by asking policy what could be applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..policies.engine import Engine
from ..policies.model import Action, Resource
from ..tools.app import AppId
from ..tools.proposal import Content, Proposal, ProposalState, Verdict, proposal_resources, touched
from .proposals import APPLIER, approvals_needed
from .settings import ProposalSettings

MOST = 5
"""The most approvals that policy is asked about; what wants more is never applied."""


class Thresholds:
    """What policy makes of the numbers of approvals. What else it says (a freeze, a budget) is left aside: it is asked with
    more and more of them, until more make no difference."""

    def __init__(
        self, engine: Callable[[], Engine], resource: Callable[[AppId], Resource], settings: ProposalSettings
    ) -> None:
        """`resource` finds an app, `settings` say the fewest approvals for a risk, whatever policy says."""
        self._engine = engine
        self._resource = resource
        self._settings = settings

    def find_needed(self, content: Content) -> int:
        """How many people have to approve it."""
        least, enough = approvals_needed(self._settings, content.risk), self._ask(content, MOST, MOST)
        return next((n for n in range(least, MOST) if self._ask(content, n, n) == enough), max(least, MOST))

    def find_signed(self, content: Content) -> int:
        """How many of the approvals have to be signed with a passkey."""
        enough = self._ask(content, MOST, MOST)
        return next((n for n in range(MOST) if self._ask(content, MOST, n) == enough), MOST)

    def must_sign(self, proposal: Proposal) -> bool:
        """Whether the next approval has to be signed: else too few of all that it takes would be."""
        given = [one for one in proposal.approvals if one.verdict is Verdict.APPROVE]
        signed = sum(one.assertion is not None for one in given)
        left = max(proposal.content.approvals_needed - len(given), 1)
        return signed + left - 1 < self.find_signed(proposal.content)

    def _ask(self, content: Content, approvals: int, signed: int) -> Sequence[tuple[bool, frozenset[str]]]:
        """For each app that it touches the decision by that many approvals, with the policies that determine it."""
        engine = self._engine()
        asked = Proposal(content=content, digest="", state=ProposalState.APPROVED, state_at=content.created_at)
        context = (("applied_today", 0), ("approvals", approvals), ("signed_approvals", signed))
        answers = [
            engine.decide(APPLIER, Action.PROPOSAL_APPLY, each, context, at=content.created_at)
            for each in proposal_resources(asked, [self._resource(app) for app in touched(asked)])
        ]
        return [(answer.allowed, frozenset(answer.policies)) for answer in answers]
