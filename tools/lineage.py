"""Who is whose parent: the links between apps, kept while apps come, change and go."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

from .app import App, AppId

ARGO = "argoproj.io"

_NAME = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
# `name:group/kind:namespace/name`; the app's name is `namespace_name` when it lives outside the control plane.
_TRACKING_ID = re.compile(rf"(?:({_NAME})_)?({_NAME}):{re.escape(ARGO)}/Application:({_NAME})/({_NAME})")
_INSTANCE = re.compile(rf"(?:({_NAME})_)?({_NAME})")


class ParentBy(StrEnum):
    """How an app's parent was found, in the order of precedence."""

    TRACKING_ID = "tracking_id"
    INSTANCE_LABEL = "instance_label"
    PARENT_STATUS = "parent_status"
    APPLICATION_SET = "application_set"


class Parent(NamedTuple):
    """An app's parent, and how it was found."""

    id: AppId
    by: ParentBy


class Named(NamedTuple):
    """A parent as its child names it. Without a namespace it is in the one of the child's controller."""

    cluster: str
    namespace: str
    name: str


class SetId(NamedTuple):
    """What names an ApplicationSet across clusters."""

    cluster: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Ties:
    """What one app says about its place: whom it names, what it claims, and the set that generates it.

    `drifted` are the claimed apps whose live spec differs from the parent's Git while the parent heals itself.
    """

    id: AppId
    home: str
    tracked_by: Named | None = None
    labelled_by: Named | None = None
    claims: frozenset[AppId] = frozenset()
    drifted: frozenset[AppId] = frozenset()
    generates: frozenset[SetId] = frozenset()
    generated_by: SetId | None = None


