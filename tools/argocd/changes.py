"""Planning changes of an app itself: sync, set an image, set the target revision, roll back.

What Argo CD does afterwards decides what may be planned. An app can sync by itself ("automated"), and its `spec` can be
kept by somebody else: a parent app with self-heal, or an ApplicationSet.

| change                        | app syncs by hand         | app is automated           | its spec is kept      |
|-------------------------------|---------------------------|----------------------------|-----------------------|
| sync                          | planned                   | planned, no undo           | no difference         |
| sync to another revision      | planned                   | refused, as Argo CD does   | no difference         |
| roll back                     | planned                   | refused, as Argo CD does   | no difference         |
| set an image or the revision  | planned, runs once synced | planned, runs at once      | refused here: it is a |
|                               |                           |                            | commit, or nothing    |

An operation (sync, roll back) is nobody's desired state, so nothing undoes it but the app's own automation, which goes
to the target revision. Operations have the shape that Argo CD's own API server gives them
(`server/application/application.go`, Sync and Rollback; `util/argo/argo.go`, SetAppOperation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...policies.errors import Invalid, Refused
from ..change import Change, ChangeKind, Check, JsonObject, Target, merge
from ..plan import Plan, Undo, goes_back, make_change
from ..risk import Factor, RiskFactor
from ..text import quote_name
from ..tree import App, Node
from .images import ImageEdit, edit_helm, edit_kustomize, find_running, parse_image
from .sources import Sources

API = "argoproj.io/v1alpha1"
INITIATOR = "arborgate"

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+~^@*-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_GOING = frozenset({"Running", "Terminating"})
_DECLARED = ("/spec/source", "/spec/sources", "/spec/syncPolicy")
_LATER = "; it runs once the app is synced"
_ABBREVIATED = 7
"""From how many characters on the beginning of a commit names it, as in Git."""
_NO_WAIT = 60
"""Seconds for a change that nothing rolls out yet."""


def app_target(app: App) -> Target:
    """The Application object of an app."""
    return Target(
        app=str(app.id),
        cluster=app.id.cluster,
        api=API,
        kind="Application",
        namespace=app.id.namespace,
        name=app.id.name,
    )


def plan_sync(node: Node, live: JsonObject, *, revision: str = "", source: int = 0) -> Plan:
    """A sync of the app, without pruning: to `revision`, else to the commit that Argo CD last compared it with.

    `source` counts from 1 and is needed where an app has several. Raises `Refused` while an operation runs, and for
    another revision than the target revision of an automated app; `Invalid` names `revision` or `source`."""
    app = node.app
    _require_idle(app, live)
    sources = Sources.of(live)
    revisions = list(sources.compared)
    if revision:
        at = sources.pick(source)
        require_revision(revision)
        target = sources.revision(at)
        if is_automated(live) and revision not in (target, *sources.compared[at : at + 1]):
            raise Refused(
                f"{app.id.name} syncs by itself to {_shorten(target)}: Argo CD does not sync it to another revision.",
                field="revision",
                hint="Use set_revision, or sync without a revision.",
            )
        revisions = revisions or [""] * len(sources.each)
        revisions[at] = revision
    return Plan(make_sync(app, live, revisions), deployed_before(app, revision) if revision else ())


def make_sync(app: App, live: JsonObject, revisions: Sequence[str]) -> Change:
    """A sync to these revisions, one for each source; none: whatever the target revisions are when it runs."""
    sync: dict[str, Any] = {"prune": False, "syncStrategy": {"hook": {}}}
    if revisions:
        sync |= {"revisions": list(revisions)} if Sources.of(live).several else {"revision": revisions[0]}
    return make_change(
        ChangeKind.SYNC,
        app_target(app),
        live,
        _operation(live, sync),
        summary=f"Sync {app.id.name} to {', '.join(map(_shorten, revisions)) or 'its target revision'}",
        check=Check(app=str(app.id), operation=True),
        wave=app.wave,
        depends_on=("/operation", *_DECLARED),
        undo=_undo_by_operation(live),
    )


def plan_sync_to(node: Node, live: JsonObject, revisions: Sequence[str]) -> Plan:
    """A sync of an app that is not automated, each of its sources to its revision here. Raises `Refused` while an
    operation runs."""
    _require_idle(node.app, live)
    risks = [risk for revision in revisions for risk in deployed_before(node.app, revision)]
    return Plan(make_sync(node.app, live, revisions), tuple(dict.fromkeys(risks)))


def plan_rollback(node: Node, live: JsonObject, *, history_id: int) -> Plan:
    """A sync of the app to an entry of its history, with that entry's source, as `argocd app rollback` does it.

    Raises `Refused` for an automated app (it would go forward again) and while an operation runs, and `Invalid`
    (field `history_id`) when there is no such entry."""
    app = node.app
    if is_automated(live):
        raise Refused(
            f"{app.id.name} syncs by itself, so Argo CD would undo a rollback at once.",
            field="kind",
            hint="Use set_revision with the older revision, or set_image with the older image.",
        )
    _require_idle(app, live)
    history = _history(live)
    entry = next((entry for entry in history if entry.get("id") == history_id), None)
    if entry is None:
        known = ", ".join(str(entry.get("id")) for entry in reversed(history[-10:]))
        raise Invalid(
            f"{app.id.name} has no history entry {history_id}.",
            field="history_id",
            hint=f"Newest first: {known}." if known else "It has no history yet.",
        )
    if not entry.get("source") and not entry.get("sources"):
        raise Refused(
            "This history entry does not say its source.", field="history_id", hint="Sync to its revision instead."
        )
    revisions = entry.get("revisions") or [str(entry.get("revision", ""))]
    return Plan(
        make_change(
            ChangeKind.ROLLBACK,
            app_target(app),
            live,
            _operation(live, _sync_of(entry)),
            summary=f"Roll {app.id.name} back to history entry {history_id} ({', '.join(map(_shorten, revisions))})",
            check=Check(app=str(app.id), operation=True),
            wave=app.wave,
            depends_on=("/operation", "/spec/syncPolicy"),
            undo=_undo_by_operation(live),
        ),
    )


def plan_set_revision(node: Node, live: JsonObject, *, revision: str, source: int = 0, kept_by: str = "") -> Plan:
    """Another `targetRevision`. `kept_by` says who keeps the app's spec (see `find_keeper`), if anybody.

    Raises `Refused` when somebody does, `Invalid` naming `revision` or `source`."""
    app = node.app
    require_own_spec(app, kept_by)
    require_revision(revision)
    sources = Sources.of(live)
    at = sources.pick(source)
    was = sources.revision(at)
    if was == revision:
        told = f"The target revision of {app.id.name} is {quote_name(was)} already."
        raise Invalid(told, field="revision", hint="Use sync.")
    change = change_source(
        ChangeKind.SET_REVISION,
        app,
        live,
        sources.patch(at, {"targetRevision": revision}),
        f"Set the target revision of {app.id.name}{sources.label(at)} to {_shorten(revision)}",
    )
    return Plan(change, going_back(app, was, revision) or deployed_before(app, revision))


def plan_set_image(
    node: Node, live: JsonObject, *, image: str, parameter: str = "", source: int = 0, kept_by: str = ""
) -> Plan:
    """Another image, as Kustomize or Helm takes it. `parameter` names the Helm parameter where that is not clear.

    Raises `Refused` when somebody keeps the app's spec or the app is neither Kustomize nor Helm; `Invalid` names
    `image`, `parameter` or `source`."""
    app = node.app
    require_own_spec(app, kept_by)
    asked = parse_image(image)
    sources = Sources.of(live)
    at = _pick_renderer(app, sources, source)
    edit: ImageEdit
    if sources.types[at] == "Helm":
        edit = edit_helm(sources.each[at], asked, parameter, app.images)
    elif parameter:
        raise Invalid("Only a Helm app has parameters; this one is Kustomize.", field="parameter", hint="Leave it out.")
    else:
        edit = edit_kustomize(sources.each[at], asked, app.images)
    if merge(sources.each[at], edit.patch) == sources.each[at]:
        raise Invalid(f"{app.id.name} has this image already.", field="image", hint="Use sync to roll it out.")
    change = change_source(
        ChangeKind.SET_IMAGE,
        app,
        live,
        sources.patch(at, edit.patch),
        f"Set {edit.place} of {app.id.name}{sources.label(at)} to {edit.image}",
    )
    found = find_running(edit.image.name, app.images)
    running = found.version if found else ""
    return Plan(change, going_back(app, edit.was, edit.now) or going_back(app, running, edit.now))


def combine_images(node: Node, live: JsonObject, first: Plan, second: Plan) -> Plan:
    """Two images of one app as one change of `live`; `second` was planned on what `first` leaves."""
    one, other = first.change, second.change
    told = f"{one.summary.removesuffix(_LATER)}, {other.summary.removesuffix(_LATER)}"
    change = change_source(ChangeKind.SET_IMAGE, node.app, live, _compose(one.patch, other.patch), told)
    return Plan(change, tuple(dict.fromkeys((*first.risks, *second.risks))))


def find_keeper(app: App, parent: str) -> str:
    """Who would undo a change of the app's spec, in words: the parent (`""`: none that self-heals) or its set."""
    if parent:
        return f"{parent}, which self-heals"
    return "the ApplicationSet that generates it" if app.owner_set else ""


