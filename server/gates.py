"""What has to hold before the next wave: every change has worked, has stayed so for its bake time, and harmed nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ..policies.errors import Unavailable
from ..tools.app import AppId
from ..tools.argocd.changes import API
from ..tools.change import Change, JsonObject, Target, Writer
from ..tools.environments import UNASSIGNED
from ..tools.proposal import Proposal, Step, StepState
from ..tools.tree import AppTree
from .applier_settings import GateSettings
from .probes import Prober
from .progress import Progress, judge_lasting, judge_progress
from .siblings import Baselines, Siblings, find_siblings

_AT_ONCE = 16
"""How many objects of one proposal are read at once."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one change. `error` says why it could not be seen, and the change then counts as waiting.

    `harmed`: it had worked, and two looks in a row have seen that it broke. `since` is when it was first seen not to be
    well (any more) in a row of looks; 0.0 while it is."""

    progress: Progress
    message: str = ""
    error: Unavailable | None = None
    harmed: bool = False
    since: float = 0.0

    @property
    def done(self) -> bool:
        return self.progress is Progress.DONE


def hold_to(change: Change, *, tree: AppTree, settings: GateSettings) -> Change:
    """The change as these settings want it: with the bake time of its environment and the probes of its app, if it has
    not more already."""
    app, check = change.target.app, change.check
    node = tree.find(app)
    bake = max(check.bake, settings.bake.get(node.app.environment if node else UNASSIGNED, 0))
    probes = tuple(dict.fromkeys((*check.probes, *settings.probes.of(app))))
    return change.model_copy(update={"check": check.model_copy(update={"bake": bake, "probes": probes})})


class Gates:
    """The gates of one applier, by its own tree, probes and settings."""

    def __init__(
        self,
        *,
        writer: Writer,
        tree: AppTree,
        prober: Prober,
        baselines: Baselines,
        settings: GateSettings,
        clock: Callable[[], float],
    ) -> None:
        self.writer = writer
        self.prober = prober
        self.clock = clock
        self._tree = tree
        self._baselines = baselines
        self._settings = settings

    def bake(self, change: Change) -> int:
        """Seconds that the change has to stay well: what was approved, or more where the settings say so."""
        return hold_to(change, tree=self._tree, settings=self._settings).check.bake

    async def open(self, proposal: Proposal) -> Watch:
        """Notes who is well beside the changes, before the first is begun; later it is what was noted then."""
        watched: Collection[AppId] = ()
        if self._settings.watch_siblings:
            known = await self._baselines.read(proposal.id) if proposal.steps else None
            if known is None:
                known = find_siblings(self._tree, proposal.content.changes)
                await self._baselines.keep(proposal.id, known)
            watched = known
        return Watch(self, proposal, Siblings(self._tree, proposal.content.changes, watched))

    async def close(self, proposal: Proposal) -> None:
        """Nothing is watched any more."""
        if self._settings.watch_siblings:
            await self._baselines.forget(proposal.id)


class Watch:
    """One proposal, looked at again and again."""

    def __init__(self, gates: Gates, proposal: Proposal, siblings: Siblings) -> None:
        self._gates = gates
        self._changes = proposal.content.changes
        self._siblings = siblings
        self._broken: set[int] = set()
        self._since: dict[int, float] = {}
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def look(self, steps: Mapping[int, Step]) -> Mapping[int, Look]:
        """All of these changes at once, by number; each is held to what it has reached."""
        looks = await asyncio.gather(*(self._look(index, step) for index, step in steps.items()))
        return {
            index: self._remember(index, step, look) for (index, step), look in zip(steps.items(), looks, strict=True)
        }

    def find_harm(self) -> str:
        """What came to harm beside the changes, in a sentence, or `""`."""
        return self._siblings.look()

    async def _look(self, index: int, step: Step) -> Look:
        change = self._changes[index]
        async with self._free:
            try:
                app, target = await self._read(change)
            except Unavailable as error:
                return Look(Progress.WAITING, error.message, error)
            gone = change.target if target is None else change.check.app if app is None else None
            if app is None or target is None:
                return Look(Progress.FAILED, f"{gone} is gone.")
            lasting = step.state is StepState.HEALTHY
            judged = judge_lasting(change, app, target) if lasting else judge_progress(change, step.seen, app, target)
            if judged[0] is Progress.DONE and (failing := await self._gates.prober.probe(change)):
                judged = (Progress.FAILED if lasting else Progress.WAITING), failing
            return Look(*judged)

    async def _read(self, change: Change) -> tuple[JsonObject | None, JsonObject | None]:
        cluster, namespace, name = AppId.parse(change.check.app)
        app_target = Target(
            app=change.check.app, cluster=cluster, api=API, kind="Application", namespace=namespace, name=name
        )
        app = await self._gates.writer.read(app_target)
        return app, app if change.target == app_target else await self._gates.writer.read(change.target)

    def _remember(self, index: int, step: Step, look: Look) -> Look:
        """One look may deceive: what had worked counts as broken by the second in a row. What was not seen says nothing."""
        since = 0.0 if look.done else self._since.get(index) or self._gates.clock()
        self._since[index] = since
        harmed = False
        if look.error is None:
            breaks = step.state is StepState.HEALTHY and look.progress is Progress.FAILED
            harmed = breaks and index in self._broken
            (self._broken.add if breaks else self._broken.discard)(index)
        return Look(look.progress, look.message, look.error, harmed, since)
