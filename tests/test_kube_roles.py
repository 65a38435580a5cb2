"""What the roles of deploy/kubernetes/rbac.yaml allow on a real API server, and what they refuse."""

from typing import Any

import pytest

from tests.parts.kube import APPLY, HOME_NAMESPACE, MERGE_PATCH, Identity, KubeApi

ARGO, APPS = "/apis/argoproj.io/v1alpha1", "/apis/apps/v1"
READABLE = {
    "applications": (ARGO, "argoproj.io/v1alpha1", "Application"),
    "applicationsets": (ARGO, "argoproj.io/v1alpha1", "ApplicationSet"),
    "appprojects": (ARGO, "argoproj.io/v1alpha1", "AppProject"),
    "rollouts": (ARGO, "argoproj.io/v1alpha1", "Rollout"),
    "daemonsets": (APPS, "apps/v1", "DaemonSet"),
    "deployments": (APPS, "apps/v1", "Deployment"),
    "replicasets": (APPS, "apps/v1", "ReplicaSet"),
    "statefulsets": (APPS, "apps/v1", "StatefulSet"),
    "events": ("/api/v1", "v1", "Event"),
    "pods": ("/api/v1", "v1", "Pod"),
    "services": ("/api/v1", "v1", "Service"),
}
PATCHABLE = frozenset({"applications", "daemonsets", "deployments", "rollouts", "statefulsets"})
SCALABLE = frozenset({"deployments", "rollouts", "statefulsets"})
HIDDEN = (
    "/api/v1/secrets",
    "/api/v1/configmaps",
    "/api/v1/serviceaccounts",
    "/api/v1/nodes",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)
IN_EARNEST_AND_REHEARSED = pytest.mark.parametrize("params", [{}, {"dryRun": "All"}], ids=["real", "dry run"])
BOTH = pytest.mark.parametrize("identity", [Identity.SERVE, Identity.APPLIER])


def place(plural: str, namespace: str) -> str:
    return f"{READABLE[plural][0]}/namespaces/{namespace}/{plural}"


def describe(plural: str, name: str) -> dict[str, Any]:
    _, version, kind = READABLE[plural]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


@BOTH
@pytest.mark.parametrize("plural", READABLE)
def test_both_processes_read_every_kind_they_need_in_all_namespaces(
    kube_api: KubeApi, identity: Identity, plural: str
) -> None:
    path = f"{READABLE[plural][0]}/{plural}"
    assert kube_api.request("GET", path, identity=identity).status_code == 200
    group = READABLE[plural][1].rpartition("/")[0]
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "watch", "group": group, "resource": plural}},
    }
    review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert kube_api.request("POST", review, asked, identity=identity).json()["status"]["allowed"]
    missing = f"{place(plural, HOME_NAMESPACE)}/nobody"
    assert kube_api.request("GET", missing, identity=identity).status_code == 404


@BOTH
@pytest.mark.parametrize("path", HIDDEN)
def test_neither_process_reads_what_holds_secrets_or_powers(kube_api: KubeApi, identity: Identity, path: str) -> None:
    assert kube_api.request("GET", path, identity=identity).status_code == 403


@BOTH
@pytest.mark.parametrize(
    ("method", "sub"), [("GET", "log"), ("POST", "exec"), ("POST", "portforward"), ("POST", "eviction")]
)
def test_neither_process_has_a_way_into_a_pod(kube_api: KubeApi, identity: Identity, method: str, sub: str) -> None:
    pod = f"{place('pods', HOME_NAMESPACE)}/any/{sub}"
    assert kube_api.request(method, pod, {}, identity=identity).status_code == 403