def _pick_renderer(app: App, sources: Sources, position: int) -> int:
    """The index of the source whose image can be set."""
    able = [at for at, kind in enumerate(sources.types) if kind in ("Helm", "Kustomize")]
    at = able[0] if not position and len(able) == 1 else sources.pick(position) if able else -1
    if at not in able:
        raise Refused(
            f"{app.id.name} is not rendered by Kustomize or Helm there, so its spec has no place for an image.",
            field="kind",
            hint="Change the image in Git and use sync, or use set_revision.",
        )
    return at


def change_source(kind: ChangeKind, app: App, live: JsonObject, patch: JsonObject, summary: str) -> Change:
    """A change of the spec. An automated app rolls it out by itself; another one only at its next sync."""
    automated = is_automated(live)
    return make_change(
        kind,
        app_target(app),
        live,
        patch,
        summary=summary if automated else f"{summary}{_LATER}",
        check=Check(app=str(app.id), sync="Synced")
        if automated
        else Check(app=str(app.id), health="", timeout=_NO_WAIT),
        wave=app.wave,
    )


def _compose(first: JsonObject, second: JsonObject) -> dict[str, Any]:
    """One merge patch for two that only set values."""
    both = {key: _compose(first[key], value) for key, value in second.items() if _is_nested(first.get(key), value)}
    return {**first, **second, **both}


