"""Argo CD's objects as they come from the API server, made into the tree's own small ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..app import App, AppId, AppSource, Condition, Deployed, Health, Managed, Owned, Sync
from ..change import JsonObject
from ..environments import Environments
from ..lineage import ARGO

IN_CLUSTER_SERVER = "https://kubernetes.default.svc"
IN_CLUSTER = "in-cluster"

TRACKING_ID = f"argocd.{ARGO}/tracking-id"
SYNC_WAVE = f"argocd.{ARGO}/sync-wave"
INSTANCE_LABELS = (f"argocd.{ARGO}/instance", "app.kubernetes.io/instance")
"""The label of a custom tracking configuration, then Argo CD's own default."""

OWNED = "arborgate.dev/"
"""Annotations under this prefix declare what an app owns elsewhere."""


@dataclass(frozen=True, slots=True)
class SyncWindow:
    """When apps of a project may or may not be synced. `schedule` is a cron line, `duration` like `1h`."""

    kind: str
    schedule: str
    duration: str
    time_zone: str
    manual_sync: bool
    applications: tuple[str, ...]
    namespaces: tuple[str, ...]
    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """One AppProject: the bounds of its apps."""

    cluster: str
    namespace: str
    name: str
    description: str
    sync_windows: tuple[SyncWindow, ...]


@dataclass(frozen=True, slots=True)
class AppSet:
    """One ApplicationSet: `errors` are the messages of its failing conditions, untrusted."""

    cluster: str
    namespace: str
    name: str
    progressive: bool
    errors: tuple[str, ...]


class AppParser:
    """Makes apps of Application objects: with their environment and with what the settings say they own."""

    def __init__(self, cluster: str, environments: Environments, ownership: Mapping[str, Owned]) -> None:
        self._cluster = cluster
        self._environments = environments
        self._ownership = ownership

    def parse(self, raw: JsonObject) -> App:
        """The app that this object describes. Fields that are missing or of another type than Argo CD gives them are
        empty; raises ValueError for an object without a name."""
        metadata, spec, status = _object(raw, "metadata"), _object(raw, "spec"), _object(raw, "status")
        app_id = _read_id(self._cluster, metadata)
        labels = {key: value for key, value in _object(metadata, "labels").items() if isinstance(value, str)}
        annotations = _object(metadata, "annotations")
        destination, policy = _object(spec, "destination"), _object(spec, "syncPolicy")
        automated = policy.get("automated")
        automated = automated if isinstance(automated, dict) and automated.get("enabled") is not False else None
        sync, health = _object(status, "sync"), _object(status, "health")
        operation = _object(status, "operationState")
        project = _text(spec, "project") or "default"
        namespace = _text(destination, "namespace")
        return App(
            id=app_id,
            uid=_text(metadata, "uid"),
            resource_version=_text(metadata, "resourceVersion"),
            project=project,
            labels=labels,
            wave=_number(_text(annotations, SYNC_WAVE)),
            sources=_read_sources(spec),
            destination_cluster=_read_destination(destination),
            destination_namespace=namespace,
            automated=automated is not None,
            self_heal=automated is not None and automated.get("selfHeal") is True,
            prune=automated is not None and automated.get("prune") is True,
            health=_HEALTHS.get(_text(health, "status"), Health.UNKNOWN),
            health_message=_text(health, "message"),
            sync=_SYNCS.get(_text(sync, "status"), Sync.UNKNOWN),
            revision=_read_revision(sync),
            images=_texts(_object(status, "summary"), "images"),
            conditions=tuple(_read_conditions(status)),
            operation_phase=_text(operation, "phase"),
            operation_message=_text(operation, "message"),
            operation_at=_text(operation, "finishedAt") or _text(operation, "startedAt"),
            history=tuple(_read_deployed(each) for each in _objects(status, "history")),
            managed=tuple(_read_managed(each) for each in _objects(status, "resources")),
            reconciled_at=_text(status, "reconciledAt"),
            created_at=_text(metadata, "creationTimestamp"),
            deleting_since=_text(metadata, "deletionTimestamp"),
            finalizers=_texts(metadata, "finalizers"),
            owned=self._read_owned(app_id, annotations),
            environment=self._environments.assign(
                cluster=app_id.cluster, project=project, namespace=namespace, labels=labels
            ),
            tracking_id=_text(annotations, TRACKING_ID),
            instance=next(filter(None, (_text(labels, key) for key in INSTANCE_LABELS)), ""),
            owner_set=_read_owner_set(metadata),
            source_type=_text(status, "sourceType") or ",".join(_texts(status, "sourceTypes")),
            controller_namespace=_text(status, "controllerNamespace"),
        )

    def _read_owned(self, app_id: AppId, annotations: JsonObject) -> Owned:
        """What the app declares, each field of it overridden by the settings for its id, else for its name."""
        said = self._ownership.get(str(app_id)) or self._ownership.get(app_id.name) or _NOTHING
        return Owned(
            redis=said.redis or _split(_text(annotations, f"{OWNED}redis")),
            routes=said.routes or _split(_text(annotations, f"{OWNED}routes")),
            entity=said.entity or _text(annotations, f"{OWNED}entity").strip(),
            documents=said.documents or _split(_text(annotations, f"{OWNED}documents")),
        )


