"""A child whose parent self-heals, changed by a commit: on a real API server, Redis, Git server and the two processes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arborgate.server.chain import verify
from tests.following import following
from tests.installation import Installation
from tests.parts.git import GitServer
from tests.parts.kube import KubeApi
from tests.parts.oidc import OidcProvider
from tests.parts.redis import RedisServer
from tests.test_installation import approve_by_terminal, data_of, text_of, until, wait_for_state
from tests.tools.git.repository import API, FILES, NAME, make_settings, make_writing

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

NEW = "registry.example.org/shop/api:1.5.0"
CHANGE = {"app": "api", "kind": "set_image", "image": NEW}
PATH = "apps/api.yaml"


@pytest.fixture
def server(tmp_path: Path, kube_namespace: str) -> Iterator[GitServer]:
    folder = tmp_path / "repositories"
    folder.mkdir()
    with GitServer(folder) as running:
        text = API.replace("namespace: argocd", f"namespace: {kube_namespace}")
        running.add(NAME, {**FILES, PATH: text.replace("namespace: shop", "namespace: prod-shop")})
        yield running


@pytest.fixture
def installation(
    tmp_path: Path,
    server: GitServer,
    kube_api: KubeApi,
    kube_namespace: str,
    redis_server: RedisServer,
    redis_url: str,
    oidc_provider: OidcProvider,
) -> Iterator[Installation]:
    git = make_settings(server, tmp_path).model_dump(mode="json")
    applier = {"health_timeout": 8, "lease": 5, "git": make_writing(tmp_path).model_dump(mode="json")}
    folder = tmp_path / "installation"
    changes = {"git": git, "applier": applier, "promotion": {"path": ["dev", "production"]}}
    with Installation(folder, kube_api, redis_server, oidc_provider, kube_namespace, **changes) as one:
        parent = {"repoURL": f"{server.url}/{NAME}.git", "path": "apps", "targetRevision": "main"}
        healing = {"automated": {"selfHeal": True}}
        one.add_app("shop", spec={"source": parent, "syncPolicy": healing}, status={"sourceType": "Directory"})
        tracked = {"argocd.argoproj.io/tracking-id": f"shop:argoproj.io/Application:{kube_namespace}/api"}
        one.add_app("api", metadata={"annotations": tracked}, status={"summary": {"images": [NEW]}})
        one.start_serve()
        one.start_applier()
        yield one


async def propose(installation: Installation) -> dict[str, object]:
    asked = {"reason": "The release of this morning fixes the checkout.", "changes": [CHANGE]}
    async with installation.copilot("dev") as client:
        drafted = data_of(await client.call_tool("rollout_propose", asked))
    told = await wait_for_state(installation, drafted["proposal"], "proposed", "refused")
    return {**drafted, **told}


async def test_an_approved_change_of_a_kept_child_is_a_commit_that_argo_cd_takes_up(
    installation: Installation, server: GitServer, kube_namespace: str
) -> None:
    before = server.read(NAME, PATH)
    async with following(installation, server, NAME, {"api": PATH}):
        await until(lambda: installation.get_app("api")["status"]["sync"]["revision"] == server.log(NAME, "%H")[0])
        proposal = await propose(installation)
        assert proposal["state"] == "proposed", proposal
        assert "as a commit to shop main apps/api.yaml" in str(proposal["title"])
        assert (await approve_by_terminal(installation, proposal)).status_code == 200
        ended = await wait_for_state(
            installation, str(proposal["proposal"]), "applied", "failed", "rolled_back", "stale"
        )
    assert ended["state"] == "applied", ended
    assert server.read(NAME, PATH) == before.replace("api:1.4.2", "api:1.5.0")
    (message, _) = server.log(NAME, "%B")
    assert f"Arborgate-Proposal: {proposal['proposal']}\nArborgate-Change: 0\n" in message
    assert "Requested-by: " in message
    assert "Approved-by: " in message
    assert f"api={NEW}" in installation.get_app("api")["spec"]["source"]["kustomize"]["images"]
    for log in installation.record.glob("*.jsonl"):
        assert verify(log).whole


async def test_what_ran_below_is_promoted_by_a_commit_and_the_app_says_so_afterwards(
    installation: Installation, server: GitServer
) -> None:
    source = {**yaml.safe_load(API)["spec"]["source"], "kustomize": {"images": [f"api={NEW}"]}}
    destination = {"server": "https://kubernetes.default.svc", "namespace": "dev-shop"}
    installation.add_app(
        "api-dev", spec={"source": source, "destination": destination}, status={"sourceType": "Kustomize"}
    )
    async with following(installation, server, NAME, {"api": PATH}):
        await until(lambda: installation.get_app("api")["status"]["sync"]["revision"] == server.log(NAME, "%H")[0])
        asked = {"reason": "It has run well in dev for a day.", "apps": ["api-dev"]}
        async with installation.copilot("dev") as client:
            drafted = data_of(await client.call_tool("promotion_propose", asked))
        told = await wait_for_state(installation, drafted["proposal"], "proposed", "refused")
        assert told["state"] == "proposed", told
        assert (await approve_by_terminal(installation, {**drafted, **told})).status_code == 200
        ended = await wait_for_state(installation, drafted["proposal"], "applied", "failed", "rolled_back", "stale")
        assert ended["state"] == "applied", ended
    written = yaml.safe_load(server.read(NAME, PATH))
    assert written["metadata"]["labels"] == {"env": "staging", **installation.get_app("api")["metadata"]["labels"]}
    assert written["metadata"]["labels"]["arborgate.dev/promotion"] == drafted["proposal"]
    assert f"api={NEW}" in written["spec"]["source"]["kustomize"]["images"]
    async with installation.copilot("dev") as client:
        app = data_of(await client.call_tool("app_get", {"app": "api"}))
    assert app["promoted"].startswith(f"from dev: {'a' * 40}, by proposal {drafted['proposal']}")
    assert "approved by" in app["promoted"]


async def test_a_commit_that_breaks_its_app_is_reverted(installation: Installation, server: GitServer) -> None:
    before = server.read(NAME, PATH)
    async with following(installation, server, NAME, {"api": PATH}, broken=(f"api={NEW}",)):
        await until(lambda: installation.get_app("api")["status"]["sync"]["revision"] == server.log(NAME, "%H")[0])
        proposal = await propose(installation)
        assert (await approve_by_terminal(installation, proposal)).status_code == 200
        ended = await wait_for_state(installation, str(proposal["proposal"]), "applied", "rolled_back", "stale")
        assert ended["state"] == "rolled_back", ended
        await until(lambda: installation.get_app("api")["status"]["health"]["status"] == "Healthy")
    assert server.read(NAME, PATH) == before
    subjects = server.log(NAME, "%s")
    assert subjects[0].startswith('Revert "Set Kustomize image')
    assert len(subjects) == 3


async def test_a_file_that_somebody_changes_meanwhile_makes_it_stale(
    installation: Installation, server: GitServer
) -> None:
    async with following(installation, server, NAME, {"api": PATH}):
        proposal = await propose(installation)
        server.commit(NAME, {PATH: server.read(NAME, PATH).replace("api:1.4.2", "api:1.4.3")})
        await approve_by_terminal(installation, proposal)
        ended = await wait_for_state(installation, str(proposal["proposal"]), "applied", "rolled_back", "stale")
    assert ended["state"] == "stale"
    assert server.log(NAME, "%s") == ["Somebody else's", "Begin"]


async def test_without_a_configured_repository_the_agent_hears_the_way_out(
    installation: Installation, server: GitServer
) -> None:
    installation.patch_app("shop", {"spec": {"source": {"repoURL": "https://git.example.com/other.git"}}})
    async with installation.copilot("dev") as client, asyncio.timeout(30):
        while True:
            asked = {"reason": "The release of this morning fixes it.", "changes": [CHANGE]}
            result = await client.call_tool("rollout_propose", asked)
            if result.is_error:
                break
            await asyncio.sleep(0.1)
    assert "git.repositories" in text_of(result)
