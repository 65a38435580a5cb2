"""What is changed by a commit, told again from what it writes: each by the planner that it came from."""

from __future__ import annotations

from collections.abc import Iterator

from ...policies.errors import Refused
from ..argocd.changes import API as ARGO_API
from ..change import ChangeKind
from ..plan import Plan
from ..promotion.retelling import RETELLINGS as PROMOTIONS
from ..retelling import Claim, Retelling, Retellings
from ..rollouts.retelling import RETELLINGS as ROLLOUTS
from .changes import as_application, find_field, make_commit, plan_image_value, plan_replicas_value
from .places import API, APPLICATION, BY_COMMIT, Books

_LIVE: Retellings = {**ROLLOUTS, **PROMOTIONS}


def list_retellings(books: Books) -> Retellings:
    """Every change that a commit can make, by what the applier's own settings say of the apps' values."""

    def retell_application(claim: Claim) -> Iterator[Plan]:
        if claim.change.kind is ChangeKind.SCALE:
            raise Refused("an Application has no replicas")
        live = as_application(claim.node, claim.live)
        yield from _LIVE[claim.change.kind, ARGO_API](Claim(claim.node, claim.change, live))

    def retell_values(claim: Claim) -> Iterator[Plan]:
        target, (field, value) = claim.change.target, find_field(claim.change, books, claim.node)
        if field and claim.change.kind is ChangeKind.SCALE:
            yield plan_replicas_value(claim.node, target, claim.live, field=field, replicas=value)
        elif field:
            image = claim.change.summary.partition(" to ")[2].partition(",")[0]
            yield plan_image_value(claim.node, target, claim.live, field=field, image=image)

    def retell(claim: Claim) -> Iterator[Plan]:
        told: Retelling = retell_application if claim.change.target.kind == APPLICATION else retell_values
        for plan in told(claim):
            again = make_commit(plan, claim.node, claim.change.target, claim.live)
            version = claim.live["metadata"]["resourceVersion"]
            if again.change.diff != claim.change.diff and version != claim.change.precondition.resource_version:
                raise Refused("the file has changed since this was proposed")
            yield again

    return {(kind, API): retell for kind in BY_COMMIT}
