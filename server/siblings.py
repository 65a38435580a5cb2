"""The apps around those that a proposal changes: one that was well before and no longer is has come to harm by it.

Whom to watch is written down before anything is changed, beside the proposal: what applies it after a crash must not take
the harm for how things were. Only the app tree is read, so watching asks no cluster for anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

import orjson

from ..tools.app import AppId, Health
from ..tools.change import Change
from ..tools.tree import AppTree
from .state import State, reaching_state

HARMED = frozenset({Health.DEGRADED, Health.MISSING})
"""What counts as harm. An app that is Progressing or Unknown may come back by itself, and does not."""

_KEPT = 30 * 86_400
"""Seconds after which a list that nobody took away is forgotten."""


class Baselines:
    """The apps to watch for each proposal, in the state Redis. Every method raises `Unavailable`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def keep(self, proposal_id: str, apps: Iterable[AppId]) -> None:
        with reaching_state():
            await self._state.redis.set(self._key(proposal_id), orjson.dumps([*map(str, apps)]), ex=_KEPT)

    async def read(self, proposal_id: str) -> frozenset[AppId] | None:
        """None when there is no list (any more)."""
        with reaching_state():
            text = cast("str | None", await self._state.redis.get(self._key(proposal_id)))
        try:
            return frozenset(map(AppId.parse, orjson.loads(text))) if text else None
        except (ValueError, TypeError, AttributeError):
            return None

    async def forget(self, proposal_id: str) -> None:
        with reaching_state():
            await self._state.redis.delete(self._key(proposal_id))

    def _key(self, proposal_id: str) -> str:
        return self._state.key("siblings", proposal_id)


class Siblings:
    """Those that are watched for one proposal. Harm counts when two looks in a row have seen it."""

    def __init__(self, tree: AppTree, changes: Iterable[Change], watched: Collection[AppId]) -> None:
        self._tree = tree
        self._touched = _touched(changes)
        self._watched = sorted(watched)
        self._suspected: frozenset[AppId] = frozenset()

    def look(self) -> str:
        """What came to harm, in a sentence; `""` when nothing did as far as is known."""
        seen = frozenset(each for each in self._watched if self._is_harmed(each)) - self._excused()
        harmed = sorted(seen & self._suspected)
        self._suspected = seen
        if not harmed:
            return ""
        node, more = self._tree.get(harmed[0]), f" and {len(harmed) - 1} more" if harmed[1:] else ""
        became = f"is {node.app.health}" if node else "is gone"
        return f"{harmed[0].name}{more} beside it {became}, and was Healthy before."

    def _is_harmed(self, app: AppId) -> bool:
        if self._tree.freshness(app.cluster).stale:
            return False
        node = self._tree.get(app)
        return node is None or node.app.health in HARMED

    def _excused(self) -> frozenset[AppId]:
        """The parents of changed apps that are not well themselves: those have a time of their own to get there."""
        found: set[AppId] = set()
        for each in self._touched:
            node = self._tree.get(each)
            if node is not None and node.app.health is not Health.HEALTHY:
                found.update(_above(self._tree, each))
        return frozenset(found)


def find_siblings(tree: AppTree, changes: Iterable[Change]) -> frozenset[AppId]:
    """The apps to watch: of the parents of the changed apps and of those parents' other children, who is well now."""
    touched = _touched(changes)
    found: set[AppId] = set()
    for each in touched:
        node = tree.get(each)
        parent = tree.get(node.parent) if node and node.parent else None
        if parent is not None:
            found.update((parent.app.id, *parent.children))
    return frozenset(
        each for each in found - touched if (node := tree.get(each)) is not None and node.app.health is Health.HEALTHY
    )


def _touched(changes: Iterable[Change]) -> frozenset[AppId]:
    return frozenset(AppId.parse(change.target.app) for change in changes)


def _above(tree: AppTree, app: AppId) -> Iterable[AppId]:
    seen: set[AppId] = set()
    node = tree.get(app)
    while node is not None and node.parent is not None and node.parent not in seen:
        seen.add(node.parent)
        node = tree.get(node.parent)
    return seen
