"""The writer against a real API server under the applier's own role: what it may write, and what it is told."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from arborgate.policies.errors import Refused, Stale, Unavailable
from arborgate.tools.argocd.changes import plan_rollback, plan_set_image, plan_set_revision, plan_sync
from arborgate.tools.change import Attribution, Target
from arborgate.tools.kubernetes.changes import MARK, WRITABLE, ClusterWriter
from arborgate.tools.kubernetes.source import Clusters, connect
from arborgate.tools.rollouts.changes import RESTARTED_AT
from tests.contract.clusters import Cluster, RealCluster, run_sandbox
from tests.parts.kube import Identity, KubeApi
from tests.tools.rollouts.applications import HELM, KUSTOMIZE, make_application, make_node, make_workload

pytestmark = pytest.mark.anyio

FOR = Attribution("p-0", 0, "Scale web", "Ann", "", ("Ben",))


@pytest.fixture(params=["sandbox", "real"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """The two that must behave alike: the sandbox cluster of the demo, and a real API server."""
    if request.param == "real":
        yield RealCluster(request.getfixturevalue("kube_api"), request.getfixturevalue("kube_namespace"))
    else:
        async with run_sandbox() as sandbox:
            yield sandbox


@asynccontextmanager
async def writing(cluster: Cluster, identity: Identity, folder: Path) -> AsyncIterator[ClusterWriter]:
    place = folder / identity
    place.mkdir()
    clusters = Clusters({"sandbox": await connect("sandbox", cluster.kubeconfig(identity, place), "")})
    try:
        yield ClusterWriter(clusters)
    finally:
        await clusters.close()


@pytest.fixture
async def writer(cluster: Cluster, tmp_path: Path) -> AsyncIterator[ClusterWriter]:
    async with writing(cluster, Identity.APPLIER, tmp_path) as found:
        yield found


def put(cluster: Cluster, manifest: dict[str, Any]) -> Target:
    """Creates the object and says where it is."""
    kept = ("name", "labels", "annotations")
    metadata = {key: value for key, value in manifest["metadata"].items() if key in kept}
    described = {key: value for key, value in manifest.items() if key != "status"}
    cluster.put({**described, "metadata": {**metadata, "namespace": cluster.namespace}})
    return make_target(cluster, manifest["apiVersion"], manifest["kind"], metadata["name"])


def make_target(cluster: Cluster, api: str, kind: str, name: str) -> Target:
    app = f"sandbox/{cluster.namespace}/api"
    return Target(app=app, cluster="sandbox", api=api, kind=kind, namespace=cluster.namespace, name=name)


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
    writer: ClusterWriter, cluster: Cluster, api: str, kind: str
) -> None:
    target = put(cluster, make(api, kind))
    before = await writer.read(target)
    assert before is not None
    patch = PATCHES[api, kind]

    rehearsed = await writer.rehearse(target, patch)
    assert (rehearsed.ok, rehearsed.refusal) == (True, "")
    assert await writer.read(target) == before

    after = await writer.apply(target, patch, before["metadata"]["resourceVersion"], FOR)
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert await writer.read(target) == after


async def test_an_operation_is_set_as_argocd_would_set_it(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_application())
    operation = {"initiatedBy": {"username": "arborgate"}, "sync": {"prune": False, "syncStrategy": {"hook": {}}}}
    after = await writer.apply(target, {"operation": operation}, await version_of(writer, target), FOR)
    assert after["operation"] == operation


@pytest.mark.parametrize("source", [KUSTOMIZE, HELM], ids=["kustomize", "helm"])
async def test_what_is_planned_is_what_the_server_knows(
    writer: ClusterWriter, cluster: Cluster, source: dict[str, Any]
) -> None:
    policy = {
        "syncOptions": ["ServerSideApply=true"],
        "retry": {"limit": 3, "backoff": {"duration": "5s", "factor": 2}},
    }
    application = make_application(source=source, policy=policy)
    target, node = put(cluster, application), make_node(application)
    found = await writer.read(target)
    assert found is not None
    live = {**found, "status": application["status"]}
    plans = (
        plan_sync(node, live),
        plan_rollback(node, live, history_id=1),
        plan_set_revision(node, live, revision="2.0.0"),
        plan_set_image(node, live, image="registry.example.org/shop/api:1.5.0"),
    )
    for plan in plans:
        for patch in (plan.change.patch, plan.change.undo):
            assert patch is not None
            rehearsed = await writer.rehearse(target, patch)
            assert (rehearsed.ok, rehearsed.warnings, rehearsed.refusal) == (True, (), ""), plan.change.summary


async def test_an_undo_takes_out_what_was_not_there(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_application(source={**HELM, "helm": {"releaseName": "api"}}))
    patch = {"spec": {"source": {"helm": {"parameters": [{"name": "image.tag", "value": "2"}]}}}}
    after = await writer.apply(target, patch, await version_of(writer, target), FOR)
    undo = {"spec": {"source": {"helm": {"parameters": None}}}}
    back = await writer.apply(target, undo, after["metadata"]["resourceVersion"], FOR)
    assert back["spec"]["source"]["helm"] == {"releaseName": "api"}


async def test_an_object_that_moved_is_stale_and_stays_as_it_is(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
    seen = await version_of(writer, target)
    await writer.apply(target, {"spec": {"replicas": 3}}, seen, FOR)
    with pytest.raises(Stale, match="moved or is gone"):
        await writer.apply(target, {"spec": {"replicas": 9}}, seen, FOR)
    live = await writer.read(target)
    assert live is not None
    assert live["spec"]["replicas"] == 3


async def test_an_object_that_is_gone_is_refused_in_the_rehearsal_and_stale_when_applied(
    writer: ClusterWriter, cluster: Cluster
) -> None:
    gone = make_target(cluster, "apps/v1", "Deployment", "gone")
    assert await writer.read(gone) is None
    rehearsed = await writer.rehearse(gone, {"spec": {"replicas": 1}})
    assert (rehearsed.ok, rehearsed.refusal) == (False, "Deployment gone is not there any more.")
    with pytest.raises(Stale):
        await writer.apply(gone, {"spec": {"replicas": 1}}, "1", FOR)


async def test_the_mark_of_the_change_is_left_in_the_same_write(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
    patch = {"spec": {"replicas": 3}, "metadata": {"annotations": {MARK: "p1/0"}}}
    after = await writer.apply(target, patch, await version_of(writer, target), FOR)
    assert (after["spec"]["replicas"], after["metadata"]["annotations"][MARK]) == (3, "p1/0")


async def test_what_the_server_finds_invalid_is_told_in_its_words(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
    rehearsed = await writer.rehearse(target, {"spec": {"replicas": -1}})
    assert not rehearsed.ok
    assert "spec.replicas" in rehearsed.refusal
    with pytest.raises(Refused, match=r"spec\.replicas"):
        await writer.apply(target, {"spec": {"replicas": -1}}, await version_of(writer, target), FOR)


@pytest.mark.parametrize("cluster", ["real"], indirect=True)
async def test_a_write_is_known_as_ours(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
    after = await writer.apply(target, {"spec": {"replicas": 3}}, await version_of(writer, target), FOR)
    assert "arborgate" in {entry["manager"] for entry in after["metadata"]["managedFields"]}


@pytest.mark.parametrize("cluster", ["real"], indirect=True)
async def test_a_field_that_the_server_does_not_know_is_a_refusal(writer: ClusterWriter, cluster: Cluster) -> None:
    target = put(cluster, make_application())
    rehearsed = await writer.rehearse(target, {"spec": {"source": {"targetRevison": "v2"}}})
    assert not rehearsed.ok
    assert 'unknown field "spec.source.targetRevison"' in rehearsed.refusal
    assert "apiVersion" not in rehearsed.refusal  # the server echoes the whole object, whatever is in it


async def test_a_missing_permission_is_told_without_naming_the_account(cluster: Cluster, tmp_path: Path) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
    async with writing(cluster, Identity.SERVE, tmp_path) as serve:
        rehearsed = await serve.rehearse(target, {"spec": {"replicas": 3}})
        assert rehearsed.refusal == "The applier may not change Deployment api in the cluster sandbox."
        with pytest.raises(Refused, match="may not change"):
            await serve.apply(target, {"spec": {"replicas": 3}}, await version_of(serve, target), FOR)


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


@pytest.mark.parametrize("cluster", ["real"], indirect=True)
async def test_admission_warns_and_refuses_in_the_rehearsal(
    writer: ClusterWriter, cluster: Cluster, admission: None
) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
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
    writer = ClusterWriter(Clusters({}))
    rehearsed = await writer.rehearse(target, patch)
    assert not rehearsed.ok
    assert "is never written" in rehearsed.refusal
    with pytest.raises(Refused, match="is never written"):
        await writer.apply(target, patch, "1", FOR)


async def test_a_kind_is_written_only_at_its_own_api() -> None:
    target = Target(app="a", cluster="nowhere", api="apps/v1beta1", kind="Deployment", namespace="shop", name="api")
    with pytest.raises(Refused, match="is never written"):
        await ClusterWriter(Clusters({})).apply(target, {"spec": {"replicas": 1}}, "1", FOR)


@pytest.mark.parametrize("cluster", ["real"], indirect=True)
async def test_a_cluster_that_is_gone_is_named_and_its_address_is_not(
    writer: ClusterWriter, cluster: Cluster, kube_api: KubeApi
) -> None:
    target = put(cluster, make_workload("Deployment", "api"))
    kube_api.stop()
    with pytest.raises(Unavailable, match="cluster sandbox") as gone:
        await writer.rehearse(target, {"spec": {"replicas": 3}})
    assert "127.0.0.1" not in str(gone.value)
    with pytest.raises(Unavailable, match="cluster sandbox"):
        await writer.apply(target, {"spec": {"replicas": 3}}, "1", FOR)
