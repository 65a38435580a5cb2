"""The writer against a real API server under the applier's own role: what it may write, and what it is told."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from arborgate.policies.errors import Refused, Stale, Unavailable
from arborgate.tools.change import Target
from arborgate.tools.kubernetes.changes import WRITABLE, ClusterWriter
from arborgate.tools.kubernetes.source import connect
from arborgate.tools.rollouts.changes import RESTARTED_AT
from tests.parts.kube import Identity, KubeApi
from tests.tools.rollouts.applications import HELM, make_application, make_workload

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["api server"])
def cluster(request: pytest.FixtureRequest) -> KubeApi:
    """What the contract is checked on: anything with the `apply`, `request` and `kubeconfig` of a KubeApi."""
    found: KubeApi = request.getfixturevalue({"api server": "kube_api"}[request.param])
    return found


@pytest.fixture
async def writer(cluster: KubeApi) -> AsyncIterator[ClusterWriter]:
    client = await connect("sandbox", cluster.kubeconfig(Identity.APPLIER), "")
    found = ClusterWriter({"sandbox": client})
    yield found
    await found.close()


def put(cluster: KubeApi, manifest: dict[str, Any], namespace: str) -> Target:
    """Creates the object and says where it is."""
    metadata = {
        key: manifest["metadata"][key] for key in ("name", "labels", "annotations") if key in manifest["metadata"]
    }
    placed = {key: value for key, value in manifest.items() if key != "status"}
    cluster.apply({**placed, "metadata": {**metadata, "namespace": namespace}})
    return Target(
        app=f"sandbox/{namespace}/api",
        cluster="sandbox",
        api=manifest["apiVersion"],
        kind=manifest["kind"],
        namespace=namespace,
        name=metadata["name"],
    )


async def version_of(writer: ClusterWriter, target: Target) -> str:
    live = await writer.read(target)
    assert live is not None
    return str(live["metadata"]["resourceVersion"])


PATCHES: dict[tuple[str, str], dict[str, Any]] = {
    ("argoproj.io/v1alpha1", "Application"): {"spec": {"source": {"targetRevision": "v2"}}},
    ("argoproj.io/v1alpha1", "Rollout"): {"spec": {"restartAt": "2026-11-21T08:00:00Z"}},
    ("apps/v1", "DaemonSet"): {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: "now"}}}}},
    ("apps/v1", "Deployment"): {"spec": {"replicas": 5}},
    ("apps/v1", "StatefulSet"): {"spec": {"replicas": 5}},
}


def make(api: str, kind: str) -> dict[str, Any]:
    made = make_application() if kind == "Application" else make_workload(kind, "api")
    assert (made["apiVersion"], made["kind"]) == (api, kind)
    return made


@pytest.mark.parametrize(("api", "kind"), sorted(WRITABLE))
async def test_each_kind_is_rehearsed_without_a_trace_and_then_applied(
    writer: ClusterWriter, cluster: KubeApi, kube_namespace: str, api: str, kind: str
) -> None:
    target = put(cluster, make(api, kind), kube_namespace)
    before = await writer.read(target)
    assert before is not None
    patch = PATCHES[api, kind]

    rehearsed = await writer.rehearse(target, patch)
    assert (rehearsed.ok, rehearsed.refusal) == (True, "")
    assert await writer.read(target) == before

    after = await writer.apply(target, patch, before["metadata"]["resourceVersion"])
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert await writer.read(target) == after
    managers = {entry["manager"] for entry in after["metadata"]["managedFields"]}
    assert "arborgate" in managers


async def test_an_operation_is_set_as_argocd_would_set_it(
    writer: ClusterWriter, cluster: KubeApi, kube_namespace: str
) -> None:
    target = put(cluster, make_application(), kube_namespace)
    operation = {"initiatedBy": {"username": "arborgate"}, "sync": {"prune": False, "syncStrategy": {"hook": {}}}}
    after = await writer.apply(target, {"operation": operation}, await version_of(writer, target))
    assert after["operation"] == operation


async def test_an_undo_takes_out_what_was_not_there(
    writer: ClusterWriter, cluster: KubeApi, kube_namespace: str
) -> None:
    target = put(cluster, make_application(source={**HELM, "helm": {"releaseName": "api"}}), kube_namespace)
    patch = {"spec": {"source": {"helm": {"parameters": [{"name": "image.tag", "value": "2"}]}}}}
    after = await writer.apply(target, patch, await version_of(writer, target))
    undo = {"spec": {"source": {"helm": {"parameters": None}}}}
    back = await writer.apply(target, undo, after["metadata"]["resourceVersion"])
    assert back["spec"]["source"]["helm"] == {"releaseName": "api"}


async def test_an_object_that_moved_is_stale_and_stays_as_it_is(
    writer: ClusterWriter, cluster: KubeApi, kube_namespace: str
) -> None:
    target = put(cluster, make_workload("Deployment", "api"), kube_namespace)
    seen = await version_of(writer, target)
    await writer.apply(target, {"spec": {"replicas": 3}}, seen)
    with pytest.raises(Stale, match="moved or is gone"):
        await writer.apply(target, {"spec": {"replicas": 9}}, seen)
    live = await writer.read(target)
    assert live is not None
    assert live["spec"]["replicas"] == 3


async def test_an_object_that_is_gone_is_refused_in_the_rehearsal_and_stale_when_applied(
    writer: ClusterWriter, kube_namespace: str
) -> None:
    gone = Target(app="a", cluster="sandbox", api="apps/v1", kind="Deployment", namespace=kube_namespace, name="gone")
    assert await writer.read(gone) is None
    rehearsed = await writer.rehearse(gone, {"spec": {"replicas": 1}})
    assert (rehearsed.ok, rehearsed.refusal) == (False, "Deployment gone is not there any more.")
    with pytest.raises(Stale):
        await writer.apply(gone, {"spec": {"replicas": 1}}, "1")


async def test_what_the_server_finds_invalid_is_told_in_its_words(
    writer: ClusterWriter, cluster: KubeApi, kube_namespace: str
) -> None:
    target = put(cluster, make_workload("Deployment", "api"), kube_namespace)
    rehearsed = await writer.rehearse(target, {"spec": {"replicas": -1}})
    assert not rehearsed.ok
    assert "spec.replicas" in rehearsed.refusal
    with pytest.raises(Refused, match=r"spec\.replicas"):
        await writer.apply(target, {"spec": {"replicas": -1}}, await version_of(writer, target))


async def test_a_field_that_the_server_does_not_know_is_a_refusal(
    writer: ClusterWriter, cluster: KubeApi, kube_namespace: str
) -> None:
    target = put(cluster, make_application(), kube_namespace)
    rehearsed = await writer.rehearse(target, {"spec": {"source": {"targetRevison": "v2"}}})
    assert not rehearsed.ok
    assert 'unknown field "spec.source.targetRevison"' in rehearsed.refusal
    assert "apiVersion" not in rehearsed.refusal  # the server echoes the whole object, whatever is in it


async def test_a_missing_permission_is_told_without_naming_the_account(cluster: KubeApi, kube_namespace: str) -> None:
    target = put(cluster, make_workload("Deployment", "api"), kube_namespace)
    serve = ClusterWriter({"sandbox": await connect("sandbox", cluster.kubeconfig(Identity.SERVE), "")})
    try:
        rehearsed = await serve.rehearse(target, {"spec": {"replicas": 3}})
        assert rehearsed.refusal == "The applier may not change Deployment api in the cluster sandbox."
        with pytest.raises(Refused, match="may not change"):
            await serve.apply(target, {"spec": {"replicas": 3}}, await version_of(serve, target))
    finally:
        await serve.close()


@pytest.fixture
def admission(kube_api: KubeApi, kube_namespace: str) -> Iterator[None]:
    """An admission policy that warns of more than 3 replicas in this namespace, and one that denies more than 7."""
    manifests = [
        make_admission(kube_namespace, "Warn", "object.spec.replicas <= 3", "that is a lot"),
        make_admission(
            kube_namespace, "Deny", "object.spec.replicas <= 7", "too many: ask at https://10.0.0.1:8443/why"
        ),
    ]
    for policy, binding in manifests:
        kube_api.apply(policy)
        kube_api.apply(binding)
    yield
    for policy, binding in manifests:
        kube_api.call("DELETE", kube_api.find_path(binding))
        kube_api.call("DELETE", kube_api.find_path(policy))


def make_admission(namespace: str, action: str, expression: str, message: str) -> tuple[dict[str, Any], dict[str, Any]]:
    name = f"{namespace}-{action.lower()}"
    api = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["UPDATE"]}
    match = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule], **match},
            "validations": [{"expression": expression, "message": message}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": [action]},
    }
    return policy, binding


async def test_admission_warns_and_refuses_in_the_rehearsal(
    writer: ClusterWriter, kube_api: KubeApi, kube_namespace: str, admission: None
) -> None:
    target = put(kube_api, make_workload("Deployment", "api"), kube_namespace)
    refused = await rehearse_until(writer, target, 9, lambda said: not said.ok)
    assert "too many: ask at (address)" in refused.refusal
    assert "10.0.0.1" not in refused.refusal
    warned = await rehearse_until(writer, target, 5, lambda said: bool(said.warnings))
    assert warned.ok
    assert any("that is a lot" in warning for warning in warned.warnings)
    live = await writer.read(target)
    assert live is not None
    assert live["spec"]["replicas"] == 2


async def rehearse_until(writer: ClusterWriter, target: Target, replicas: int, met: Any) -> Any:
    """The rehearsal, once the server has noticed its new admission policies."""
    with anyio.fail_after(20):
        while True:
            said = await writer.rehearse(target, {"spec": {"replicas": replicas}})
            if met(said):
                return said
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("Deployment", {"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}}),
        ("Deployment", {"spec": {"replicas": 1}, "metadata": {"finalizers": None}}),
        ("Deployment", {"spec": None}),
        ("Deployment", {}),
        ("Application", {"spec": {"project": "other"}}),
        ("Application", {"spec": {"syncPolicy": None}}),
        ("Application", {"spec": {"destination": {"server": "https://elsewhere.example.org"}}}),
        ("Application", {"status": {"operationState": None}}),
        ("Application", {"operationX": {}}),
        ("DaemonSet", {"spec": {"replicas": 1}}),
        ("ClusterRole", {"rules": []}),
    ],
    ids=str,
)
async def test_nothing_else_is_ever_written(kind: str, patch: dict[str, Any]) -> None:
    api = next((api for api, known in WRITABLE if known == kind), "rbac.authorization.k8s.io/v1")
    target = Target(app="a", cluster="nowhere", api=api, kind=kind, namespace="shop", name="api")
    writer = ClusterWriter({})
    rehearsed = await writer.rehearse(target, patch)
    assert not rehearsed.ok
    assert "is never written" in rehearsed.refusal
    with pytest.raises(Refused, match="is never written"):
        await writer.apply(target, patch, "1")


async def test_a_kind_is_written_only_at_its_own_api() -> None:
    target = Target(app="a", cluster="nowhere", api="apps/v1beta1", kind="Deployment", namespace="shop", name="api")
    with pytest.raises(Refused, match="is never written"):
        await ClusterWriter({}).apply(target, {"spec": {"replicas": 1}}, "1")


async def test_a_cluster_that_is_gone_is_named_and_its_address_is_not(kube_api: KubeApi, kube_namespace: str) -> None:
    target = put(kube_api, make_workload("Deployment", "api"), kube_namespace)
    writer = ClusterWriter({"sandbox": await connect("sandbox", kube_api.kubeconfig(Identity.APPLIER), "")})
    kube_api.stop()
    try:
        for call in (
            writer.rehearse(target, {"spec": {"replicas": 3}}),
            writer.apply(target, {"spec": {"replicas": 3}}, "1"),
        ):
            with pytest.raises(Unavailable, match="cluster sandbox") as gone:
                await call
            assert "127.0.0.1" not in str(gone.value)
    finally:
        await writer.close()