def parse_project(cluster: str, raw: JsonObject) -> Project:
    """One AppProject; raises ValueError for an object without a name."""
    place, spec = _read_id(cluster, _object(raw, "metadata")), _object(raw, "spec")
    windows = tuple(
        SyncWindow(
            _text(each, "kind"),
            _text(each, "schedule"),
            _text(each, "duration"),
            _text(each, "timeZone"),
            each.get("manualSync") is True,
            _texts(each, "applications"),
            _texts(each, "namespaces"),
            _texts(each, "clusters"),
        )
        for each in _objects(spec, "syncWindows")
    )
    return Project(*place, description=_text(spec, "description"), sync_windows=windows)


def parse_app_set(cluster: str, raw: JsonObject) -> AppSet:
    """One ApplicationSet; raises ValueError for an object without a name."""
    place, status = _read_id(cluster, _object(raw, "metadata")), _object(raw, "status")
    strategy = _text(_object(_object(raw, "spec"), "strategy"), "type")
    errors = tuple(
        _text(each, "message")
        for each in _objects(status, "conditions")
        if (_text(each, "type"), _text(each, "status")) == ("ErrorOccurred", "True")
    )
    return AppSet(*place, progressive=strategy == "RollingSync", errors=errors)


_NOTHING = Owned()
_HEALTHS = {str(health): health for health in Health}
_SYNCS = {str(sync): sync for sync in Sync}


def _read_id(cluster: str, metadata: JsonObject) -> AppId:
    name = _text(metadata, "name")
    if not name:
        raise ValueError("an object without a name")
    return AppId(cluster, _text(metadata, "namespace"), name)


def _read_destination(destination: JsonObject) -> str:
    server = _text(destination, "server")
    return _text(destination, "name") or (IN_CLUSTER if server == IN_CLUSTER_SERVER else server)


def _read_sources(spec: JsonObject) -> tuple[AppSource, ...]:
    several = tuple(_read_source(each) for each in _objects(spec, "sources"))
    one = _object(spec, "source")
    return several or ((_read_source(one),) if one else ())


def _read_source(raw: JsonObject) -> AppSource:
    return AppSource(
        repo=_text(raw, "repoURL"),
        path=_text(raw, "path"),
        chart=_text(raw, "chart"),
        target_revision=_text(raw, "targetRevision"),
        images=_texts(_object(raw, "kustomize"), "images"),
        parameters=tuple(
            (_text(each, "name"), _text(each, "value")) for each in _objects(_object(raw, "helm"), "parameters")
        ),
    )


def _read_revision(raw: JsonObject) -> str:
    """A commit or chart version; of several sources theirs, in order, joined by commas."""
    return _text(raw, "revision") or ",".join(_texts(raw, "revisions"))


def _read_deployed(raw: JsonObject) -> Deployed:
    sources, by, number = _read_sources(raw), _object(raw, "initiatedBy"), raw.get("id")
    return Deployed(
        id=number if isinstance(number, int) else 0,
        revision=_read_revision(raw),
        at=_text(raw, "deployedAt"),
        by=_text(by, "username") or ("automated" if by.get("automated") is True else ""),
        source=sources[0] if len(sources) == 1 else None,
    )


def _read_managed(raw: JsonObject) -> Managed:
    health, wave = raw.get("health"), raw.get("syncWave")
    state = health if isinstance(health, dict) else _EMPTY
    return Managed(
        _shared(_text(raw, "group")),
        _shared(_text(raw, "version")),
        _shared(_text(raw, "kind")),
        _shared(_text(raw, "namespace")),
        _text(raw, "name"),
        _shared(_text(raw, "status")),
        _shared(_text(state, "status")),
        _text(state, "message"),
        wave if isinstance(wave, int) else 0,
    )


def _read_conditions(status: JsonObject) -> Iterator[Condition]:
    for each in _objects(status, "conditions"):
        yield Condition(_text(each, "type"), _text(each, "message"), _text(each, "lastTransitionTime"))


def _read_owner_set(metadata: JsonObject) -> str:
    owners: Iterable[JsonObject] = _objects(metadata, "ownerReferences")
    return next((_text(each, "name") for each in owners if _text(each, "kind") == "ApplicationSet"), "")


_EMPTY: dict[str, Any] = {}


@lru_cache(maxsize=4096)
def _shared(text: str) -> str:
    """One object for equal strings: thousands of resources share a few kinds, namespaces and states."""
    return text


def _text(raw: JsonObject, key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _texts(raw: JsonObject, key: str) -> tuple[str, ...]:
    value = raw.get(key)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _object(raw: JsonObject, key: str) -> JsonObject:
    value = raw.get(key)
    return value if isinstance(value, dict) else _EMPTY


def _objects(raw: JsonObject, key: str) -> list[JsonObject]:
    value = raw.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in (each.strip() for each in text.split(",")) if part)
