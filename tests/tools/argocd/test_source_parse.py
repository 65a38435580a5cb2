"""Argo CD's objects, parsed: every field that the tree holds, and objects that are not as they should be."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.tools.argocd.parse import AppParser, AppSet, Project, SyncWindow, parse_app_set, parse_project
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.tree import App, AppId, AppSource, Condition, Deployed, Health, Managed, Owned, Sync

ENVIRONMENTS = Environments(
    (
        EnvironmentRule(
            name="production", strict=True, clusters=("alpha",), namespaces=("shop-*",), labels={"tier": "1"}
        ),
        EnvironmentRule(name="staging", projects=("shop",)),
    )
)

WHOLE: Mapping[str, Any] = {
    "metadata": {
        "name": "web",
        "namespace": "argocd",
        "uid": "u-1",
        "resourceVersion": "42",
        "creationTimestamp": "2026-11-01T08:00:00Z",
        "deletionTimestamp": "2026-11-20T08:00:00Z",
        "finalizers": ["resources-finalizer.argocd.argoproj.io"],
        "labels": {"tier": "1", "app.kubernetes.io/instance": "root"},
        "annotations": {
            "argocd.argoproj.io/tracking-id": "root:argoproj.io/Application:argocd/web",
            "argocd.argoproj.io/sync-wave": "-3",
            "arborgate.dev/redis": "main:shop:, cache:web:",
            "arborgate.dev/routes": "shop.example",
            "arborgate.dev/entity": "component:default/web",
            "arborgate.dev/documents": "12345",
        },
        "ownerReferences": [{"kind": "ApplicationSet", "name": "fleet"}],
    },
    "spec": {
        "project": "shop",
        "source": {
            "repoURL": "https://git.example/shop.git",
            "path": "web",
            "targetRevision": "main",
            "kustomize": {"images": ["shop/web=registry.example/web:1.2"]},
            "helm": {"parameters": [{"name": "image.tag", "value": "1.2"}, {"name": "replicas", "value": "3"}]},
        },
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop-web"},
        "syncPolicy": {"automated": {"selfHeal": True, "prune": True}},
    },
    "status": {
        "sync": {"status": "OutOfSync", "revision": "abc"},
        "health": {"status": "Degraded", "message": "crash loop"},
        "summary": {"images": ["registry.example/web:1.2"]},
        "reconciledAt": "2026-11-20T09:00:00Z",
        "controllerNamespace": "argocd",
        "sourceType": "Helm",
        "conditions": [{"type": "SyncError", "message": "failed", "lastTransitionTime": "2026-11-20T07:00:00Z"}],
        "operationState": {"phase": "Failed", "message": "one object failed", "startedAt": "2026-11-20T06:00:00Z"},
        "history": [
            {
                "id": 7,
                "revision": "abc",
                "deployedAt": "2026-11-19T08:00:00Z",
                "initiatedBy": {"username": "ann"},
                "source": {"repoURL": "https://git.example/shop.git", "path": "web", "targetRevision": "v1"},
            }
        ],
        "resources": [
            {
                "group": "apps",
                "version": "v1",
                "kind": "Deployment",
                "namespace": "shop-web",
                "name": "web",
                "status": "Synced",
                "health": {"status": "Degraded", "message": "0 of 3 ready"},
                "syncWave": 2,
            }
        ],
    },
}


def _parse(raw: Mapping[str, Any], ownership: Mapping[str, Owned] | None = None) -> App:
    return AppParser("alpha", ENVIRONMENTS, ownership or {}).parse(raw)


def _with(part: str, **changed: Any) -> Mapping[str, Any]:
    return {**WHOLE, part: {**WHOLE[part], **changed}}


def test_an_application_is_parsed_whole() -> None:
    assert _parse(WHOLE) == App(
        id=AppId("alpha", "argocd", "web"),
        uid="u-1",
        resource_version="42",
        project="shop",
        labels={"tier": "1", "app.kubernetes.io/instance": "root"},
        wave=-3,
        sources=(
            AppSource(
                "https://git.example/shop.git",
                "web",
                "",
                "main",
                ("shop/web=registry.example/web:1.2",),
                (("image.tag", "1.2"), ("replicas", "3")),
            ),
        ),
        destination_cluster="in-cluster",
        destination_namespace="shop-web",
        automated=True,
        self_heal=True,
        prune=True,
        health=Health.DEGRADED,
        health_message="crash loop",
        sync=Sync.OUT_OF_SYNC,
        revision="abc",
        images=("registry.example/web:1.2",),
        conditions=(Condition("SyncError", "failed", "2026-11-20T07:00:00Z"),),
        operation_phase="Failed",
        operation_message="one object failed",
        operation_at="2026-11-20T06:00:00Z",
        history=(
            Deployed(
                7, "abc", "2026-11-19T08:00:00Z", "ann", AppSource("https://git.example/shop.git", "web", "", "v1")
            ),
        ),
        managed=(Managed("apps", "v1", "Deployment", "shop-web", "web", "Synced", "Degraded", "0 of 3 ready", 2),),
        reconciled_at="2026-11-20T09:00:00Z",
        created_at="2026-11-01T08:00:00Z",
        deleting_since="2026-11-20T08:00:00Z",
        finalizers=("resources-finalizer.argocd.argoproj.io",),
        owned=Owned(("main:shop:", "cache:web:"), ("shop.example",), "component:default/web", ("12345",)),
        environment="production",
        tracking_id="root:argoproj.io/Application:argocd/web",
        instance="root",
        owner_set="fleet",
        source_type="Helm",
        controller_namespace="argocd",
    )


def test_an_application_that_was_never_reconciled_is_unknown() -> None:
    app = _parse({"metadata": {"name": "new", "namespace": "argocd"}, "spec": {}})
    assert (app.health, app.sync, app.project, app.environment) == (
        Health.UNKNOWN,
        Sync.UNKNOWN,
        "default",
        "unassigned",
    )
    assert (app.sources, app.history, app.managed, app.owned) == ((), (), (), Owned())


@pytest.mark.parametrize(
    ("policy", "automated", "heals"),
    [
        ({}, False, False),
        ({"automated": None}, False, False),
        ({"automated": {}}, True, False),
        ({"automated": {"selfHeal": True}}, True, True),
        ({"automated": {"enabled": False, "selfHeal": True}}, False, False),
    ],
)
def test_an_app_syncs_and_heals_itself_only_where_that_is_on(policy: object, automated: bool, heals: bool) -> None:
    app = _parse(_with("spec", syncPolicy=policy))
    assert (app.automated, app.self_heal) == (automated, heals)


def test_several_sources_are_all_there_and_their_revisions_too() -> None:
    spec = {"sources": [{"repoURL": "one", "chart": "web"}, {"repoURL": "two", "ref": "values"}]}
    entry = {"id": 1, "revisions": ["1.0", "def"], "sources": spec["sources"], "initiatedBy": {"automated": True}}
    status = {"sync": {"revisions": ["1.0", "def"]}, "sourceTypes": ["Helm", "Directory"], "history": [entry]}
    app = _parse({"metadata": {"name": "web"}, "spec": spec, "status": status})
    assert [(source.repo, source.chart) for source in app.sources] == [("one", "web"), ("two", "")]
    assert (app.revision, app.source_type) == ("1.0,def", "Helm,Directory")
    assert app.history == (Deployed(1, "1.0,def", "", "automated"),)


def test_the_label_of_a_custom_tracking_configuration_comes_first() -> None:
    labels = {"app.kubernetes.io/instance": "release", "argocd.argoproj.io/instance": "root"}
    assert _parse(_with("metadata", labels=labels)).instance == "root"


@pytest.mark.parametrize(
    ("destination", "cluster"),
    [
        ({"server": "https://kubernetes.default.svc"}, "in-cluster"),
        ({"name": "far"}, "far"),
        ({"server": "https://far.example:6443"}, "https://far.example:6443"),
        ({}, ""),
    ],
)
def test_a_destination_is_named_where_it_has_a_name(destination: dict[str, str], cluster: str) -> None:
    assert _parse(_with("spec", destination=destination)).destination_cluster == cluster


def test_settings_override_what_an_app_says_that_it_owns_field_by_field() -> None:
    app = _parse(WHOLE, {"web": Owned(redis=("main:only:",))})
    assert app.owned == Owned(("main:only:",), ("shop.example",), "component:default/web", ("12345",))


def test_settings_for_the_full_id_come_before_settings_for_the_name() -> None:
    app = _parse(WHOLE, {"web": Owned(entity="by-name"), "alpha/argocd/web": Owned(entity="by-id")})
    assert app.owned.entity == "by-id"


def test_an_object_without_a_name_is_no_app() -> None:
    with pytest.raises(ValueError, match="without a name"):
        _parse({"metadata": {}})


KEYS = """
    annotations automated conditions destination health helm history id images initiatedBy labels name operationState
    ownerReferences parameters resources source sources spec status summary sync syncPolicy
