"""Each real part is what the other tests take it for."""

from pathlib import Path
from typing import Any, cast

import httpx2
import kubernetes.aio as kubernetes_aio
import pytest
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet
from kubernetes.aio.config import load_kube_config
from playwright.async_api import Browser, Page, expect
from playwright.async_api import Error as BrowserError
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster as ClusterClient
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError
from redis.exceptions import TimeoutError as TookTooLong
from redis.retry import Retry

from tests.parts.chromium import open_page
from tests.parts.kube import APPLY, Identity, KubeApi
from tests.parts.oidc import AGENT, OidcProvider, describe_agent, describe_pages
from tests.parts.process import PartFailed, wait_until
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer, run_command

pytestmark = pytest.mark.anyio

OWNER = {"fieldManager": "tests"}
ONCE = Retry(NoBackoff(), 0)

WRITES_THE_READER_TRIES = (
    "SET k v",
    "SETRANGE k 0 v",
    "APPEND k v",
    "INCR k",
    "GETDEL k",
    "GETEX k PERSIST",
    "DEL k",
    "UNLINK k",
    "EXPIRE k 10",
    "PERSIST k",
    "RENAME k l",
    "COPY k l",
    "MOVE k 1",
    "RESTORE k 0 v",
    "SORT k STORE l",
    "HSET k f v",
    "LPUSH k v",
    "LPOP k",
    "LMOVE k l LEFT LEFT",
    "SADD k v",
    "SPOP k",
    "SUNIONSTORE k l",
    "ZADD k 1 v",
    "ZRANGESTORE k l 0 1",
    "ZPOPMIN k",
    "XADD k * f v",
    "XTRIM k MAXLEN 0",
    "XGROUP CREATE k g 0 MKSTREAM",
    "XREADGROUP GROUP g c STREAMS k >",
    "XACK k g 0-0",
    "XAUTOCLAIM k g c 0 0-0",
    "PFADD k v",
    "GEOADD k 0 0 v",
    "SETBIT k 0 1",
    "BITFIELD k SET u8 0 1",
    "PUBLISH c v",
    "EVAL return 0",
    "EVAL_RO return 0",
    "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff831 0",
    "SCRIPT FLUSH",
    "SCRIPT LOAD return",
    "FUNCTION FLUSH",
    "FCALL f 0",
    "MULTI",
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "KEYS *",
    "MONITOR",
    "CONFIG SET maxmemory 1",
    "CONFIG GET requirepass",
    "CONFIG RESETSTAT",
    "ACL SETUSER reader +@all",
    "ACL LIST",
    "CLIENT KILL ID 1",
    "CLIENT PAUSE 1",
    "CLIENT LIST",
    "CLUSTER RESET",
    "SLOWLOG RESET",
    "LATENCY RESET",
    "MEMORY PURGE",
    "MODULE LIST",
    "REPLICAOF NO ONE",
    "FAILOVER",
    "BGREWRITEAOF",
    "SAVE",
    "SHUTDOWN NOSAVE",
)


@pytest.mark.parametrize("command", WRITES_THE_READER_TRIES)
def test_the_redis_reader_may_run_no_command_that_changes_anything(redis_server: RedisServer, command: str) -> None:
    words = command.split()
    if words[0].startswith("EVAL") and not words[0].endswith("SHA"):
        words = [words[0], " ".join(words[1:]), "0"]
    with redis_server.connect("reader") as reader, pytest.raises(NoPermissionError):
        run_command(reader, *words)


def test_the_redis_reader_reads_keys_of_everybody(redis_server: RedisServer, redis_url: str) -> None:
    redis_server.admin.hset("shop:cart:1", mapping={"items": "3"})
    with redis_server.connect("reader") as reader:
        assert reader.hlen("shop:cart:1") == 1
        assert list(reader.scan_iter(match="shop:*")) == [b"shop:cart:1"]
        assert reader.type("shop:cart:1") == b"hash"


