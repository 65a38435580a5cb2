"""What policy is told that only the state knows: how many changes an app has had, and whose broken glass is unreviewed.

A day is the 24 hours before: with days by the calendar twice the budget would fit around midnight, and whose midnight
it is would matter. A change counts from the moment its proposal is begun, so one that fails or is undone counts too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..policies.model import COUNTED, Action, Attribute
from ..tools.proposal import Content, Proposal, Verdict, count_votes

DAY = 86_400.0

Begun = tuple[str, float]
"""One change that was begun: `proposal/number`, and when, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was begun of some apps (by id, oldest first), and the proposals with broken glass that nobody has reviewed."""

    begun: Mapping[str, Sequence[Begun]]
    unreviewed: Sequence[Proposal]
    _asked: list[tuple[Content, Counter[str]]] = field(default_factory=list, compare=False, repr=False)
    """The content that was asked about last, and its changes by app: of hundreds of apps each is asked about in a row."""

    def context(
        self,
        action: Action,
        proposal: Proposal,
        app: str,
        person: str,
        at: float,
        *,
        past: bool = False,
        signed: bool = False,
    ) -> tuple[tuple[str, Attribute], ...]:
        """What the context of the action says of it, at the moment `at`; with `past` only what was known then. `signed`
        says whether the approval that is asked about is signed with a passkey."""
        given = {one.approver.key: one for one in proposal.approvals if one.verdict is not Verdict.REJECT}
        told: dict[str, Callable[[], Attribute]] = {
            "applied_today": lambda: self.before(proposal, app, at, past=past),
            "approvals": lambda: count_votes(proposal.approvals),
            "signed": lambda: signed,
            "signed_approvals": lambda: sum(one.assertion is not None for one in given.values()),
            "unreviewed": lambda: self.age(proposal, person, at),
        }
        return tuple((name, told[name]()) for name in COUNTED.get(action, ()) if name in told)

    def applied(self, app: str, at: float) -> int:
        """How many changes of the app were begun in the 24 hours before."""
        return sum(when > at - DAY for _, when in self.begun[app])

    def before(self, proposal: Proposal, app: str, at: float, *, past: bool = False) -> int:
        """How many changes of the app its last one in the proposal comes after: those of others, 24 hours back from when
        the proposal was begun or would be, and its own. So a proposal fits into a budget as a whole or not at all."""
        own = f"{proposal.id}/"
        began = next((when for name, when in self.begun[app] if name.startswith(own)), None)
        if began is None or (past and began > at):
            taken = sum(when > at - DAY and not (past and when > at) for _, when in self.begun[app])
        else:
            taken = sum(began - DAY < when < began for _, when in self.begun[app])
        return taken + self._count_own(proposal.content)[app] - 1

    def _count_own(self, content: Content) -> Counter[str]:
        if not self._asked or self._asked[0][0] is not content:
            self._asked[:] = [(content, Counter(change.target.app for change in content.changes))]
        return self._asked[0][1]

    def age(self, proposal: Proposal, person: str, at: float) -> int:
        """How many seconds ago the person broke the glass for the first time of those that are unreviewed, this proposal
        aside; 0 where there is none."""
        uses = [
            one.glass.at for one in self.unreviewed if one.glass and one.breaker == person and one.id != proposal.id
        ]
        return max(int(at - min(uses)), 1) if uses and min(uses) < at else 0

    def newest(self, app: str) -> str:
        """The change of the app that was begun last; `""` where none was."""
        return self.begun[app][-1][0] if self.begun[app] else ""