class Lineage:
    """The links. Every app has at most one parent, in its own cluster, and no app is above itself.

    An app's parent follows from what all apps say now, never from the order in which they came. One `put` costs what
    it touches: the app, the apps that name it, and those whose claims it makes or drops.
    """

    def __init__(self) -> None:
        self._ties: dict[AppId, Ties] = {}
        self._called: dict[tuple[str, str], set[AppId]] = {}
        self._naming: dict[tuple[str, str], set[AppId]] = {}
        self._claimed: dict[AppId, set[AppId]] = {}
        self._drifted: dict[AppId, set[AppId]] = {}
        self._generators: dict[SetId, set[AppId]] = {}
        self._generated: dict[SetId, set[AppId]] = {}
        self._wanted: dict[AppId, Parent] = {}
        self._parents: dict[AppId, Parent] = {}
        self._children: dict[AppId, set[AppId]] = {}
        self._cycles: dict[AppId, tuple[AppId, ...]] = {}
        self._tracked: dict[str, int] = {}
        self._moved: set[AppId] = set()

    def put(self, app: App) -> None:
        """Adds or replaces what one app says."""
        new = read_ties(app)
        old = self._ties.get(app.id)
        if new != old:
            self._change(app.id, old, new)

    def remove(self, app_id: AppId) -> None:
        """Forgets an app; its children are without it."""
        old = self._ties.get(app_id)
        if old is not None:
            self._change(app_id, old, None)

    def take_moved(self) -> set[AppId]:
        """The apps whose parent, children, claims or cycle changed since the last time, gone ones included."""
        moved, self._moved = self._moved, set()
        return moved

    def parent(self, app_id: AppId) -> Parent | None:
        return self._parents.get(app_id)

    def children(self, app_id: AppId) -> Collection[AppId]:
        return self._children.get(app_id, ())

    def claims(self, app_id: AppId) -> Collection[AppId]:
        """The apps that this one lists as its resources, there or not."""
        ties = self._ties.get(app_id)
        return ties.claims if ties else ()

    def claimants(self, app_id: AppId) -> Collection[AppId]:
        """The apps that list this one as their resource."""
        return self._claimed.get(app_id, ())

    def drifted(self, app_id: AppId) -> Collection[AppId]:
        """The self-healing parents in whose eyes this app's live spec differs from Git."""
        return self._drifted.get(app_id, ())

    def cycle(self, app_id: AppId) -> tuple[AppId, ...]:
        """The apps that are above each other in a circle with this one, itself included; empty when it is in none."""
        return self._cycles.get(app_id, ())

    def owners(self, app_id: AppId) -> Collection[AppId]:
        """All apps that manage this one in some way; more than one is a fault."""
        ties = self._ties.get(app_id)
        if ties is None:
            return ()
        owners = set(self._claimed.get(app_id, ()))
        if ties.generated_by:
            owners.update(self._generators.get(ties.generated_by, ()))
        if wanted := self._wanted.get(app_id):
            owners.add(wanted.id)
        owners.discard(app_id)
        return owners

    def names_nobody(self, app_id: AppId) -> bool:
        """Whether the app's tracking id names a parent that does not exist."""
        ties = self._ties.get(app_id)
        return bool(ties and ties.tracked_by and self._find(ties, ties.tracked_by) is None)

    def tracked(self, cluster: str) -> int:
        """How many apps of the cluster have a parent."""
        return self._tracked.get(cluster, 0)

    def _change(self, app_id: AppId, old: Ties | None, new: Ties | None) -> None:
        was, now = old or Ties(app_id, ""), new or Ties(app_id, "")
        touched = {app_id}
        if new is None:
            del self._ties[app_id]
        else:
            self._ties[app_id] = new
        if (old is None) != (new is None):
            key = (app_id.cluster, app_id.name)
            _toggle(self._called, key, app_id, present=new is not None)
            touched |= self._naming.get(key, set())
        for key in _keys(was) ^ _keys(now):
            _toggle(self._naming, key, app_id, present=key in _keys(now))
        for child in was.claims ^ now.claims:
            _toggle(self._claimed, child, app_id, present=child in now.claims)
            touched.add(child)
        for child in was.drifted ^ now.drifted:
            _toggle(self._drifted, child, app_id, present=child in now.drifted)
            self._moved.add(child)
        for each in was.generates ^ now.generates:
            _toggle(self._generators, each, app_id, present=each in now.generates)
            touched |= self._generated.get(each, set())
        if was.generated_by != now.generated_by:
            for generator in (was.generated_by, now.generated_by):
                if generator is not None:
                    _toggle(self._generated, generator, app_id, present=generator == now.generated_by)
        self._moved |= touched
        for each_id in touched:
            self._relink(each_id)

    def _want(self, app_id: AppId) -> Parent | None:
        """The parent that follows from what all apps say, a circle or not. Nobody is their own parent: an app that
        manages itself is a root."""
        ties = self._ties.get(app_id)
        if ties is None:
            return None
        generators = self._generators.get(ties.generated_by, ()) if ties.generated_by else ()
        for by, found in (
            (ParentBy.TRACKING_ID, self._find(ties, ties.tracked_by)),
            (ParentBy.INSTANCE_LABEL, self._find(ties, ties.labelled_by)),
            (ParentBy.PARENT_STATUS, _least(self._claimed.get(app_id, ()), app_id)),
            (ParentBy.APPLICATION_SET, _least(generators, app_id)),
        ):
            if found is not None and found != app_id:
                return Parent(found, by)
        return None

    def _find(self, ties: Ties, named: Named | None) -> AppId | None:
        """The app that is meant. A name without a namespace means the controller's, else the child's own, else the
        only app by that name; where several could be meant, none is."""
        called = self._called.get((named.cluster, named.name), ()) if named else ()
        if named is None or not called:
            return None
        if named.namespace:
            found = AppId(named.cluster, named.namespace, named.name)
            return found if found in called else None
        for namespace in (ties.home, ties.id.namespace):
            if (found := AppId(named.cluster, namespace, named.name)) in called:
                return found
        return next(iter(called)) if len(called) == 1 else None

    def _relink(self, app_id: AppId) -> None:
        wanted = self._want(app_id)
        if wanted == self._wanted.get(app_id):
            return
        opened = self._cycles.get(app_id, ())
        for each in opened:
            del self._cycles[each]
        if wanted is None:
            del self._wanted[app_id]
        else:
            self._wanted[app_id] = wanted
        for each in {app_id, *opened}:
            self._attach(each, self._wanted.get(each))
        closed = self._walk(app_id)
        for each in closed:
            self._cycles[each] = closed
        if closed:
            # Cut where anybody would cut it again: above the first by name.
            self._attach(min(closed), None)
        self._moved.update(opened, closed)

    def _walk(self, app_id: AppId) -> tuple[AppId, ...]:
        """The circle that the app is in, following what is wanted upward; empty when it is in none."""
        path, seen = [app_id], {app_id}
        while (above := self._wanted.get(path[-1])) is not None:
            if above.id == app_id:
                return tuple(path)
            if above.id in seen:
                return ()
            path.append(above.id)
            seen.add(above.id)
        return ()

    def _attach(self, app_id: AppId, parent: Parent | None) -> None:
        old = self._parents.pop(app_id, None)
        if old is not None:
            _toggle(self._children, old.id, app_id, present=False)
            self._moved.add(old.id)
        if parent is not None:
            self._parents[app_id] = parent
            _toggle(self._children, parent.id, app_id, present=True)
            self._moved.add(parent.id)
        step = (parent is not None) - (old is not None)
        self._tracked[app_id.cluster] = self._tracked.get(app_id.cluster, 0) + step
        self._moved.add(app_id)


