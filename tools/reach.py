"""The reach of a proposal: every app, workload, keyspace and route that its changes can be felt in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .app import App, AppId, Managed
from .change import Target
from .tree import AppTree, Node

Keep = Callable[[Sequence[Node]], Sequence[Node]]
"""Those of the apps that the reader may see, in their order."""

WORKLOADS = frozenset(
    {
        ("apps", "DaemonSet"),
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("argoproj.io", "Rollout"),
        ("batch", "CronJob"),
        ("batch", "Job"),
    }
)
"""What runs, by API group and kind."""

_FIRST = 5
"""How many apps a summary names."""


@dataclass(slots=True)
class Reached:
    """An app within reach, what of it is, and the reached apps below it. `changed`: a change names it or part of it."""

    node: Node
    changed: bool
    workloads: tuple[Managed, ...]
    keyspaces: tuple[str, ...]
    routes: tuple[str, ...]
    below: list[Reached] = field(default_factory=list)

    @property
    def id(self) -> AppId:
        return self.node.app.id

    @property
    def size(self) -> int:
        """How many apps it is with all below."""
        return 1 + sum(each.size for each in self.below)


@dataclass(frozen=True, slots=True)
class Shared:
    """A keyspace (`source:prefix`) or route of reached apps, and the apps out of reach that lean on it too."""

    name: str
    owners: tuple[Node, ...]
    leaning: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """All that is within reach and may be seen: `roots` as a tree, `apps` each once, parents before children."""

    roots: tuple[Reached, ...] = ()
    apps: tuple[Reached, ...] = ()
    keyspaces: tuple[Shared, ...] = ()
    routes: tuple[Shared, ...] = ()

    @property
    def workloads(self) -> int:
        return sum(len(each.workloads) for each in self.apps)

    @property
    def leaning(self) -> tuple[Node, ...]:
        """The apps out of reach that lean on something within, each once."""
        found = {node.app.id: node for each in (*self.keyspaces, *self.routes) for node in each.leaning}
        return tuple(found[each] for each in sorted(found))

    def say(self) -> str:
        """It in one line: how much of each, and the first apps by name."""
        counts = (
            (len(self.apps), "app"),
            (self.workloads, "workload"),
            (len(self.keyspaces), "keyspace"),
            (len(self.routes), "route"),
        )
        said = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts if count)
        names = [each.id.name for each in self.apps[:_FIRST]]
        more = f" and {len(self.apps) - _FIRST} more" if len(self.apps) > _FIRST else ""
        leaning = len(self.leaning)
        besides = f"; {leaning} more lean on what these own" if leaning else ""
        return f"{said}: {', '.join(names)}{more}{besides}" if names else ""


def find_reach(tree: AppTree, targets: Iterable[Target], keep: Keep) -> Reach:
    """What the changes of these targets reach, as far as `keep` shows it. What is hidden is not even counted.

    A change of an app itself reaches all that the app deploys and the apps below it; one of a workload only that and what
    its app owns elsewhere, as for the risk (`tools/risk.py`). An app whose parent is out of reach or hidden is a root."""
    wanted = list(targets)
    found = {node.app.id: node for node in _list_nodes(tree, wanted)}
    nodes = list(keep(list(found.values())))
    # None: all of the app's workloads.
    touched: dict[str, set[tuple[str, str, str]] | None] = {}
    for target in wanted:
        if target.kind == "Application":
            touched[target.app] = None
        elif (parts := touched.setdefault(target.app, set())) is not None:
            parts.add((target.kind, target.namespace, target.name))
    apps = {node.app.id: _reach(node, touched) for node in nodes}
    roots = [each for each in apps.values() if _hang(each, apps)]
    keyspaces, routes = _find_shared(tree, list(apps.values()), keep)
    return Reach(tuple(roots), tuple(apps.values()), keyspaces, routes)


def overlaps(one: str, other: str) -> bool:
    """Whether two keyspaces (`source:prefix`) have keys in common: the same source, and one prefix begins with the other.
    An empty prefix owns nothing."""
    source, _, prefix = one.partition(":")
    other_source, _, other_prefix = other.partition(":")
    same = source == other_source and bool(source and prefix and other_prefix)
    return same and (prefix.startswith(other_prefix) or other_prefix.startswith(prefix))


def _list_nodes(tree: AppTree, targets: Iterable[Target]) -> Iterator[Node]:
    """The apps of the targets and those below, parents before children; some more than once."""
    for app, whole in dict.fromkeys((target.app, target.kind == "Application") for target in targets):
        node = tree.find(app)
        if node is not None:
            yield node
            if whole:
                yield from tree.descendants(node)


def _reach(node: Node, touched: dict[str, set[tuple[str, str, str]] | None]) -> Reached:
    app = node.app
    parts = touched.get(str(app.id))
    running = [each for each in app.managed if (each.group, each.kind) in WORKLOADS]
    if parts is not None:
        running = [each for each in running if (each.kind, each.namespace, each.name) in parts]
    return Reached(
        node,
        changed=str(app.id) in touched,
        workloads=tuple(running),
        keyspaces=_owned_keyspaces(app),
        routes=tuple(dict.fromkeys(app.owned.routes)),
    )


def _owned_keyspaces(app: App) -> tuple[str, ...]:
    return tuple(each for each in dict.fromkeys(app.owned.redis) if overlaps(each, each))


def _hang(each: Reached, apps: dict[AppId, Reached]) -> bool:
    """Hangs an app under its parent; True when it has none here, or when that would close a circle."""
    parent = apps.get(each.node.parent) if each.node.parent else None
    if parent is None:
        return True
    seen: set[AppId] = set()
    above: Reached | None = parent
    while above is not None and above.id not in seen:
        if above is each:
            return True
        seen.add(above.id)
        above = apps.get(above.node.parent) if above.node.parent else None
    parent.below.append(each)
    return False


def _find_shared(tree: AppTree, apps: Sequence[Reached], keep: Keep) -> tuple[tuple[Shared, ...], tuple[Shared, ...]]:
    """The keyspaces and the routes of the reached apps, by name."""
    keyspaces: dict[str, list[Node]] = {}
    routes: dict[str, list[Node]] = {}
    for each in apps:
        for name in each.keyspaces:
            keyspaces.setdefault(name, []).append(each.node)
        for name in each.routes:
            routes.setdefault(name, []).append(each.node)
    if not (keyspaces or routes):
        return (), ()
    reached = {each.id for each in apps}
    owning = [
        node for node in tree.nodes() if node.app.id not in reached and (node.app.owned.redis or node.app.owned.routes)
    ]
    others = [node for node in owning if _leans(node.app, keyspaces, routes)]
    leaning = sorted(keep(others), key=lambda node: node.app.id) if others else []
    return (
        tuple(
            Shared(
                name,
                tuple(keyspaces[name]),
                tuple(node for node in leaning if any(overlaps(name, one) for one in node.app.owned.redis)),
            )
            for name in sorted(keyspaces)
        ),
        tuple(
            Shared(name, tuple(routes[name]), tuple(node for node in leaning if name in node.app.owned.routes))
            for name in sorted(routes)
        ),
    )


def _leans(app: App, keyspaces: Iterable[str], routes: Iterable[str]) -> bool:
    return any(overlaps(one, name) for one in app.owned.redis for name in keyspaces) or any(
        name in app.owned.routes for name in routes
    )
