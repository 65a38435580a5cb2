"""Apps to judge by: only what the tree holds and is current enough to be believed."""

from __future__ import annotations

from collections.abc import Collection

from ..policies.errors import Refused, Unavailable
from ..tools.app import AppId
from ..tools.cuts import shorten
from ..tools.tree import AppTree, Node

_SHOWN = 200
"""Characters of a name that names nothing."""


def require_fresh(tree: AppTree, clusters: Collection[str], app: str) -> Node:
    """The app with this id, of one of these clusters.

    Raises `Refused` when there is none, and `Unavailable` when what is known of its cluster is too old to judge by."""
    app_id = AppId.parse(app)
    if app_id.cluster not in clusters:
        raise Refused(f"There is no app {shorten(app, _SHOWN)}.")
    if tree.freshness(app_id.cluster).stale:
        raise Unavailable(f"What is known of {app_id.cluster} is too old to judge by.")
    if (node := tree.get(app_id)) is None:
        raise Refused(f"There is no app {shorten(app, _SHOWN)}.")
    return node
