"""What Arborgate relies on in a cluster, shown of the sandbox cluster and of a real API server alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import orjson
import pytest

from arborgate.tools.change import Target
from arborgate.tools.kubernetes.source import Clusters, connect
from tests.contract.clusters import Cluster, RealCluster, run_sandbox
from tests.parts.kube import Identity, KubeApi

pytestmark = pytest.mark.anyio

MERGE_PATCH = "application/merge-patch+json"
ARGO, APPS = "argoproj.io/v1alpha1", "apps/v1"

Json = dict[str, Any]


@pytest.fixture(params=["sandbox", "real"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    if request.param == "real":
        api: KubeApi = request.getfixturevalue("kube_api")
        api.recover()
        with api.fresh_namespace() as namespace:
            yield RealCluster(api, namespace)
    else:
        async with run_sandbox() as sandbox:
            yield sandbox


def application(cluster: Cluster, name: str, revision: str = "main", **labels: str) -> Json:
    return {
        "apiVersion": ARGO,
        "kind": "Application",
        "metadata": {"name": name, "namespace": cluster.namespace, "labels": labels},
        "spec": {
            "project": "default",
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
            "source": {"repoURL": "https://git.example.com/apps.git", "path": name, "targetRevision": revision},
        },
    }


def deployment(cluster: Cluster, name: str) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": APPS,
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": cluster.namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": f"registry.example.com/{name}:1"}]},
            },
        },
    }


def collection(cluster: Cluster, plural: str = "applications", api: str = ARGO) -> str:
    return f"/apis/{api}/namespaces/{cluster.namespace}/{plural}"


async def ask(
    cluster: Cluster,
    method: str,
    path: str,
    body: object = None,
    *,
    identity: Identity = Identity.SERVE,
    content_type: str = MERGE_PATCH,
    params: Mapping[str, str] | None = None,
) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {cluster.token(identity)}"}
    headers |= {} if body is None else {"Content-Type": content_type}
    content = None if body is None else orjson.dumps(body)
    async with cluster.client() as client:
        return await client.request(method, path, content=content, params=params, headers=headers)


async def patch(
    cluster: Cluster, name: str, body: object, plural: str = "applications", api: str = ARGO, **params: str
) -> httpx2.Response:
    path = f"{collection(cluster, plural, api)}/{name}"
    return await ask(cluster, "PATCH", path, body, identity=Identity.APPLIER, params=params)


async def get(cluster: Cluster, name: str) -> Json:
    answer = await ask(cluster, "GET", f"{collection(cluster)}/{name}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


@asynccontextmanager
async def watching(cluster: Cluster, **params: str) -> AsyncIterator[AsyncIterator[Json]]:
    headers = {"Authorization": f"Bearer {cluster.token(Identity.SERVE)}"}
    asked = {"watch": "true", "timeoutSeconds": "20", **params}
    with anyio.fail_after(25):
        async with (
            cluster.client() as client,
            client.stream("GET", collection(cluster), params=asked, headers=headers) as answer,
        ):
            assert answer.status_code == 200

            async def events() -> AsyncIterator[Json]:
                async for line in answer.aiter_lines():
                    yield orjson.loads(line)

            yield events()


def brief(status: Json) -> Json:
    """What a client may rely on in a Status: everything but its words."""
    return {key: status.get(key) for key in ("kind", "apiVersion", "status", "reason", "code")}


def failure(code: int, reason: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}


async def test_an_object_is_read_as_it_was_stored(cluster: Cluster) -> None:
    made = application(cluster, "shop", team="shop")
    cluster.put(made)

    found = await get(cluster, "shop")

    assert (found["apiVersion"], found["kind"], found["spec"]) == (ARGO, "Application", made["spec"])
    metadata = found["metadata"]
    assert metadata["labels"] == {"team": "shop"}
    assert metadata["uid"]
    assert metadata["resourceVersion"].isdecimal()
    assert metadata["creationTimestamp"].endswith("Z")


async def test_the_client_of_the_product_reads_both(cluster: Cluster, tmp_path: Path) -> None:
    cluster.put(application(cluster, "shop"))
    file = cluster.kubeconfig(Identity.SERVE, tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    clusters = Clusters({"here": await connect("here", file, "")})
    try:
        target = Target(app="", cluster="here", api=ARGO, kind="Application", namespace=cluster.namespace, name="shop")
        found = await clusters.read(target)
        assert found is not None
        assert found["spec"]["source"]["path"] == "shop"
        assert await clusters.read(target.model_copy(update={"name": "nothing"})) is None
    finally:
        await clusters.close()


async def test_a_list_comes_in_pages_of_one_version(cluster: Cluster) -> None:
    names = [f"app-{number}" for number in range(5)]
    for name in names:
        cluster.put(application(cluster, name))
    seen: list[str] = []
    versions: set[str] = set()
    token = ""
    while True:
        answer = await ask(cluster, "GET", collection(cluster), params={"limit": "2", "continue": token})
        page = answer.json()
        assert page["kind"] == "ApplicationList"
        seen += [item["metadata"]["name"] for item in page["items"]]
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert len(page["items"]) == 2
        assert page["metadata"]["remainingItemCount"] == 5 - len(seen)
    assert seen == names
    assert len(versions) == 1


async def test_only_custom_resources_say_their_kind_in_a_list(cluster: Cluster) -> None:
    cluster.put(application(cluster, "shop"))
    cluster.put(deployment(cluster, "shop"))
    apps = (await ask(cluster, "GET", collection(cluster))).json()["items"]
    deployments = (await ask(cluster, "GET", collection(cluster, "deployments", APPS))).json()["items"]
    assert [item.get("kind") for item in (*apps, *deployments)] == ["Application", None]


async def test_a_selector_narrows_a_list(cluster: Cluster) -> None:
    cluster.put(application(cluster, "one", team="shop"))
    cluster.put(application(cluster, "two", team="payments"))
    cluster.put(application(cluster, "three"))
    found = {}
    for selector in ("team=shop", "team!=shop", "team"):
        answer = await ask(cluster, "GET", collection(cluster), params={"labelSelector": selector})
        found[selector] = sorted(item["metadata"]["name"] for item in answer.json()["items"])
    assert found == {"team=shop": ["one"], "team!=shop": ["three", "two"], "team": ["one", "two"]}
    answer = await ask(cluster, "GET", collection(cluster), params={"fieldSelector": "metadata.name=two"})
    assert [item["metadata"]["name"] for item in answer.json()["items"]] == ["two"]


async def test_a_bad_continue_token_is_told(cluster: Cluster) -> None:
    answer = await ask(cluster, "GET", collection(cluster), params={"limit": "2", "continue": "nonsense"})
    assert answer.status_code == 400
    assert brief(answer.json()) == failure(400, "BadRequest")


async def test_a_watch_tells_what_happened_since_a_version(cluster: Cluster) -> None:
    cluster.put(application(cluster, "before"))
    version = (await ask(cluster, "GET", collection(cluster))).json()["metadata"]["resourceVersion"]
    cluster.put(application(cluster, "between"))
    async with watching(cluster, resourceVersion=version) as events:
        assert await _told(events) == ("ADDED", "between")
        cluster.put(application(cluster, "before", revision="next"))
        assert await _told(events) == ("MODIFIED", "before")
        cluster.delete(ARGO, "applications", "before")
        assert await _told(events) == ("DELETED", "before")


async def test_a_watch_without_a_version_begins_with_what_there_is(cluster: Cluster) -> None:
    cluster.put(application(cluster, "there"))
    async with watching(cluster) as events:
        assert await _told(events) == ("ADDED", "there")


async def test_a_watch_with_a_selector_tells_of_what_comes_to_match_and_ceases_to(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    version = (await get(cluster, "app"))["metadata"]["resourceVersion"]
    async with watching(cluster, resourceVersion=version, labelSelector="team=shop") as events:
        cluster.put(application(cluster, "app", team="shop"))
        assert await _told(events) == ("ADDED", "app")
        cluster.put(application(cluster, "app", team="payments"))
        assert await _told(events) == ("DELETED", "app")


async def test_a_watch_ends_in_its_time_after_a_bookmark_that_spares_the_next_one_the_past(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    listed = (await ask(cluster, "GET", collection(cluster))).json()["metadata"]["resourceVersion"]
    asked = {"resourceVersion": listed, "timeoutSeconds": "8", "allowWatchBookmarks": "true"}
    async with watching(cluster, labelSelector="team=shop", **asked) as events:
        cluster.put(application(cluster, "unwatched"))
        told = [event async for event in events]
    version = (await get(cluster, "unwatched"))["metadata"]["resourceVersion"]
    assert {event["type"] for event in told} == {"BOOKMARK"}
    assert told[-1]["object"]["kind"] == "Application"
    assert int(told[-1]["object"]["metadata"]["resourceVersion"]) >= int(version)


async def test_a_watch_from_a_forgotten_version_is_answered_with_410(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    cluster.put(application(cluster, "app", revision="next"))
    cluster.forget()
    async with watching(cluster, resourceVersion="1") as events:
        event = await anext(events)
    assert event["type"] == "ERROR"
    assert brief(event["object"]) == failure(410, "Expired")


async def test_a_merge_patch_sets_replaces_and_removes(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app", team="shop", tier="web"))
    body = {
        "metadata": {"labels": {"tier": None, "owner": "ada"}},
        "spec": {"source": {"targetRevision": "v2", "kustomize": {"images": ["a", "b"]}}},
    }
    answer = await patch(cluster, "app", body)
    assert answer.status_code == 200, answer.text
    found = await get(cluster, "app")
    assert answer.json() == found
    assert found["metadata"]["labels"] == {"team": "shop", "owner": "ada"}
    assert found["spec"]["source"]["kustomize"] == {"images": ["a", "b"]}
    assert (found["spec"]["source"]["targetRevision"], found["spec"]["source"]["path"]) == ("v2", "app")


async def test_each_change_gets_a_newer_version_and_no_change_gets_none(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app", team="shop"))
    first = (await get(cluster, "app"))["metadata"]
    same = (await patch(cluster, "app", {"spec": {"project": "default"}})).json()["metadata"]
    other = (await patch(cluster, "app", {"spec": {"project": "other"}})).json()["metadata"]
    assert same["resourceVersion"] == first["resourceVersion"]
    assert int(other["resourceVersion"]) > int(first["resourceVersion"])
    assert (other["uid"], other["generation"]) == (first["uid"], first["generation"] + 1)


async def test_a_patch_of_another_version_than_the_live_one_is_a_conflict(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    old = (await get(cluster, "app"))["metadata"]["resourceVersion"]
    locked = {"metadata": {"resourceVersion": old}, "spec": {"project": "other"}}
    assert (await patch(cluster, "app", locked, dryRun="All")).status_code == 200
    assert (await patch(cluster, "app", locked)).status_code == 200
    answer = await patch(cluster, "app", {**locked, "spec": {"project": "third"}})
    assert answer.status_code == 409
    assert brief(answer.json()) == failure(409, "Conflict")
    assert answer.json()["message"] == (
        'Operation cannot be fulfilled on applications.argoproj.io "app": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert (await get(cluster, "app"))["spec"]["project"] == "other"


async def test_a_patch_for_another_uid_is_invalid(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    answer = await patch(cluster, "app", {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}})
    assert brief(answer.json()) == failure(422, "Invalid")
    assert answer.json()["message"] == (
        'Application.argoproj.io "app" is invalid: metadata.uid: Invalid value: '
        '"00000000-0000-0000-0000-000000000000": field is immutable'
    )


async def test_a_dry_run_shows_the_result_and_changes_nothing(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    before = await get(cluster, "app")
    answer = await patch(cluster, "app", {"spec": {"project": "other"}}, dryRun="All")
    assert answer.status_code == 200
    assert answer.json()["spec"]["project"] == "other"
    assert await get(cluster, "app") == before


@pytest.mark.parametrize("params", [{}, {"dryRun": "All"}], ids=["real", "dry run"])
async def test_who_only_reads_is_forbidden_to_patch_even_to_rehearse(cluster: Cluster, params: dict[str, str]) -> None:
    cluster.put(application(cluster, "app"))
    path = f"{collection(cluster)}/app"
    answer = await ask(cluster, "PATCH", path, {"spec": {"project": "other"}}, params=params)
    assert answer.status_code == 403
    assert brief(answer.json()) == failure(403, "Forbidden")
    assert answer.json()["message"] == (
        'applications.argoproj.io "app" is forbidden: User "system:serviceaccount:arborgate:arborgate-serve" cannot '
        f'patch resource "applications" in API group "argoproj.io" in the namespace "{cluster.namespace}"'
    )


@pytest.mark.parametrize("identity", [Identity.SERVE, Identity.APPLIER])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/default/configmaps/any"),
        ("POST", f"/apis/{ARGO}/namespaces/default/applications"),
        ("PUT", f"/apis/{ARGO}/namespaces/default/applications/any"),
        ("DELETE", f"/apis/{ARGO}/namespaces/default/applications/any"),
        ("PATCH", f"/apis/{ARGO}/namespaces/default/appprojects/any"),
        ("PATCH", f"/apis/{ARGO}/namespaces/default/applications/any/status"),
        ("PATCH", "/api/v1/namespaces/default/pods/any"),
        ("GET", "/api/v1/namespaces/default/pods/any/log"),
    ],
)
async def test_what_no_role_grants_is_forbidden_to_both(
    cluster: Cluster, identity: Identity, method: str, path: str
) -> None:
    answer = await ask(cluster, method, path, {}, identity=identity)
    assert brief(answer.json()) == failure(403, "Forbidden")


async def test_an_unknown_token_is_unauthorized(cluster: Cluster) -> None:
    async with cluster.client() as client:
        answer = await client.get(collection(cluster), headers={"Authorization": "Bearer nobody"})
    assert answer.status_code == 401
    assert brief(answer.json()) == failure(401, "Unauthorized")


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_what_is_not_there_is_not_found(cluster: Cluster, method: str) -> None:
    path = f"{collection(cluster)}/nothing"
    answer = await ask(cluster, method, path, {} if method == "PATCH" else None, identity=Identity.APPLIER)
    assert answer.status_code == 404
    assert brief(answer.json()) == failure(404, "NotFound")
    assert answer.json()["message"] == 'applications.argoproj.io "nothing" not found'
    assert answer.json()["details"] == {"name": "nothing", "group": "argoproj.io", "kind": "applications"}


async def test_an_unknown_field_is_refused_warned_about_or_dropped(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    body = {"spec": {"nonsense": True}}
    strict = await patch(cluster, "app", body, fieldValidation="Strict")
    assert brief(strict.json()) == failure(422, "Invalid")
    assert 'strict decoding error: unknown field "spec.nonsense"' in strict.json()["message"]
    for warned in (await patch(cluster, "app", body, fieldValidation="Warn"), await patch(cluster, "app", body)):
        assert warned.status_code == 200
        assert warned.headers["warning"] == '299 - "unknown field \\"spec.nonsense\\""'
    ignored = await patch(cluster, "app", body, fieldValidation="Ignore")
    assert "warning" not in ignored.headers
    assert "nonsense" not in (await get(cluster, "app"))["spec"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"spec": {"destination": None}}, "spec.destination: Required value"),
        ({"spec": {"project": 7}}, 'spec.project: Invalid value: "integer"'),
        ({"spec": {"source": {"targetRevision": True}}}, 'spec.source.targetRevision: Invalid value: "boolean"'),
    ],
)
async def test_an_invalid_application_is_refused_naming_the_field(cluster: Cluster, body: Json, message: str) -> None:
    cluster.put(application(cluster, "app"))
    answer = await patch(cluster, "app", body)
    assert answer.status_code == 422
    assert brief(answer.json()) == failure(422, "Invalid")
    assert answer.json()["message"].startswith(f'Application.argoproj.io "app" is invalid: {message}')


async def test_an_invalid_deployment_is_refused_naming_the_field(cluster: Cluster) -> None:
    cluster.put(deployment(cluster, "app"))
    answer = await patch(cluster, "app", {"spec": {"replicas": -1}}, "deployments", APPS, dryRun="All")
    assert answer.status_code == 422
    assert answer.json()["message"] == (
        'Deployment.apps "app" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )


@pytest.mark.parametrize("body", [{"metadata": {"name": "other"}}, {"metadata": {"namespace": "other"}}])
async def test_a_patch_does_not_move_an_object(cluster: Cluster, body: Json) -> None:
    cluster.put(application(cluster, "app"))
    assert brief((await patch(cluster, "app", body)).json()) == failure(400, "BadRequest")


async def test_a_patch_that_is_not_json_is_refused(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    headers = {"Authorization": f"Bearer {cluster.token(Identity.APPLIER)}", "Content-Type": MERGE_PATCH}
    async with cluster.client() as client:
        answer = await client.patch(f"{collection(cluster)}/app", content=b"{", headers=headers)
    assert brief(answer.json()) == failure(400, "BadRequest")


async def test_a_patch_of_another_media_type_is_refused(cluster: Cluster) -> None:
    cluster.put(application(cluster, "app"))
    path = f"{collection(cluster)}/app"
    answer = await ask(cluster, "PATCH", path, {}, identity=Identity.APPLIER, content_type="application/json")
    assert brief(answer.json()) == failure(415, "UnsupportedMediaType")


@pytest.mark.parametrize("path", ["/readyz", "/healthz", "/version"])
async def test_the_server_says_that_it_is_there(cluster: Cluster, path: str) -> None:
    assert (await ask(cluster, "GET", path)).status_code == 200


async def _told(events: AsyncIterator[Json]) -> tuple[str, str]:
    event = await anext(events)
    return event["type"], event["object"]["metadata"]["name"]