def _is_nested(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)


def _operation(live: JsonObject, sync: JsonObject) -> dict[str, Any]:
    policy = live["spec"].get("syncPolicy") or {}
    options, retry = policy.get("syncOptions"), policy.get("retry")
    operation: dict[str, Any] = {
        "initiatedBy": {"username": INITIATOR},
        "sync": {**sync, **({"syncOptions": options} if options else {})},
    }
    return {"operation": {**operation, **({"retry": retry} if retry else {})}}


def _sync_of(entry: JsonObject) -> dict[str, Any]:
    kept = {key: entry[key] for key in ("revision", "revisions", "source", "sources") if entry.get(key)}
    return {"prune": False, "syncStrategy": {"apply": {}}, **kept}


def _undo_by_operation(live: JsonObject) -> Undo:
    """Back to what was deployed last, unless the app goes where it wants to anyway."""
    if is_automated(live):
        return Undo(None, "The app syncs by itself; to go back, set an older revision or image.")
    history = _history(live)
    last = history[-1] if history else {}
    if not last.get("source") and not last.get("sources"):
        return Undo(None, "The app has no earlier deployment to go back to.")
    return Undo(_operation(live, _sync_of(last)))


def _history(live: JsonObject) -> Sequence[JsonObject]:
    """The app's deployments, oldest first, as Argo CD keeps them."""
    return (live.get("status") or {}).get("history") or ()


def is_automated(live: JsonObject) -> bool:
    """Whether Argo CD syncs the live Application by itself."""
    automated = (live["spec"].get("syncPolicy") or {}).get("automated")
    return isinstance(automated, Mapping) and automated.get("enabled") is not False


def _require_idle(app: App, live: JsonObject) -> None:
    phase = ((live.get("status") or {}).get("operationState") or {}).get("phase")
    if live.get("operation") or phase in _GOING:
        raise Refused(
            f"An operation is running on {app.id.name}.", field="app", hint="Propose again when it has ended (app_get)."
        )


def require_own_spec(app: App, kept_by: str) -> None:
    """Raises `Refused` where somebody (see `find_keeper`) would undo a change of the app's spec."""
    if kept_by:
        raise Refused(
            f"A change of {app.id.name}'s spec would be undone by {kept_by}.",
            field="app",
            hint="Change it in Git, where that gets it from; or ask the platform team to name that repository in the "
            "settings (git.repositories), so that it can be proposed here as a commit.",
        )


def require_revision(revision: str) -> None:
    """Raises `Invalid` (field `revision`) for a text that can't name one."""
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise Invalid(
            "This is not a revision.", field="revision", hint="Give a commit, a branch, a tag or a chart version."
        )


def _shorten(revision: str) -> str:
    """A revision as our own sentences may say it: text from elsewhere only as far as it looks like one."""
    return revision[:10] if _COMMIT.fullmatch(revision) else revision if _REVISION.fullmatch(revision) else "HEAD"


def going_back(app: App, was: str, now: str) -> tuple[RiskFactor, ...]:
    """Whether the second of two versions of something in the app is the lower."""
    if not goes_back(was, now):
        return ()
    return (RiskFactor.of(Factor.DOWNGRADE, f"{app.id.name} goes back to an earlier version ({now})."),)


def deployed_before(app: App, revision: str) -> tuple[RiskFactor, ...]:
    """Whether the app has left the revision (a commit, or a tag that Argo CD kept as such) behind."""
    *earlier, current = [entry.revision for entry in app.history] or [""]
    if _names(revision, app.revision or current) or not any(_names(revision, one) for one in earlier):
        return ()
    return (RiskFactor.of(Factor.DOWNGRADE, f"{app.id.name} ran {_shorten(revision)} before what it runs now."),)


def _names(revision: str, commit: str) -> bool:
    return revision == commit or (len(revision) >= _ABBREVIATED and commit.startswith(revision))
