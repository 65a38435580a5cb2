"""Argo CD's objects as they come from the API server, made into the tree's own small ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ..app import App, AppId, AppSource, Condition, Deployed, Health, Managed, Owned, Sync
from ..change import JsonObject
from ..environments import Environments
from ..kubernetes.fields import EMPTY, read_name, read_object, read_objects, read_text, read_texts
from ..lineage import ARGO
from ..tree import IN_CLUSTER

IN_CLUSTER_SERVER = "https://kubernetes.default.svc"

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
        metadata, spec, status = read_object(raw, "metadata"), read_object(raw, "spec"), read_object(raw, "status")
        app_id = _read_id(self._cluster, metadata)
        labels = {key: value for key, value in read_object(metadata, "labels").items() if isinstance(value, str)}
        annotations = read_object(metadata, "annotations")
        destination, policy = read_object(spec, "destination"), read_object(spec, "syncPolicy")
        automated = policy.get("automated")
        automated = automated if isinstance(automated, dict) and automated.get("enabled") is not False else None
        sync, health = read_object(status, "sync"), read_object(status, "health")
        operation = read_object(status, "operationState")
        project = read_text(spec, "project") or "default"
        namespace = read_text(destination, "namespace")
        return App(
            id=app_id,
            uid=read_text(metadata, "uid"),
            resource_version=read_text(metadata, "resourceVersion"),
            project=project,
            labels=labels,
            wave=_read_wave(annotations),
            sources=_read_sources(spec),
            destination_cluster=_read_destination(destination),
            destination_namespace=namespace,
            automated=automated is not None,
            self_heal=automated is not None and automated.get("selfHeal") is True,
            prune=automated is not None and automated.get("prune") is True,
            health=_HEALTHS.get(read_text(health, "status"), Health.UNKNOWN),
            health_message=read_text(health, "message"),
            sync=_SYNCS.get(read_text(sync, "status"), Sync.UNKNOWN),
            revision=_read_revision(sync),
            images=read_texts(read_object(status, "summary"), "images"),
            conditions=tuple(_read_conditions(status)),
            operation_phase=read_text(operation, "phase"),
            operation_message=read_text(operation, "message"),
            operation_at=read_text(operation, "finishedAt") or read_text(operation, "startedAt"),
            history=tuple(_read_deployed(each) for each in read_objects(status, "history")),
            managed=tuple(_read_managed(each) for each in read_objects(status, "resources")),
            reconciled_at=read_text(status, "reconciledAt"),
            created_at=read_text(metadata, "creationTimestamp"),
            deleting_since=read_text(metadata, "deletionTimestamp"),
            finalizers=read_texts(metadata, "finalizers"),
            owned=self._read_owned(app_id, annotations),
            environment=self._environments.assign(
                cluster=app_id.cluster, project=project, namespace=namespace, labels=labels
            ),
            tracking_id=read_text(annotations, TRACKING_ID),
            instance=next(filter(None, (read_text(labels, key) for key in INSTANCE_LABELS)), ""),
            owner_set=_read_owner_set(metadata),
            source_type=read_text(status, "sourceType") or ",".join(read_texts(status, "sourceTypes")),
            controller_namespace=read_text(status, "controllerNamespace"),
            parent_jwks=read_text(annotations, f"{OWNED}parent-jwks"),
        )

    def _read_owned(self, app_id: AppId, annotations: JsonObject) -> Owned:
        """What the app declares, each field of it overridden by the settings for its id, else for its name."""
        said = self._ownership.get(str(app_id)) or self._ownership.get(app_id.name) or _NOTHING
        return Owned(
            redis=said.redis or _split(read_text(annotations, f"{OWNED}redis")),
            routes=said.routes or _split(read_text(annotations, f"{OWNED}routes")),
            entity=said.entity or read_text(annotations, f"{OWNED}entity").strip(),
            documents=said.documents or _split(read_text(annotations, f"{OWNED}documents")),
        )


def parse_project(cluster: str, raw: JsonObject) -> Project:
    """One AppProject; raises ValueError for an object without a name."""
    place, spec = _read_id(cluster, read_object(raw, "metadata")), read_object(raw, "spec")
    windows = tuple(
        SyncWindow(
            read_text(each, "kind"),
            read_text(each, "schedule"),
            read_text(each, "duration"),
            read_text(each, "timeZone"),
            each.get("manualSync") is True,
            read_texts(each, "applications"),
            read_texts(each, "namespaces"),
            read_texts(each, "clusters"),
        )
        for each in read_objects(spec, "syncWindows")
    )
    return Project(*place, description=read_text(spec, "description"), sync_windows=windows)


def parse_app_set(cluster: str, raw: JsonObject) -> AppSet:
    """One ApplicationSet; raises ValueError for an object without a name."""
    place, status = _read_id(cluster, read_object(raw, "metadata")), read_object(raw, "status")
    strategy = read_text(read_object(read_object(raw, "spec"), "strategy"), "type")
    errors = tuple(
        read_text(each, "message")
        for each in read_objects(status, "conditions")
        if (read_text(each, "type"), read_text(each, "status")) == ("ErrorOccurred", "True")
    )
    return AppSet(*place, progressive=strategy == "RollingSync", errors=errors)


_NOTHING = Owned()
_HEALTHS = {str(health): health for health in Health}
_SYNCS = {str(sync): sync for sync in Sync}


def _read_id(cluster: str, metadata: JsonObject) -> AppId:
    return AppId(cluster, read_text(metadata, "namespace"), read_name(metadata))


def _read_destination(destination: JsonObject) -> str:
    server = read_text(destination, "server")
    return read_text(destination, "name") or (IN_CLUSTER if server == IN_CLUSTER_SERVER else server)


def _read_sources(spec: JsonObject) -> tuple[AppSource, ...]:
    several = tuple(read_source(each) for each in read_objects(spec, "sources"))
    one = read_object(spec, "source")
    return several or ((read_source(one),) if one else ())


def read_source(raw: JsonObject) -> AppSource:
    """One source as an Application has it in its spec and in its history."""
    return AppSource(
        repo=read_text(raw, "repoURL"),
        path=read_text(raw, "path"),
        chart=read_text(raw, "chart"),
        target_revision=read_text(raw, "targetRevision"),
        images=read_texts(read_object(raw, "kustomize"), "images"),
        parameters=tuple(
            (read_text(each, "name"), read_text(each, "value"))
            for each in read_objects(read_object(raw, "helm"), "parameters")
        ),
        recurse=read_object(raw, "directory").get("recurse") is True,
    )


def _read_revision(raw: JsonObject) -> str:
    """A commit or chart version; of several sources theirs, in order, joined by commas."""
    return read_text(raw, "revision") or ",".join(read_texts(raw, "revisions"))


def _read_deployed(raw: JsonObject) -> Deployed:
    sources, by, number = _read_sources(raw), read_object(raw, "initiatedBy"), raw.get("id")
    return Deployed(
        id=number if isinstance(number, int) else 0,
        revision=_read_revision(raw),
        at=read_text(raw, "deployedAt"),
        by=read_text(by, "username") or ("automated" if by.get("automated") is True else ""),
        source=sources[0] if len(sources) == 1 else None,
    )


def _read_managed(raw: JsonObject) -> Managed:
    health, wave = raw.get("health"), raw.get("syncWave")
    state = health if isinstance(health, dict) else EMPTY
    return Managed(
        _shared(read_text(raw, "group")),
        _shared(read_text(raw, "version")),
        _shared(read_text(raw, "kind")),
        _shared(read_text(raw, "namespace")),
        read_text(raw, "name"),
        _shared(read_text(raw, "status")),
        _shared(read_text(state, "status")),
        read_text(state, "message"),
        wave if isinstance(wave, int) else 0,
    )


def _read_conditions(status: JsonObject) -> Iterator[Condition]:
    for each in read_objects(status, "conditions"):
        yield Condition(read_text(each, "type"), read_text(each, "message"), read_text(each, "lastTransitionTime"))


def _read_owner_set(metadata: JsonObject) -> str:
    owners: Iterable[JsonObject] = read_objects(metadata, "ownerReferences")
    return next((read_text(each, "name") for each in owners if read_text(each, "kind") == "ApplicationSet"), "")


@lru_cache(maxsize=4096)
def _shared(text: str) -> str:
    """One object for equal strings: thousands of resources share a few kinds, namespaces and states."""
    return text


def _read_wave(annotations: JsonObject) -> int:
    try:
        return int(read_text(annotations, SYNC_WAVE))
    except ValueError:
        return 0


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in (each.strip() for each in text.split(",")) if part)
