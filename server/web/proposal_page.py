"""What the page of one proposal says, prepared for its template."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ...policies.errors import ArborgateError
from ...policies.model import Caller
from ...tools.change import Change, Rehearsed
from ...tools.promotion.ladder import PromotionSettings
from ...tools.proposal import Proposal, Step, Verdict, count_votes, touched
from ...tools.reach import Reach, find_reach
from ...tools.record import Record
from ...tools.risk import weigh
from ...tools.tree import AppId, Node
from ...tools.undo import diff_undo
from .below import Below, find_below
from .diffs import DiffView, view_diff
from .glance import RiskView, view_risks
from .review import Review
from .rulings import Seen

SHORT_DIGEST = 12
"""How many characters of a digest people compare by eye."""


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change: the plan, its diff and that of its undo (None: there is none), the dry run's answer (None before it) and
    how far it has been applied."""

    number: int
    change: Change
    diff: DiffView
    undo: DiffView | None
    rehearsed: Rehearsed | None
    step: Step
    below: Sequence[Below] = ()


@dataclass(frozen=True, slots=True)
class ProposalView:
    """The whole page. `record` is None when it can't be shown, and `record_note` then says why; `personal` holds the apps
    of which the reader may see personal data."""

    seen: Seen
    changes: tuple[ChangeView, ...]
    reach: Reach
    personal: Collection[AppId]
    record: Sequence[Record] | None
    record_note: str
    mine: Verdict | None

    @property
    def proposal(self) -> Proposal:
        return self.seen.proposal

    @property
    def targets(self) -> Sequence[AppId]:
        return touched(self.proposal)

    def shows(self, owners: Sequence[Node]) -> bool:
        """Whether personal data in what these apps share shows."""
        return all(node.app.id in self.personal for node in owners)

    @property
    def short_digest(self) -> str:
        return self.proposal.digest[:SHORT_DIGEST]

    @property
    def approvals(self) -> int:
        return count_votes(one for one in self.proposal.approvals if one.verdict is Verdict.APPROVE)

    @property
    def weight(self) -> int:
        """The weights of all that makes it risky, together."""
        return weigh(self.proposal.content.factors)

    @property
    def kinds(self) -> Sequence[str]:
        """What the changes do, each kind once."""
        return list(dict.fromkeys(str(view.change.kind) for view in self.changes))

    @property
    def risks(self) -> Sequence[RiskView]:
        return view_risks(self.proposal.content.factors)

    @property
    def spent(self) -> int:
        """How many of the apps have used up their budgets."""
        return sum(one.most is not None and one.applied >= one.most for one in self.seen.budgets)

    @property
    def undoable(self) -> int:
        """How many of the changes can be undone."""
        return sum(view.change.undo is not None for view in self.changes)


async def view_proposal(
    review: Review, caller: Caller, seen: Seen, clean: Callable[[str], str], ladder: PromotionSettings
) -> ProposalView:
    """Gathers all that the page shows; a record that can't be searched is said on the page, not an error. `clean` is for
    the lines of diffs, and takes out what the caller may not see; `ladder` says which environment is below which."""
    proposal, keep = seen.proposal, review.keep_for(caller)
    record: Sequence[Record] | None = None
    note = ""
    try:
        record = await review.records_of(caller, proposal)
    except ArborgateError as error:
        note = error.message
    rehearsed = proposal.content.rehearsal.changes if proposal.content.rehearsal else ()
    changes = tuple(
        ChangeView(
            number=index + 1,
            change=change,
            diff=view_diff(change.diff, clean),
            undo=view_diff(undo, clean) if (undo := diff_undo(change)) else None,
            rehearsed=rehearsed[index] if index < len(rehearsed) else None,
            step=proposal.steps[index] if index < len(proposal.steps) else Step(),
            below=find_below(change, review.tree, ladder, keep),
        )
        for index, change in enumerate(proposal.content.changes)
    )
    mine = next((one.verdict for one in proposal.approvals if one.approver.key == caller.key), None)
    reach = find_reach(review.tree, [change.target for change in proposal.content.changes], keep)
    lower = [below.node for one in changes for below in one.below]
    personal = review.find_personal(caller, [*(one.node for one in reach.apps), *reach.leaning, *lower])
    return ProposalView(seen, changes, reach, personal, record, note, mine)
