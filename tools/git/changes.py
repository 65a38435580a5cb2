"""Planning changes that are made by a commit: of an Application where its parent takes it from, or of an app's values.

An Application is planned as it would be live, on the document as it is written instead of the live object. What is shown
is the difference in the file, as it will be committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...policies.errors import Invalid, Refused
from ..argocd.changes import plan_set_image, plan_set_revision
from ..argocd.images import edit_helm, parse_image, split_image
from ..change import Change, ChangeKind, Check, JsonObject, Target, merge
from ..kubernetes.changes import MARK
from ..kubernetes.fields import read_object
from ..plan import Plan, goes_back, make_change
from ..promotion.labels import LINEAGE
from ..risk import Factor, RiskFactor
from ..tree import AppTree, Node
from . import documents
from .editing import edit
from .places import APPLICATION, BY_COMMIT, FILE, Books, find_places
from .source import write_document

PATIENCE = 900
"""Seconds until Argo CD must have picked a commit up (it asks every three minutes unless a webhook tells it)."""

MOST_REPLICAS = 1_000


def choose_kind(books: Books, tree: AppTree, node: Node, kind: ChangeKind, workload: str, *, kept: bool) -> str:
    """What a commit would change for this: `Application`, `File`, or `""` where the change is made live.

    `workload` is what would be scaled (`Kind/name`), and `kept` says that somebody would undo a live change of the app's
    spec. Raises `Refused`, with the way out, where only a
    commit would do and none can be planned."""
    if kind not in BY_COMMIT or not books.settings.repositories:
        return ""
    if workload in books.fields(node, kind):
        return FILE
    if kind is ChangeKind.SCALE or not (kept or books.always(node)):
        return ""
    find_places(books, tree, node, APPLICATION)
    return APPLICATION


def as_application(node: Node, live: JsonObject) -> JsonObject:
    """The document as the planner of live changes takes it: with what the app's status says about its rendering."""
    types = node.app.source_type.split(",")
    status = {"sourceTypes": types} if "sources" in live["spec"] else {"sourceType": types[0]}
    return {**live, "status": status}


def plan_revision_commit(node: Node, live: JsonObject, *, revision: str, source: int = 0) -> Plan:
    """Another `targetRevision`; raises as `plan_set_revision` does."""
    return plan_set_revision(node, as_application(node, live), revision=revision, source=source)


def plan_image_commit(node: Node, live: JsonObject, *, image: str, parameter: str = "", source: int = 0) -> Plan:
    """Another image in the Application; raises as `plan_set_image` does."""
    return plan_set_image(node, as_application(node, live), image=image, parameter=parameter, source=source)


def plan_image_value(node: Node, target: Target, live: JsonObject, *, field: str, image: str) -> Plan:
    """Another image in the app's values, at the dotted path that the settings name.

    Raises `Refused` when the file has no such field, and as `plan_set_image` does."""
    app = node.app
    was = _read_field(live["values"], field, app.id.name)
    if not isinstance(was, str):
        raise Refused(f"{field} in the values of {app.id.name} is no text.", field="image")
    edit = edit_helm({"helm": {"valuesObject": live["values"]}}, parse_image(image), field, app.images)
    patch = {"values": edit.patch["helm"]["valuesObject"]}
    if merge(live, patch) == live:
        raise Invalid(f"{app.id.name} has this image already.", field="image", hint="Use sync to roll it out.")
    change = _change_values(
        node, target, live, ChangeKind.SET_IMAGE, patch, f"Set {field} of {app.id.name} to {edit.image}"
    )
    old = split_image(was).version or was
    why = f"{app.id.name} goes back to an earlier version ({edit.now})."
    return Plan(change, (RiskFactor.of(Factor.DOWNGRADE, why),) if goes_back(old, edit.now) else ())


def plan_replicas_value(node: Node, target: Target, live: JsonObject, *, field: str, replicas: int) -> Plan:
    """Another number of replicas in the app's values; raises `Refused` and `Invalid` (field `replicas`)."""
    app = node.app
    was = _read_field(live["values"], field, app.id.name)
    if not 0 <= replicas <= MOST_REPLICAS:
        raise Invalid(f"{replicas} is not between 0 and {MOST_REPLICAS}.", field="replicas")
    if isinstance(was, bool) or not isinstance(was, int):
        raise Refused(f"{field} in the values of {app.id.name} is no number.", field="replicas")
    if was == replicas:
        raise Invalid(f"{field} of {app.id.name} is {was} already.", field="replicas")
    summary = f"Set {field} of {app.id.name} from {was} to {replicas}"
    patch = {"values": _nest(field, replicas)}
    return Plan(_change_values(node, target, live, ChangeKind.SCALE, patch, summary))


