"""A promotion, told again from what it writes on its target: in words, all that it carries, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...policies.errors import Refused
from ..argocd.changes import API, change_source
from ..argocd.images import read_values, split_image
from ..argocd.sources import Sources
from ..change import Change, ChangeKind, JsonObject, merge
from ..kubernetes.fields import read_object, read_text, read_texts
from ..plan import Plan
from ..retelling import Claim, Retellings
from ..rollouts.claims import find_downgrades
from .carrying import say_parameter, say_revision
from .plan import say_promotion


def write_promotion_title(changes: Sequence[Change]) -> str:
    """What a proposal of promotions is called; `""` for one that promotes nothing."""
    promoted = [(one.target.app.rpartition("/")[2], one.promotion) for one in changes if one.promotion]
    if not promoted:
        return ""
    names, told = ", ".join(name for name, _ in promoted), promoted[0][1]
    return f"Promote {names} from {told.origin} to {told.environment}"


def _retell(claim: Claim) -> Iterator[Plan]:
    """That what it carries ran where it comes from is held by `check_brought`."""
    told, app = claim.change.promotion, claim.node.app
    if told is None or sorted(told.carried) != sorted(_list_carried(claim.live, claim.change.patch)):
        raise Refused("it carries something else than it tells")
    summary = say_promotion(app, told.origin, told.carried, told.revision)
    change = change_source(ChangeKind.PROMOTE, app, claim.live, claim.change.patch, summary)
    promoted = change.model_copy(update={"promotion": told})
    yield Plan(promoted, tuple(find_downgrades([promoted], {promoted.target.app: claim.node})))


def _list_carried(live: JsonObject, patch: JsonObject) -> Iterator[str]:
    """What the patch brings, in the words of a promotion."""
    for was, now in zip(Sources.of(live).each, Sources.of(merge(live, patch)).each, strict=True):
        if (revision := read_text(now, "targetRevision")) not in ("", read_text(was, "targetRevision")):
            yield say_revision(revision)
        known = _list_images(was)
        yield from (f"image {split_image(each)}" for each in _list_images(now) if each not in known)
        held = read_values(was)
        yield from (say_parameter(name, value) for name, value in read_values(now).items() if held.get(name) != value)


def _list_images(source: JsonObject) -> Sequence[str]:
    return read_texts(read_object(source, "kustomize"), "images")


RETELLINGS: Retellings = {(ChangeKind.PROMOTE, API): _retell}
"""Promotions."""
