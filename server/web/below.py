"""What a change would bring to an app, beside what the same component runs in the environment below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...tools.app import Health, Sync
from ...tools.change import Change, ChangeKind
from ...tools.promotion.ladder import PromotionSettings, find_counterparts
from ...tools.reach import Keep
from ...tools.rollouts.brought import read_brought
from ...tools.tree import AppTree, Node

_DEPLOYING = frozenset(
    {ChangeKind.PROMOTE, ChangeKind.ROLLBACK, ChangeKind.SET_IMAGE, ChangeKind.SET_REVISION, ChangeKind.SYNC}
)


@dataclass(frozen=True, slots=True)
class Piece:
    """An image or a revision that would be brought, and whether that app below runs it."""

    text: str
    runs: bool


@dataclass(frozen=True, slots=True)
class Below:
    """One app of the environment below. `unclear`: what the change brings can't be told from the change."""

    node: Node
    pieces: tuple[Piece, ...]
    unclear: bool

    @property
    def well(self) -> bool:
        """Whether it is healthy, synced and not failing."""
        app = self.node.app
        return app.health is Health.HEALTHY and app.sync is Sync.SYNCED and not app.failing


def find_below(change: Change, tree: AppTree, ladder: PromotionSettings, keep: Keep) -> Sequence[Below]:
    """The apps that the change's app is in the environment below, as far as `keep` shows them; none for a change that
    deploys nothing, and where the settings have no environment below."""
    node = tree.find(change.target.app)
    environment = ladder.below(node.app.environment) if node else ""
    if node is None or not environment or change.kind not in _DEPLOYING:
        return ()
    brought = read_brought(change, node.app)
    return [
        Below(
            each,
            (
                *(Piece(image, image in each.app.images) for image in brought.images),
                *(Piece(one, _is_at(one, each)) for one in (brought.revision,) if one),
            ),
            bool(brought.unclear),
        )
        for each in keep(find_counterparts(node, environment, tree, ladder))
    ]


def _is_at(revision: str, node: Node) -> bool:
    return revision in (node.app.revision, *(source.target_revision for source in node.app.sources))
