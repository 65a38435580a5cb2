"""The traps of the app-of-apps pattern: what a status does not say, told in our own words with the way out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .app import App, AppId, Health, Sync
from .lineage import ParentBy

DELETION_SECONDS = 300.0
"""How long a deletion may take before its finalizers are worth telling about."""

CASCADE = "resources-finalizer.argocd.argoproj.io"


class FindingKind(StrEnum):
    """The traps of the app-of-apps pattern, and the faults of a tree."""

    CYCLE = "cycle"
    FINALIZER_BLOCKS = "finalizer_blocks"
    HEALTHY_PARENT_MISSING_CHILD = "healthy_parent_missing_child"
    SELF_HEAL_WILL_UNDO = "self_heal_will_undo"
    TWO_PARENTS = "two_parents"
    UNTRACKED = "untracked"
    WAVES_ORDER_NOTHING = "waves_order_nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about an app that a status does not say: what, in our words, and the way out.

    `apps` are the other apps that it is about. They are not named in the words: whoever may see this app may not be
    allowed to know of those.
    """

    kind: FindingKind
    message: str
    way_out: str
    apps: tuple[AppId, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """All that findings about one app are judged from.

    `children` are the apps under it, each with how it was found to be; `absent` those that it lists and that are not
    there; `listed` those that it lists and that are. `healers` are the self-healing parents that see this app drifted;
    `orphaned` says that its tracking id names nobody, `others_tracked` that other apps of its cluster have a parent.
    """

    app: App
    has_parent: bool
    children: Sequence[tuple[App, ParentBy]]
    listed: Sequence[App]
    absent: Collection[AppId]
    cycle: tuple[AppId, ...]
    owners: Collection[AppId]
    healers: Collection[AppId]
    orphaned: bool
    others_tracked: bool


def judge(situation: Situation, now: float) -> tuple[Finding, ...]:
    """The findings about one app, in the order of their kinds. `now` is seconds since the epoch."""
    found = (*_find_faults(situation), *_find_traps(situation), *_find_stuck(situation.app, now))
    return tuple(sorted(found, key=lambda finding: finding.kind))


def find_stuck_time(app: App) -> float | None:
    """When (seconds since the epoch) the app's deletion has taken too long; None when it is not being deleted."""
    try:
        since = datetime.fromisoformat(app.deleting_since) if app.deleting_since else None
    except ValueError:
        return None
    return since.timestamp() + DELETION_SECONDS if since and since.tzinfo and app.finalizers else None


def _find_faults(situation: Situation) -> Iterator[Finding]:
    app = situation.app
    if situation.cycle:
        yield Finding(
            FindingKind.CYCLE,
            f"{len(situation.cycle)} apps, this one among them, are each other's parents in a circle. "
            "The tree is shown with the circle cut at one of them.",
            "Remove the app manifest from the source of the app that should not own it, so that one of them is a root.",
            tuple(sorted(each for each in situation.cycle if each != app.id)),
        )
    if len(situation.owners) > 1:
        yield Finding(
            FindingKind.TWO_PARENTS,
            f"{len(situation.owners)} apps manage this app. Each sync of one takes it from the other, "
            "so that it flips between their versions.",
            "Keep its manifest in the source of one parent alone, and remove it from the others without pruning.",
            tuple(sorted(situation.owners)),
        )
    if situation.orphaned:
        yield Finding(
            FindingKind.UNTRACKED,
            "Its tracking id names a parent app that does not exist: nothing keeps this app as Git says.",
            "Restore the parent, or add the app's manifest to another parent's source, or delete the app.",
        )
    elif _is_alone(situation):
        yield Finding(
            FindingKind.UNTRACKED,
            "No parent app tracks this app, and it is the parent of none: it was made by hand, "
            "and nobody's Git says that it should exist.",
            "Add its manifest to the source of a parent app, which then adopts it, or delete it.",
        )


def _is_alone(situation: Situation) -> bool:
    app = situation.app
    return (
        situation.others_tracked
        and not situation.has_parent
        and not situation.children
        and not situation.listed
        and not situation.absent
        and not app.owner_set
        and all(managed.kind not in ("Application", "ApplicationSet") for managed in app.managed)
    )


def _find_traps(situation: Situation) -> Iterator[Finding]:
    app = situation.app
    # An ApplicationSet applies its apps all at once; these waves are the parent's own.
    waved = [child for child, by in situation.children if by is not ParentBy.APPLICATION_SET]
    waves = {child.wave for child in waved}
    if len(waves) > 1:
        yield _tell_waves(waved, min(waves), max(waves))
    if app.health is Health.HEALTHY:
        unwell = [child.id for child in situation.listed if child.health in (Health.DEGRADED, Health.MISSING)]
        if unwell or situation.absent:
            yield Finding(
                FindingKind.HEALTHY_PARENT_MISSING_CHILD,
                "It reports Healthy, but of the child apps that it lists "
                f"{len(situation.absent)} do not exist and {len(unwell)} are degraded or missing.",
                "Look at the children, not at this health: Argo CD counts child apps into it only when a health check "
                "for argoproj.io/Application is configured.",
                (*sorted(situation.absent), *sorted(unwell)),
            )
    if situation.healers:
        yield Finding(
            FindingKind.SELF_HEAL_WILL_UNDO,
            "Its live spec differs from its parent's Git, and the parent heals itself: the difference will be undone.",
            "Put the change into the parent's Git source; a live change does not last here.",
            tuple(sorted(situation.healers)),
        )
    elif app.automated and app.self_heal and app.sync is Sync.OUT_OF_SYNC:
        yield Finding(
            FindingKind.SELF_HEAL_WILL_UNDO,
            "It is out of sync and heals itself: what was changed live in the objects it manages will be undone.",
            "Put the change into the app's Git source; a live change does not last here.",
        )


def _tell_waves(children: Sequence[App], first: int, last: int) -> Finding:
    by_themselves = [child.id for child in children if child.automated]
    also = (
        f" And {len(by_themselves)} of them sync by themselves, whatever the parent's waves say."
        if by_themselves
        else ""
    )
    return Finding(
        FindingKind.WAVES_ORDER_NOTHING,
        f"Its child apps carry sync waves from {first} to {last}. Unless a health check for argoproj.io/Application is "
        "configured in Argo CD, a wave is over as soon as its apps exist, not when they are healthy." + also,
        "Have the health check configured and let the children that must wait not sync by themselves, or roll out by a "
        "proposal: the applier keeps the waves and waits for health.",
        tuple(sorted(by_themselves)),
    )


def _find_stuck(app: App, now: float) -> Iterator[Finding]:
    stuck_at = find_stuck_time(app)
    if stuck_at is None or now < stuck_at:
        return
    cascading = any(finalizer.startswith(CASCADE) for finalizer in app.finalizers)
    yield Finding(
        FindingKind.FINALIZER_BLOCKS,
        f"It is being deleted since {app.deleting_since[:20]}, and {len(app.finalizers)} finalizers still hold it.",
        "Argo CD is deleting what the app manages: see which of its objects remain and what holds those, and whether "
        "its destination cluster and project still exist. Remove the finalizer only when what remains may stay behind."
        if cascading
        else "See whether the controller that set the finalizer still runs; it is the one to finish the deletion.",
    )