def test_the_redis_user_of_arborgate_stays_in_its_own_keyspace(redis_url: str) -> None:
    with Redis.from_url(redis_url) as own:
        own.set("arborgate:lease", "1", nx=True, px=1000)
        own.xadd("arborgate:events", {"event": "proposal:approved"})
        assert own.eval("return redis.call('GET', KEYS[1])", 1, "arborgate:lease") == b"1"
        for command in (
            "SET shop:cart:1 x",
            "GET shop:cart:1",
            "SCAN 0",
            "KEYS *",
            "FLUSHALL",
            "CONFIG GET *",
        ):
            with pytest.raises(NoPermissionError):
                run_command(own, *command.split())


def test_redis_lets_in_nobody_without_a_name(redis_server: RedisServer) -> None:
    with Redis(port=redis_server.port, retry=ONCE) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()


def test_every_test_finds_redis_empty(redis_server: RedisServer, redis_url: str) -> None:
    assert redis_server.admin.dbsize() == 0


def test_redis_keeps_what_was_written_through_a_crash(redis_server: RedisServer, redis_url: str) -> None:
    redis_server.admin.set("arborgate:kept", "yes")
    redis_server.kill()
    redis_server.start()
    assert redis_server.admin.get("arborgate:kept") == b"yes"


def test_redis_keeps_what_a_script_wrote_through_a_restart(redis_server: RedisServer, redis_url: str) -> None:
    with Redis.from_url(redis_url) as own:
        own.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 2)", 2, "arborgate:one", "arborgate:two")
    redis_server.restart()
    assert redis_server.admin.mget("arborgate:one", "arborgate:two") == [b"1", b"2"]


def test_redis_can_be_made_to_refuse_writes_and_to_stop_answering(redis_server: RedisServer, redis_url: str) -> None:
    with redis_server.connect("arborgate") as own:
        redis_server.refuse_writes()
        with pytest.raises(ReadOnlyError):
            own.set("arborgate:k", "v")
        redis_server.recover()
        assert own.set("arborgate:k", "v")
        redis_server.pause()
        with Redis.from_url(redis_url, socket_timeout=0.1, retry=ONCE) as hasty, pytest.raises(TookTooLong):
            hasty.ping()
        redis_server.resume()
        assert own.get("arborgate:k") == b"v"


def test_the_sentinels_promote_the_replica_when_the_primary_dies(redis_sentinel: RedisSentinel) -> None:
    primary = redis_sentinel.find_primary()
    primary.admin.set("arborgate:k", "v")
    primary.admin.wait(1, 5000)
    promoted = redis_sentinel.fail_over()
    try:
        assert promoted is not primary
        assert promoted.admin.get("arborgate:k") == b"v"
    finally:
        redis_sentinel.recover()
    assert redis_sentinel.find_primary() is promoted


def test_the_cluster_spreads_keys_over_three_nodes(redis_cluster: RedisCluster) -> None:
    redis_cluster.flush()
    with ClusterClient.from_url(redis_cluster.url()) as client:
        for number in range(30):
            client.set(f"arborgate:{number}", number)
    assert all(node.admin.dbsize() for node in redis_cluster.nodes)


def test_a_part_that_ends_early_says_what_it_printed(redis_server: RedisServer, tmp_path: Path) -> None:
    broken = RedisServer(tmp_path, config=("no-such-setting yes",))
    with pytest.raises(PartFailed, match="no-such-setting"):
        broken.start()


def test_waiting_ends_with_the_name_of_what_was_awaited() -> None:
    with pytest.raises(PartFailed, match=r"not within 0 s: the moon"):
        wait_until(lambda: False, "the moon", seconds=0)


def make_application(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": namespace, "finalizers": ["tests.arborgate.dev/kept"]},
        "spec": {"project": "default", "destination": {"namespace": "shop"}},
    }


