"""Finding the app that a caller names, among those that the caller may see."""

from __future__ import annotations

from collections.abc import Sequence

from ...policies.errors import Invalid, NotThere
from ...policies.model import Action, Resource
from ..tool import Context
from ..tree import Node

_SHOWN = 8
"""How many candidates an ambiguous name is answered with."""


def find_app(ctx: Context, text: str, *, field: str = "app") -> Node:
    """The one visible app that `cluster/namespace/name`, `namespace/name` or `name` can mean.

    Raises `NotThere` when there is none (its `detail` tells operators whether one is hidden) and `Invalid`, naming
    `field` and the candidates, when there are several."""
    candidates = ctx.tree.named(text)
    seen = keep_visible(ctx, candidates)
    if len(seen) == 1:
        return seen[0]
    if not seen:
        hidden = f"hidden from the caller: {candidates[0].app.id}" if candidates else ""
        raise NotThere("There is no such app.", field=field, hint="app_list finds apps by text.", detail=hidden)
    names = ", ".join(str(node.app.id) for node in seen[:_SHOWN])
    more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
    raise Invalid(f"{len(seen)} apps have this name.", field=field, hint=f"Give one of: {names}{more}.")


def name_app(ctx: Context, text: str, *, field: str = "app") -> Resource:
    """What a reading call about an app named so is asked of: as `find_app`, except that a hidden app is named too.

    Then it is the gate that denies, and the record says so; the caller is told the same words either way. Only for
    actions that hide (`Action.hides`): the denial of any other would tell that the app exists."""
    try:
        return find_app(ctx, text, field=field).resource
    except NotThere:
        candidates = ctx.tree.named(text)
        if not candidates:
            raise
        return candidates[0].resource


def keep_visible(ctx: Context, nodes: Sequence[Node]) -> list[Node]:
    """Those of the nodes that the caller may read, in their order."""
    if not nodes:
        return []
    answers = ctx.policy.visible(Action.APP_READ, [node.resource for node in nodes])
    return [node for node, seen in zip(nodes, answers, strict=True) if seen]
