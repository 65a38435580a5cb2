"""Planning a promotion: what runs healthily in one environment, brought to the next, with labels that say where it ran.

| the target                  | changes                                                                            |
|-----------------------------|------------------------------------------------------------------------------------|
| syncs by hand               | its spec and labels, then a sync to the very revision that runs below              |
| is automated                | its spec and labels; it syncs by itself, and where it follows a branch it has that |
|                             | revision already                                                                   |
| has its spec kept by others | its labels and a sync, where its spec needs no change; else it is a commit of its  |
|                             | spec and labels where the settings know the repository, or refused                 |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...policies.errors import Invalid, Refused
from ..argocd.changes import change_source, is_automated, plan_sync_to, require_own_spec
from ..argocd.sources import Sources
from ..change import ChangeKind, JsonObject, Promotion, merge
from ..kubernetes.fields import read_object, read_objects, read_text, read_texts
from ..plan import Plan, follow
from ..rollouts.claims import find_downgrades
from ..tree import App, Health, Node, Sync
from .carrying import Carried, Move, carry
from .labels import FROM, PROPOSAL, REVISION

_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9._-]+")
_LABEL = 63
_TOLD = 3


def plan_promotion(
    node: Node, move: Move, origin: JsonObject, target: JsonObject, *, proposal: str, kept_by: str = ""
) -> list[Plan]:
    """The changes of the app `node` (the move's target) that bring it what the live Application `origin` runs, as part of
    the proposal of this id. `kept_by` says who keeps the target's spec, if anybody.

    Raises `Refused` for an origin that does not run well, where somebody keeps the spec, and for what must not cross;
    `Invalid` where there is nothing to bring."""
    _require_well(move.origin)
    found, ours = carry(move, origin, target), Sources.of(target)
    deployed = _list_deployed(target, ours)
    spec = _write_sources(ours, found)
    behind = any(now and now != was for now, was in zip(found.revisions, deployed, strict=True))
    automated = is_automated(target)
    if not spec and (automated or not behind):
        raise _nothing(move, automated and behind)
    if spec:
        require_own_spec(move.target, kept_by)
    plans = [_plan_labelled(node, move, target, found, spec, proposal)]
    if not automated:
        revisions = [now or was for now, was in zip(found.revisions, deployed, strict=True)]
        promoted = plans[0].change
        sync = plan_sync_to(node, merge(target, promoted.patch), revisions)
        plans.append(Plan(follow(sync.change, target, [promoted]), sync.risks))
    return plans


def brings_spec(move: Move, origin: JsonObject, target: JsonObject) -> bool:
    """Whether the target's spec has to be written; raises `Refused` as `carry` does."""
    return bool(_write_sources(Sources.of(target), carry(move, origin, target)))


def plan_promotion_commit(node: Node, move: Move, origin: JsonObject, document: JsonObject, *, proposal: str) -> Plan:
    """The same for the Application as it is written in its repository: its spec and labels, still without the diff of the
    file. Its parent brings them into the cluster, where it rolls them out by itself or is synced later.

    Raises as `plan_promotion` does."""
    _require_well(move.origin)
    found = carry(move, origin, document)
    spec = _write_sources(Sources.of(document), found)
    if not spec:
        raise Invalid(
            f"All that {move.origin.id.name} could bring is committed for {move.target.id.name}, but has not arrived.",
            field="apps",
            hint="Look at its parent: app_diagnose.",
        )
    return _plan_labelled(node, move, document, found, spec, proposal)


def _plan_labelled(node: Node, move: Move, target: JsonObject, found: Carried, spec: JsonObject, proposal: str) -> Plan:
    """The change that writes the spec and says where that ran."""
    labels = {FROM: move.origin.environment, PROPOSAL: proposal, REVISION: write_revision(move.origin.revision)}
    change = change_source(
        ChangeKind.PROMOTE,
        move.target,
        target,
        {**spec, "metadata": {"labels": labels}},
        say_promotion(move.target, move.origin.environment, found.carried, move.origin.revision),
    )
    promoted = change.model_copy(update={"promotion": _describe(move, found)})
    return Plan(promoted, tuple(find_downgrades([promoted], {promoted.target.app: node})))


def _require_well(app: App) -> None:
    """What does not run well is not brought further, and neither is what is not what Git says."""
    if app.health is not Health.HEALTHY or app.sync is not Sync.SYNCED:
        raise Refused(
            f"{app.id.name} is {app.health} and {app.sync}: only what runs Healthy and Synced is promoted.",
            field="apps",
            hint="app_diagnose says what is wrong with it.",
        )


def _list_deployed(target: JsonObject, ours: Sources) -> Sequence[str]:
    """The revision of each source that was deployed last, else the one that Argo CD compared with. While an app is
    OutOfSync the latter is only what a sync would bring: it may be that of below and not run here."""
    newest: JsonObject = max(
        read_objects(read_object(target, "status"), "history"), key=lambda each: int(each.get("id") or 0), default={}
    )
    deployed = read_texts(newest, "revisions") if ours.several else (read_text(newest, "revision"),)
    if len(deployed) == len(ours.each) and all(deployed):
        return deployed
    return ours.compared or [""] * len(ours.each)


def _write_sources(ours: Sources, found: Carried) -> dict[str, Any]:
    """The patch of the spec; a merge patch replaces lists, so several sources go as a whole."""
    if list(ours.each) == found.sources:
        return {}
    if ours.several:
        return {"spec": {"sources": found.sources}}
    return {"spec": {"source": _difference(ours.each[0], found.sources[0])}}


def _difference(before: JsonObject, after: JsonObject) -> dict[str, Any]:
    """The merge patch from one to the other, of which nothing is taken away."""
    return {
        key: _difference(was, value)
        if isinstance(was := before.get(key), Mapping) and isinstance(value, Mapping)
        else value
        for key, value in after.items()
        if before.get(key) != value
    }


def write_revision(revision: str) -> str:
    """A revision as the value of a label."""
    return _NOT_IN_LABELS.sub("-", revision)[:_LABEL].strip("-_.")


def _describe(move: Move, found: Carried) -> Promotion:
    origin = move.origin
    newest = max(origin.history, key=lambda each: each.id, default=None)
    return Promotion(
        app=str(origin.id),
        origin=origin.environment,
        environment=move.target.environment,
        revision=origin.revision,
        since=newest.at if newest else "",
        brought_by=origin.labels.get(PROPOSAL, ""),
        carried=tuple(found.carried),
        stays=tuple(found.stays),
    )


def say_promotion(target: App, origin: str, carried: Sequence[str], revision: str) -> str:
    """What a promotion of the target from the environment `origin` is called."""
    told = carried[:_TOLD] or [f"what runs there ({_NOT_IN_LABELS.sub('-', revision)[:10]})"]
    more = len(carried) - len(told)
    return f"Promote {target.id.name} from {origin}: {', '.join(told)}{f' and {more} more' if more > 0 else ''}"


def _nothing(move: Move, follows: bool) -> Invalid:
    target, origin = move.target.id.name, move.origin.id.name
    if follows:
        return Invalid(
            f"{target} follows its own branch by itself, so there is no revision to bring it.",
            field="apps",
            hint="Pin its target revision (set_revision), or change it in Git.",
        )
    return Invalid(f"{target} has all that {origin} could bring it.", field="apps", hint="app_get shows both.")