def test_the_api_server_knows_each_identity_and_no_stranger(kube_api: KubeApi) -> None:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    names = {
        identity: kube_api.request("POST", path, asked, identity=identity).json()["status"]["userInfo"]["username"]
        for identity in Identity
    }
    assert names == {
        Identity.ADMIN: "admin",
        Identity.APPLIER: "system:serviceaccount:arborgate:arborgate-applier",
        Identity.SERVE: "system:serviceaccount:arborgate:arborgate-serve",
    }
    bad = {"Authorization": "Bearer nobody"}
    assert kube_api.request("POST", path, asked, headers=bad).status_code == 401


def test_argo_cd_own_schema_refuses_an_application_without_a_project(kube_api: KubeApi, kube_namespace: str) -> None:
    broken = make_application("shop", kube_namespace)
    del broken["spec"]["project"]
    answer = kube_api.request("PATCH", kube_api.find_path(broken), broken, content_type=APPLY, params=OWNER)
    assert answer.status_code == 422
    assert "spec.project: Required value" in answer.text


def test_a_namespace_goes_with_all_that_was_put_into_it(kube_api: KubeApi) -> None:
    with kube_api.fresh_namespace() as namespace:
        path = kube_api.find_path(kube_api.apply(make_application("shop", namespace)))
        assert kube_api.request("GET", path).status_code == 200
    assert kube_api.request("GET", path).status_code == 404
    assert kube_api.request("GET", f"/api/v1/namespaces/{namespace}").status_code == 404


async def test_the_client_library_reads_as_serve_through_the_kubeconfig(kube_api: KubeApi, kube_namespace: str) -> None:
    kube_api.apply(make_application("shop", kube_namespace))
    settings = kubernetes_aio.client.Configuration()
    kubeconfig = str(kube_api.kubeconfig(Identity.SERVE))
    await load_kube_config(kubeconfig, client_configuration=settings)  # type: ignore[no-untyped-call]
    async with kubernetes_aio.client.ApiClient(settings) as client:
        apps = kubernetes_aio.client.CustomObjectsApi(client)
        found = await apps.list_cluster_custom_object("argoproj.io", "v1alpha1", "applications")
    items = cast("dict[str, Any]", found)["items"]
    assert [item["metadata"]["name"] for item in items] == ["shop"]


def test_the_api_server_can_forget_pause_and_come_back(kube_api: KubeApi, kube_namespace: str) -> None:
    kept = kube_api.apply(make_application("kept", kube_namespace))
    kube_api.apply(make_application("later", kube_namespace))
    path = kube_api.find_path(kept)

    kube_api.pause()
    with pytest.raises(httpx2.TimeoutException):
        kube_api.request("GET", path, timeout=0.2)
    kube_api.resume()
    assert kube_api.request("GET", path).status_code == 200

    kube_api.forget_history()
    kube_api.stop()
    with pytest.raises(httpx2.TransportError):
        kube_api.request("GET", path)
    kube_api.start()
    assert kube_api.request("GET", path).json()["metadata"]["uid"] == kept["metadata"]["uid"]
    since = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": kept["metadata"]["resourceVersion"]}
    assert '"code":410' in kube_api.request("GET", path.rpartition("/")[0], params=since).text


