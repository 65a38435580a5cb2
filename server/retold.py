"""What a proposal tells its approvers, held against what the applier finds by itself: no word of it is believed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from ..policies.errors import Refused
from ..tools.change import Change, Rehearsed, Target
from ..tools.plan import write_title
from ..tools.promotion import retelling as promotions
from ..tools.promotion.claims import check_company
from ..tools.promotion.retelling import write_promotion_title
from ..tools.proposal import Content
from ..tools.retelling import Retellings
from ..tools.risk import WEIGHTS, Factor
from ..tools.rollouts import retelling as rollouts

RETELLINGS: Retellings = {**promotions.RETELLINGS, **rollouts.RETELLINGS}
"""Every change that can be told again; no other is applied."""

_REASONS: Mapping[Factor, tuple[str, ...]] = {
    Factor.DOWNGRADE: (
        r"\S+ goes back to an earlier version \(\S+\)\.",
        r"\S+ ran \S+ before what it runs now\.",
        r"It goes back to an earlier deployment; data that was migrated since does not go back with it\.",
    ),
    Factor.MANY_APPS: (r"It changes \d+ apps\.", r"With what is below, it reaches more than \d+ apps\."),
    Factor.NEW_REQUESTER: (r"Nothing that this person proposed was applied before\.",),
    Factor.OFF_HOURS: (r"It is proposed outside the working hours\.",),
    Factor.REPLICAS_TO_ZERO: (r"\S+ \S+ of \S+ stops running\.",),
    Factor.SECRETS_TOUCHED: (
        r"It changes which Secrets \S+ uses\.",
        r"Secrets are among what \S+ deploys\.",
        r"New pods of \S+ \S+ of \S+ take what its Secrets hold now\.",
    ),
    Factor.STRICT_ENVIRONMENT: (r"The environment \S+ is strict\.",),
}
"""Every sentence that can say why there is a factor: what was found when something was proposed may be gone since, and
then it can't be found again, but it can't have been said in any other words."""


def check_words(content: Content, environments: Collection[str], needed: int, clean: Callable[[str], str]) -> None:
    """The title is that of the changes, and the environments and how many have to approve are what they are here.

    `clean` is what took secrets out of the title. Raises `Refused`."""
    check_company(content.changes)
    if content.title != clean(write_promotion_title(content.changes) or write_title(content.changes)):
        raise Refused("It is not called what its changes are.")
    if content.environments != tuple(sorted(environments)):
        raise Refused(f"It does not tell the environments that it is about: {', '.join(sorted(environments))}.")
    if content.approvals_needed < needed:
        raise Refused(f"It says that {content.approvals_needed} approvals are enough, and it takes {needed}.")
    for each in content.factors:
        if each.weight != WEIGHTS[each.factor]:
            raise Refused(f"It tells another weight of {each.factor} than that has.")
        if not any(re.fullmatch(form, each.why) for form in _REASONS[each.factor]):
            raise Refused(f"It tells {each.factor} in words that are not ours.")


def find_earlier(changes: Sequence[Change], index: int) -> Sequence[Change]:
    """The changes of the same object that come before one in its proposal."""
    return [one for one in changes[:index] if one.target == changes[index].target]


def check_rehearsed(target: Target, told: Rehearsed, again: Rehearsed) -> None:
    """What the approvers were told that the system says is all that it says. Raises `Refused`."""
    if not (told.ok and again.ok):
        raise Refused(again.refusal or told.refusal or f"The dry run of the change of {target} fails.")
    untold = [one for one in again.warnings if one not in told.warnings]
    if untold:
        raise Refused(f"The approvers were not told what the system warns of: {untold[0]}")