@IN_EARNEST_AND_REHEARSED
@pytest.mark.parametrize("plural", READABLE)
def test_nothing_that_serve_holds_can_write(kube_api: KubeApi, plural: str, params: dict[str, str]) -> None:
    collection = place(plural, HOME_NAMESPACE)
    one, body = f"{collection}/any", describe(plural, "any")
    tried = {
        ("POST", collection, "application/json"),
        ("PUT", one, "application/json"),
        ("PATCH", one, MERGE_PATCH),
        ("PATCH", one, APPLY),
        ("DELETE", one, "application/json"),
        ("DELETE", collection, "application/json"),
        ("PATCH", f"{one}/status", MERGE_PATCH),
        ("PATCH", f"{one}/scale", MERGE_PATCH),
    }
    answers = {
        (method, path, content_type): kube_api.request(
            method, path, body, identity=Identity.SERVE, content_type=content_type, params=params
        ).status_code
        for method, path, content_type in tried
    }
    assert answers == dict.fromkeys(tried, 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/namespaces"),
        ("PATCH", f"/api/v1/namespaces/{HOME_NAMESPACE}"),
        ("DELETE", f"/api/v1/namespaces/{HOME_NAMESPACE}"),
        ("POST", f"/api/v1/namespaces/{HOME_NAMESPACE}/configmaps"),
        ("POST", f"/api/v1/namespaces/{HOME_NAMESPACE}/secrets"),
        ("POST", f"/api/v1/namespaces/{HOME_NAMESPACE}/serviceaccounts/arborgate-applier/token"),
        ("POST", f"/apis/coordination.k8s.io/v1/namespaces/{HOME_NAMESPACE}/leases"),
        ("PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/arborgate-serve"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
)
@BOTH
def test_neither_process_can_widen_its_own_powers(
    kube_api: KubeApi, identity: Identity, method: str, path: str
) -> None:
    content_type = MERGE_PATCH if method == "PATCH" else "application/json"
    answer = kube_api.request(method, path, {}, identity=identity, content_type=content_type)
    assert answer.status_code == 403


@IN_EARNEST_AND_REHEARSED
@pytest.mark.parametrize("plural", READABLE)
def test_the_applier_may_patch_what_changes_patch_and_nothing_else(
    kube_api: KubeApi, plural: str, params: dict[str, str]
) -> None:
    def ask(method: str, path: str, content_type: str) -> bool:
        answer = kube_api.request(
            method,
            path,
            describe(plural, "any"),
            identity=Identity.APPLIER,
            content_type=content_type,
            params=params,
        )
        return answer.status_code != 403

    collection = place(plural, HOME_NAMESPACE)
    one = f"{collection}/any"
    assert ask("PATCH", one, MERGE_PATCH) is (plural in PATCHABLE)
    assert ask("PATCH", f"{one}/scale", MERGE_PATCH) is (plural in SCALABLE)
    assert not ask("POST", collection, "application/json")
    assert not ask("PUT", one, "application/json")
    assert not ask("DELETE", one, "application/json")
    assert not ask("DELETE", collection, "application/json")
    assert not ask("PATCH", f"{one}/status", MERGE_PATCH)


@pytest.mark.parametrize("plural", ["applications", "deployments"])
def test_the_applier_cannot_create_by_applying(kube_api: KubeApi, kube_namespace: str, plural: str) -> None:
    labels = {"app": "shop"}
    specs = {
        "applications": {"project": "default", "destination": {"namespace": "shop"}},
        "deployments": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
            },
        },
    }
    path = f"{place(plural, kube_namespace)}/shop"
    body = {**describe(plural, "shop"), "spec": specs[plural]}
    owner = {"fieldManager": "tests"}
    refused = kube_api.request("PATCH", path, body, identity=Identity.APPLIER, content_type=APPLY, params=owner)
    assert refused.status_code == 403
    assert kube_api.request("PATCH", path, body, content_type=APPLY, params=owner).status_code == 201


@pytest.mark.parametrize("impersonate", ["system:masters", "system:serviceaccounts:arborgate"])
@BOTH
def test_neither_process_can_speak_as_another(kube_api: KubeApi, identity: Identity, impersonate: str) -> None:
    headers = {"Impersonate-User": "admin", "Impersonate-Group": impersonate}
    answer = kube_api.request("GET", f"{ARGO}/applications", identity=identity, headers=headers)
    assert answer.status_code == 403