def read_token(provider: OidcProvider, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, once the signature has been verified with the provider's published keys."""
    keys = KeySet.import_key_set(httpx2.get(provider.jwks_url).json())
    verified = jwt.decode(token, keys, algorithms=["RS256", "ES256"])
    return verified.header, verified.claims


def test_an_access_token_names_the_person_their_groups_the_agent_and_the_resource(
    oidc_provider: OidcProvider,
) -> None:
    resource = "http://127.0.0.1:8080/mcp"
    header, claims = read_token(oidc_provider, oidc_provider.log_in("dev", resource=resource)["access_token"])
    assert (header["typ"], header["alg"]) == ("at+jwt", "RS256")
    expected = {
        "iss": oidc_provider.issuer,
        "sub": "dev",
        "name": "Dev Developer",
        "groups": ["arborgate-developers"],
        "client_id": AGENT,
        "aud": resource,
    }
    assert {claim: claims[claim] for claim in expected} == expected


def test_an_app_gets_a_token_for_itself_without_groups(oidc_provider: OidcProvider) -> None:
    _, claims = read_token(oidc_provider, oidc_provider.log_in_service()["access_token"])
    assert (claims["sub"], claims["client_id"], claims["aud"]) == ("parent-app", "parent-app", oidc_provider.audience)
    assert "groups" not in claims


def test_nobody_logs_in_under_a_name_that_is_not_there(oidc_provider: OidcProvider) -> None:
    with pytest.raises(PartFailed, match="mallory could not log in: 400"):
        oidc_provider.log_in("mallory")


def test_old_tokens_verify_after_a_rotation_until_the_old_keys_are_dropped(oidc_provider: OidcProvider) -> None:
    old = oidc_provider.log_in("dev")["access_token"]
    oidc_provider.rotate_keys()
    new = oidc_provider.log_in("dev")["access_token"]
    assert read_token(oidc_provider, old)[0]["kid"] != read_token(oidc_provider, new)[0]["kid"]
    oidc_provider.rotate_keys(keep_old=False)
    with pytest.raises(InvalidKeyIdError):
        read_token(oidc_provider, old)


def test_access_tokens_can_be_signed_with_elliptic_curves_by_a_provider_of_ones_own(tmp_path: Path) -> None:
    with OidcProvider(tmp_path, algorithm="ES256", clients=[describe_agent("ide")]) as provider:
        header, claims = read_token(provider, provider.log_in("vera", client_id="ide")["access_token"])
    assert (header["alg"], claims["client_id"]) == ("ES256", "ide")


def test_the_provider_can_be_gone(oidc_provider: OidcProvider) -> None:
    oidc_provider.stop()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(oidc_provider.jwks_url)


async def test_a_person_logs_in_with_the_browser(oidc_provider: OidcProvider, page: Page) -> None:
    pages = describe_pages("pages", "not-a-secret", "http://127.0.0.1:1/callback")
    oidc_provider.add_client(pages)
    await page.route("http://127.0.0.1:1/**", lambda route: route.fulfill(body="back"))
    query = (
        "client_id=pages&response_type=code&scope=openid+profile&state=s&redirect_uri=http://127.0.0.1:1/callback"
        "&code_challenge_method=S256&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )
    await page.goto(f"{oidc_provider.issuer}/auth?{query}")
    await page.get_by_label("User name").fill("nobody-here")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("Nobody has that name.")).to_be_visible()
    await page.get_by_label("User name").fill("april")
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url("http://127.0.0.1:1/callback?code=*")


async def test_a_device_is_let_in_with_the_browser(oidc_provider: OidcProvider, page: Page) -> None:
    started = httpx2.post(
        f"{oidc_provider.issuer}/device/auth", data={"client_id": AGENT, "scope": "openid profile"}
    ).json()
    await page.goto(started["verification_uri_complete"])
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("User name").fill("april")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("Sign-in Success")).to_be_visible()
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": AGENT,
        "device_code": started["device_code"],
    }
    tokens = httpx2.post(f"{oidc_provider.issuer}/token", data=exchange).json()
    _, claims = read_token(oidc_provider, tokens["access_token"])
    assert claims["sub"] == "april"


async def test_each_page_starts_without_the_cookies_of_another(page: Page, browser: Browser) -> None:
    await page.context.add_cookies([{"name": "session", "value": "1", "url": "http://127.0.0.1:1"}])
    async with open_page(browser) as other:
        assert await other.context.cookies() == []
    assert len(await page.context.cookies()) == 1


async def test_the_browser_reaches_nothing_beyond_loopback(page: Page) -> None:
    with pytest.raises(BrowserError, match="ERR_NAME_NOT_RESOLVED"):
        await page.goto("http://arborgate.example/")
