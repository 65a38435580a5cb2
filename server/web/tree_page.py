"""What the page of the app tree says: environments, and in each the visible apps, parents over children."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...tools.tree import AppId, AppTree, Freshness, Health, Node, Sync

MOST_SHOWN = 1_000
"""How many apps one page holds."""


@dataclass(slots=True)
class Branch:
    """An app and what is shown under it. `failing` counts the failing apps below, itself not included; `personal` says
    whether the reader may see personal data of this app."""

    node: Node
    children: list[Branch] = field(default_factory=list)
    failing: int = 0
    matches: bool = True
    personal: bool = False


@dataclass(frozen=True, slots=True)
class TreeView:
    """The whole page: branches by environment, and how many apps by health. `left_out` were over the limit."""

    environments: Mapping[str, Sequence[Branch]]
    totals: Mapping[Health, int]
    freshness: Sequence[Freshness]
    left_out: int


@dataclass(frozen=True, slots=True)
class TreeFilter:
    """Which apps; empty fields match all."""

    text: str = ""
    environment: str = ""
    unhealthy: bool = False

    @property
    def narrows(self) -> bool:
        return bool(self.text or self.environment or self.unhealthy)

    def matches(self, node: Node) -> bool:
        app = node.app
        return (
            (not self.text or self.text.lower() in str(app.id).lower())
            and (not self.environment or app.environment == self.environment)
            and (not self.unhealthy or app.health is not Health.HEALTHY or app.sync is Sync.OUT_OF_SYNC)
        )


def view_tree(tree: AppTree, visible: Sequence[Node], wanted: TreeFilter, personal: Collection[AppId]) -> TreeView:
    """The tree of the visible apps that match, with the way down to them. An app whose parent is hidden is a root.
    `personal`: the apps of which the reader may see personal data."""
    kept, left_out = _with_ways(visible, wanted)
    branches = {
        node.app.id: Branch(node, matches=wanted.matches(node), personal=node.app.id in personal) for node in kept
    }
    roots = [branch for branch in branches.values() if _link(branch, branches)]
    environments: dict[str, list[Branch]] = {}
    for root in sorted(roots, key=lambda branch: str(branch.node.app.id)):
        _settle(root)
        environments.setdefault(root.node.app.environment, []).append(root)
    clusters = sorted({node.app.id.cluster for node in visible})
    totals = Counter(node.app.health for node in visible)
    return TreeView(
        dict(sorted(environments.items())),
        {health: totals[health] for health in Health if totals[health]},
        [tree.freshness(cluster) for cluster in clusters],
        left_out,
    )


def _with_ways(visible: Sequence[Node], wanted: TreeFilter) -> tuple[list[Node], int]:
    """The matching apps, worst first up to the limit, with all their visible ancestors; and how many were left out."""
    nodes = {node.app.id: node for node in visible}
    matching = [node for node in visible if wanted.matches(node)]
    kept: dict[AppId, Node] = {}
    for node in matching[:MOST_SHOWN]:
        at: Node | None = node
        while at is not None and at.app.id not in kept:
            kept[at.app.id] = at
            at = nodes.get(at.parent) if at.parent else None
    return list(kept.values()), max(0, len(matching) - MOST_SHOWN)


def _link(branch: Branch, branches: Mapping[AppId, Branch]) -> bool:
    """Hangs the branch under its parent; True when it has none here, or when that would close a circle."""
    parent = branches.get(branch.node.parent) if branch.node.parent else None
    if parent is None:
        return True
    seen: set[AppId] = set()
    above: Branch | None = parent
    while above is not None and above.node.app.id not in seen:
        if above is branch:
            return True
        seen.add(above.node.app.id)
        above = branches.get(above.node.parent) if above.node.parent else None
    parent.children.append(branch)
    return False


def _settle(branch: Branch) -> int:
    """Sorts children and counts failing apps from the leaves up; returns the branch's own count, itself included."""
    branch.children.sort(key=lambda child: (child.node.app.wave, child.node.app.id))
    branch.failing = sum(_settle(child) for child in branch.children)
    return branch.failing + branch.node.app.failing


def environments_of(nodes: Iterable[Node]) -> list[str]:
    """The names to filter by."""
    return sorted({node.app.environment for node in nodes})