def make_commit(plan: Plan, node: Node, target: Target, live: JsonObject) -> Plan:
    """A plan as one of a commit to `target`: with the diff of the file, and how it shows that Argo CD took it up.

    `live` is the object of the file (`File.as_object`) as the changes before it leave it. Raises `Refused` when the file
    can't be edited without touching more, and when the app is being deleted."""
    change, app = plan.change, node.app
    if app.deleting_since:
        raise Refused(f"{app.id.name} is being deleted.", field="app", hint="app_get says since when.")
    before, after = _write(target.kind, live, {}), _write(target.kind, live, change.patch)
    path = target.name.partition("#")[0]
    check = Check(app=str(app.id), sync="Synced", timeout=PATIENCE)
    update: dict[str, Any] = {
        "target": target,
        "summary": f"{change.summary}, as a commit to {target.cluster} {target.namespace} {path}",
        "diff": documents.show_diff(target.name, before, after),
        "check": check if app.automated else check.model_copy(update={"health": "", "sync": None}),
    }
    return Plan(change.model_copy(update=update), plan.risks)


def find_field(change: Change, books: Books, node: Node) -> tuple[str, Any]:
    """The dotted path in the app's values that a change writes, and the value; `""` when it writes another than its kind
    may, or more than one."""
    for field in books.fields(node, change.kind).values():
        value: Any = change.patch.get("values")
        for part in field.split("."):
            value = value[part] if isinstance(value, Mapping) and set(value) == {part} else None
        plain = type(value) is int if change.kind is ChangeKind.SCALE else isinstance(value, str)
        if plain and set(change.patch) == {"values"}:
            return field, value
    return "", None


def is_taken_up(change: Change, app: JsonObject, target: JsonObject) -> bool:
    """Whether Argo CD has what was committed: the live Application shows it, or was synced to a commit that holds it."""
    if change.target.kind == APPLICATION:
        spec = {"spec": read_object(change.patch, "spec")}
        return merge(app, spec) == app
    sync = read_object(read_object(app, "status"), "sync")
    seen = {sync.get("revision"), *(sync.get("revisions") or ())}
    return not seen.isdisjoint(read_object(target, "status").get("contains") or ())


def drop_mark(patch: JsonObject, mark: str) -> JsonObject:
    """The patch without our mark, which a commit carries in its message; raises `Refused` for any other metadata than the
    labels of a promotion."""
    metadata = patch.get("metadata", {"annotations": {MARK: mark}})
    rest = {key: value for key, value in metadata.items() if key != "annotations"}
    if metadata.get("annotations") != {MARK: mark} or set(rest) - {"labels"} or set(rest.get("labels") or ()) - LINEAGE:
        raise Refused("The metadata of a file is never written, but for the labels of a promotion.")
    written = {key: value for key, value in patch.items() if key != "metadata"}
    if set(written) - {"spec", "values"}:
        raise Refused("Something else than a file's document would be written.")
    return {**written, "metadata": rest} if rest else written


def _change_values(
    node: Node, target: Target, live: JsonObject, kind: ChangeKind, patch: JsonObject, summary: str
) -> Change:
    return make_change(
        kind, target, live, patch, summary=summary, check=Check(app=str(node.app.id)), wave=node.app.wave
    )


def _write(kind: str, live: JsonObject, patch: JsonObject) -> str:
    """The document's text once it says what `live` holds, and a patch on top."""
    text = str(live["text"])
    value = documents.read(text)
    now = live["values"] if kind == FILE else write_document(kind, {**value, "spec": live["spec"]}, live)
    written = _edit(text, now) if now != value else text
    after = write_document(kind, now, patch)
    return _edit(written, after) if after != now else written


def _edit(text: str, after: JsonObject) -> str:
    (where,) = documents.split(text)
    return edit(text, where, after)


def _read_field(values: JsonObject, field: str, app: str) -> Any:
    value: Any = values
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        raise Refused(
            f"The values of {app} have no {field}.", field="app", hint="Ask the platform team to look at git.values."
        )
    return value


def _nest(field: str, value: Any) -> dict[str, Any]:
    for part in reversed(field.split(".")):
        value = {part: value}
    return dict(value)