def read_ties(app: App) -> Ties:
    """What an app says about its place in the tree."""
    cluster = app.id.cluster
    claims: set[AppId] = set()
    drifted: set[AppId] = set()
    generates: set[SetId] = set()
    for managed in app.managed:
        if managed.group != ARGO:
            continue
        place = (cluster, managed.namespace or app.destination_namespace, managed.name)
        if managed.kind == "Application":
            claims.add(AppId(*place))
            if managed.sync == "OutOfSync" and app.automated and app.self_heal:
                drifted.add(AppId(*place))
        elif managed.kind == "ApplicationSet":
            generates.add(SetId(*place))
    return Ties(
        app.id,
        app.controller_namespace,
        _read_tracking_id(app),
        _read_instance(app),
        frozenset(claims),
        frozenset(drifted),
        frozenset(generates),
        SetId(cluster, app.id.namespace, app.owner_set) if app.owner_set else None,
    )


def _read_tracking_id(app: App) -> Named | None:
    match = _TRACKING_ID.fullmatch(app.tracking_id) if app.tracking_id else None
    # A tracking id that was copied along with a manifest speaks of another object, and Argo CD ignores it too.
    if match is None or (match[3], match[4]) != (app.id.namespace, app.id.name):
        return None
    return Named(app.id.cluster, match[1] or "", match[2])


def _read_instance(app: App) -> Named | None:
    match = _INSTANCE.fullmatch(app.instance) if app.instance else None
    return Named(app.id.cluster, match[1] or "", match[2]) if match else None


def _keys(ties: Ties) -> set[tuple[str, str]]:
    return {(named.cluster, named.name) for named in (ties.tracked_by, ties.labelled_by) if named}


def _least(ids: Iterable[AppId], but: AppId) -> AppId | None:
    return min((each for each in ids if each != but), default=None)


K = TypeVar("K", bound=Hashable)


def _toggle(index: dict[K, set[AppId]], key: K, app_id: AppId, *, present: bool) -> None:
    """Adds the app under a key of an index or takes it away; no key is left empty."""
    if present:
        index.setdefault(key, set()).add(app_id)
    elif (held := index.get(key)) is not None:
        held.discard(app_id)
        if not held:
            del index[key]
