"""The tree as one caller sees it: what policy hides is not there, and neither are the links through it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..tool import Context
from ..tree import AppId, Finding, FindingKind, Freshness, Health, Managed, Node
from .find import keep_visible

HEALTHS = tuple(Health)
"""Worst first."""


class Sight:
    """One caller's view, for the length of one call; each app is decided about once."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._tree = ctx.tree
        self._seen: dict[AppId, bool] = {}

    def keep(self, nodes: Sequence[Node]) -> list[Node]:
        """Those of the nodes that the caller may read, in their order."""
        unknown = [node for node in nodes if node.app.id not in self._seen]
        if unknown:
            allowed = {node.app.id for node in keep_visible(self._ctx, unknown)}
            self._seen.update((node.app.id, node.app.id in allowed) for node in unknown)
        return [node for node in nodes if self._seen[node.app.id]]

    def parent(self, node: Node) -> Node | None:
        parent = self._tree.get(node.parent) if node.parent else None
        return parent if parent and self.keep([parent]) else None

    def children(self, node: Node) -> list[Node]:
        return self.keep(self._tree.children(node))

    def below(self, node: Node) -> list[Node]:
        """Everything under a visible node, parents before children, reached through visible apps alone."""
        reached = {node.app.id}
        found = []
        for each in self.keep(self._tree.descendants(node)):
            if each.parent in reached:
                reached.add(each.app.id)
                found.append(each)
        return found

    def path(self, top: Node, node: Node) -> list[Node]:
        """From `top` down to `node`, both visible; just the node where no visible links lead to it from the top."""
        path = [node]
        while path[-1].app.id != top.app.id:
            above = self.parent(path[-1])
            if above is None or above in path:
                return [node]
            path.append(above)
        return path[::-1]

    def failing(self, node: Node) -> list[Node]:
        """The failing apps at or below a visible node that have no failing one below them: deepest, worst first."""
        depth = {node.app.id: 0}
        failing = [node] if node.app.failing else []
        covered: set[AppId] = set()
        for each in self.below(node):
            depth[each.app.id] = depth[each.parent] + 1 if each.parent else 0
            if each.app.failing:
                failing.append(each)
        for each in failing:
            covered.update(above.app.id for above in self.path(node, each)[:-1])
        deepest = [each for each in failing if each.app.id not in covered]
        return sorted(deepest, key=lambda each: (-depth[each.app.id], HEALTHS.index(each.app.health), each.app.id))

    def deepest_failing(self, node: Node) -> Node | None:
        """The failing app furthest down that the caller may see, the visible node itself included."""
        deepest = self._tree.deepest_failing(node)
        if deepest is None or (self.keep([deepest]) and self.path(node, deepest)[0] is node):
            return deepest
        return next(iter(self.failing(node)), None)

    def quote(self, node: Node, text: str) -> str:
        """What an app says about itself; nothing where it names a hidden app below it."""
        if not text or not node.children:
            return text
        below = self._tree.descendants(node)
        hidden = {each.app.id.name for each in below}.difference(each.app.id.name for each in self.keep(below))
        return "" if hidden and not hidden.isdisjoint(re.split(r"[^a-z0-9.-]+", text)) else text

    def findings(self, node: Node) -> list[Finding]:
        """The findings about a visible app, without those that would name or count a hidden one."""
        return [
            replace(finding, apps=tuple(each for each in finding.apps if not self._hides(each)))
            for finding in node.findings
            if finding.kind is FindingKind.SELF_HEAL_WILL_UNDO or not self._tells_of_hidden(node, finding)
        ]

    def managed(self, node: Node) -> list[Managed]:
        """What a visible app manages, without the hidden apps among it."""
        return [
            each for each in node.app.managed if each.kind != "Application" or not self._hides_named(each, node.app.id)
        ]

    def freshness(self, nodes: Iterable[Node]) -> list[Freshness]:
        """How current the clusters of these apps are, by name."""
        return [self._tree.freshness(cluster) for cluster in sorted({node.app.id.cluster for node in nodes})]

    def _tells_of_hidden(self, node: Node, finding: Finding) -> bool:
        if finding.kind is FindingKind.WAVES_ORDER_NOTHING and any(self._hides(each) for each in node.children):
            return True
        return any(self._hides(each) for each in finding.apps)

    def _hides(self, app_id: AppId) -> bool:
        node = self._tree.get(app_id)
        return node is not None and not self.keep([node])

    def _hides_named(self, managed: Managed, manager: AppId) -> bool:
        meant = self._tree.named(f"{managed.namespace or manager.namespace}/{managed.name}")
        return bool(meant) and not self.keep(meant)