"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON, JSON)
def test_an_object_of_any_shape_is_an_app_as_long_as_it_has_a_name(metadata: Any, spec: Any, status: Any) -> None:
    named = {**(metadata if isinstance(metadata, dict) else {}), "name": "web"}
    assert _parse({"metadata": named, "spec": spec, "status": status}).id.name == "web"


def test_a_project_has_its_windows() -> None:
    window = {"kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "timeZone": "UTC", "applications": ["*"]}
    raw = {"metadata": {"name": "shop", "namespace": "argocd"}, "spec": {"description": "d", "syncWindows": [window]}}
    expected = SyncWindow("deny", "0 22 * * *", "8h", "UTC", False, ("*",), (), ())
    assert parse_project("alpha", raw) == Project("alpha", "argocd", "shop", "d", (expected,))


def test_an_application_set_tells_what_keeps_it_from_generating() -> None:
    conditions = [
        {"type": "ErrorOccurred", "status": "True", "message": "no such repository"},
        {"type": "ErrorOccurred", "status": "False", "message": "an old one"},
        {"type": "ParametersGenerated", "status": "True", "message": "fine"},
    ]
    raw = {
        "metadata": {"name": "fleet", "namespace": "argocd"},
        "spec": {"strategy": {"type": "RollingSync"}},
        "status": {"conditions": conditions},
    }
    assert parse_app_set("alpha", raw) == AppSet("alpha", "argocd", "fleet", True, ("no such repository",))
