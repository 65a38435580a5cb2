"""`rollout_propose` through a real gate where only a commit would hold, or where settings ask for one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from arborgate.policies.errors import Refused
from arborgate.server.git_checks import GitChecks
from arborgate.tools.change import Change, ChangeKind
from arborgate.tools.git.places import Books
from arborgate.tools.git.retelling import list_retellings
from arborgate.tools.git.settings import GitRepository, GitSettings
from arborgate.tools.git.source import GitSource
from arborgate.tools.retelling import retell
from arborgate.tools.risk import Factor, find_factors
from arborgate.tools.tree import AppTree
from tests.parts.git import GitServer
from tests.tools.git.repository import API, NAME, api_node, make_family, make_settings, make_shop
from tests.tools.rollouts.applications import ENVIRONMENTS, make_tree
from tests.tools.rollouts.proposing import Bench, running

pytestmark = pytest.mark.anyio

IMAGE = "registry.example.org/shop/api:1.5.0"
PROXY = "registry.example.org/shop/proxy:2.1.0"
SET_IMAGE = {"app": "kept", "kind": "set_image", "image": IMAGE}
SET_REVISION = {"app": "kept", "kind": "set_revision", "revision": "v2"}
KEPT = API.replace("name: api", "name: kept")


class Shop:
    """A bench with a self-healing parent `shop` and its child `kept`, whose manifest is in the repository."""

    def __init__(self, bench: Bench, source: GitSource, tree: AppTree) -> None:
        self.bench, self.source, self.tree = bench, source, tree
        self.books = source.books

    async def plan(self, *asked: dict[str, Any]) -> tuple[Change, ...]:
        return (await self.bench.propose(*asked))[1].content.changes

    async def require_told_again(self, *changes: Change) -> None:
        """The applier's own planner says the same in every word."""
        earlier: list[Change] = []
        for change in changes:
            node = next(one for one in self.tree.nodes() if str(one.app.id) == change.target.app)
            file = await self.source.find(self.tree, node, change.target.kind)
            assert file is not None
            GitChecks(self.books.settings, self.tree).check(node, change)
            retell(list_retellings(self.books), node, change, file.as_object(), earlier, proposed_at=0)
            earlier.append(change)


Open = Callable[..., AbstractAsyncContextManager[Shop]]


@pytest.fixture
def shops(server: GitServer, redis: Redis, tmp_path: Path) -> Open:
    server.commit(NAME, {"apps/kept.yaml": KEPT, "apps/api.yaml": None})

    @asynccontextmanager
    async def open_shop(*, kept: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[Shop]:
        parent, child = make_family(
            "kept",
            {"repoURL": f"{server.url}/{NAME}.git", "path": "apps", "targetRevision": "HEAD"},
            policy=more.pop("policy", None),
            source_type=more.pop("source_type", "Directory"),
            **(kept or {}),
        )
        source, tree = GitSource(make_settings(server, tmp_path, **more)), make_tree(parent, child)
        async with running(redis, tmp_path, parent, child, rehearsal_wait=0.0, sources={GitSource: source}) as bench:
            yield Shop(bench, source, tree)
        await source.close()

    return open_shop


async def test_a_kept_child_gets_a_commit_and_the_summary_says_so(shops: Open) -> None:
    async with shops() as shop:
        (change,) = await shop.plan(SET_IMAGE)
        assert change.summary == (f"Set Kustomize image of kept to {IMAGE}, as a commit to shop main apps/kept.yaml")
        assert str(change.target) == "Application main/apps/kept.yaml#kept in shop"
        assert change.check.sync == "Synced"
        assert change.undo is not None
        await shop.require_told_again(change)


async def test_changes_of_one_file_follow_each_other(shops: Open) -> None:
    async with shops() as shop:
        changes = await shop.plan(SET_REVISION, SET_IMAGE, {**SET_IMAGE, "image": PROXY})
        assert [change.kind for change in changes] == [ChangeKind.SET_REVISION, ChangeKind.SET_IMAGE]
        first, second = changes
        assert "+    targetRevision: v2    # follows the branch" in first.diff.splitlines()
        assert "targetRevision: main" not in second.diff
        assert [line for line in second.diff.splitlines() if line.startswith("+ ")] == [
            f"+      - api={IMAGE}",
            f'+      - "{PROXY}"',
        ]
        await shop.require_told_again(*changes)


async def test_values_are_changed_where_the_settings_name_them(shops: Open) -> None:
    async with shops(values="kept") as shop:
        (change,) = await shop.plan(SET_IMAGE)
        assert change.patch == {"values": {"image": {"tag": "1.5.0"}}}
        assert [line for line in change.diff.splitlines() if line[:2] in ("+ ", "- ")] == [
            '-  tag: "1.4.2"',
            '+  tag: "1.5.0"',
        ]
        assert "(withheld)" in change.diff
        assert change.target.kind == "File"
        await shop.require_told_again(change)


async def test_scaling_to_nothing_by_values_is_a_risk_like_any_other(shops: Open) -> None:
    async with shops(values="kept") as shop:
        (change,) = await shop.plan({"app": "kept", "kind": "scale", "workload": "Deployment/kept", "replicas": 0})
        assert "+replicaCount: 0   # two are enough" in change.diff
        found = {each.factor for each in find_factors([change], shop.tree, ENVIRONMENTS)}
        assert Factor.REPLICAS_TO_ZERO in found
        await shop.require_told_again(change)


async def test_what_nobody_keeps_is_changed_live_unless_settings_say_otherwise(shops: Open) -> None:
    async with shops(policy={"automated": {}}) as shop:
        (change,) = await shop.plan(SET_IMAGE)
        assert change.target.api == "argoproj.io/v1alpha1"
    for always in ("kept", "staging"):
        async with shops(policy={"automated": {}}, always=(always,)) as shop:
            (change,) = await shop.plan(SET_IMAGE)
            assert change.target.api == "git"


@pytest.mark.parametrize("rendered", ["Helm", "Kustomize", "Plugin"])
async def test_a_rendered_parent_is_refused_with_the_way_out(shops: Open, rendered: str) -> None:
    async with shops(source_type=rendered) as shop:
        error = await shop.bench.fail(SET_IMAGE)
    assert isinstance(error, Refused)
    assert "rendered" in error.message
    assert "git.values" in str(error.hint)


async def test_an_app_of_a_set_is_refused_with_the_way_out(shops: Open) -> None:
    async with shops(kept={"owner_set": "all-shops"}) as shop:
        error = await shop.bench.fail(SET_IMAGE)
    assert "ApplicationSet" in error.message
    assert "git.values" in str(error.hint)


async def test_an_app_that_is_written_twice_is_refused_with_both_names(shops: Open, server: GitServer) -> None:
    server.commit(NAME, {"apps/again.yml": f"# once more\n{KEPT}"})
    async with shops() as shop:
        error = await shop.bench.fail(SET_IMAGE)
    assert "apps/again.yml, apps/kept.yaml" in error.message


async def test_an_app_that_no_file_holds_is_refused(shops: Open, server: GitServer) -> None:
    server.commit(NAME, {"apps/kept.yaml": KEPT.replace("namespace: argocd", "namespace: other")})
    async with shops() as shop:
        error = await shop.bench.fail(SET_IMAGE)
    assert error.message == "No file in the repository holds kept."
    assert error.field == "changes.0.app"


async def test_a_folder_that_is_rendered_is_refused_whatever_the_status_says(shops: Open, server: GitServer) -> None:
    server.commit(NAME, {"apps/kustomization.yaml": "resources: [kept.yaml]\n"})
    async with shops() as shop:
        assert "rendered by Helm or Kustomize" in (await shop.bench.fail(SET_IMAGE)).message


async def test_what_is_odd_in_other_files_is_no_matter(shops: Open, server: GitServer) -> None:
    odd = {
        "apps/windows.yaml": KEPT.replace("name: kept", "name: other").replace("\n", "\r\n"),
        "apps/huge.yaml": "kind: ConfigMap\nmetadata: {name: kept}\ndata: " + "x" * 200_000,
        "apps/template.yaml": "{{ if .Values.kept }}\nname: kept\n{{ end }}",
        "apps/several.yaml": "a: &a 1\nb: *a\n---\n" + KEPT.replace("name: kept", "name: kept-too"),
    }
    server.commit(NAME, odd)
    async with shops() as shop:
        (change,) = await shop.plan(SET_IMAGE)
    assert change.target.name == "apps/kept.yaml#kept"


@pytest.mark.parametrize("quoted", ["'kept'", '"kept"', "kept  # ours"])
async def test_a_name_is_found_however_it_is_written(shops: Open, server: GitServer, quoted: str) -> None:
    server.commit(NAME, {"apps/kept.yaml": KEPT.replace("name: kept", f"name: {quoted}")})
    async with shops() as shop:
        assert await shop.plan(SET_IMAGE)


async def test_a_document_that_would_not_be_kept_is_refused(shops: Open, server: GitServer) -> None:
    server.commit(NAME, {"apps/kept.yaml": KEPT.replace("project: default", "project: &p default\n  x: *p")})
    async with shops() as shop:
        assert "alias" in (await shop.bench.fail(SET_IMAGE)).message


TELLS = {
    "diff": {"diff": "nothing"},
    "summary": {"summary": "Harmless, as a commit to shop main apps/kept.yaml"},
    "patch": {"patch": {"spec": {"source": {"kustomize": {"images": ["evil:1"]}}}}},
    "undo": {"undo": None},
}


@pytest.mark.parametrize("update", TELLS.values(), ids=TELLS.keys())
async def test_the_applier_finds_what_was_told_otherwise(shops: Open, update: dict[str, Any]) -> None:
    async with shops() as shop:
        (change,) = await shop.plan(SET_IMAGE)
        with pytest.raises(Refused, match="differs"):
            await shop.require_told_again(change.model_copy(update=update))


VALUES = {
    "another field": {"values": {"password": "x"}},
    "more than one field": {"values": {"image": {"tag": "1.5.0", "repository": "evil"}}},
    "the whole": {"values": {"image": "evil"}},
    "no text": {"values": {"image": {"tag": {"a": 1}}}},
    "the spec": {"spec": {"source": {"targetRevision": "evil"}}},
    "both": {"values": {"image": {"tag": "1.5.0"}}, "spec": {}},
}


async def test_only_the_named_value_is_ever_written(shops: Open) -> None:
    async with shops(values="kept") as shop:
        (change,) = await shop.plan(SET_IMAGE)
        node = next(one for one in shop.tree.nodes() if str(one.app.id) == change.target.app)
        checks = GitChecks(shop.books.settings, shop.tree)
        assert checks.check(node, change)
        for what, patch in VALUES.items():
            with pytest.raises(Refused, match="writes what no set image"):
                assert not checks.check(node, change.model_copy(update={"patch": patch})), what


def test_repositories_are_found_by_what_argo_cd_calls_them() -> None:
    one = GitRepository(name="one", url="https://git.example/shop/apps.git", also=("git@git.example:shop/apps.git",))
    many = GitRepository(name="many", url="https://git.example/team/", also=("git@git.example:team/",))
    books = Books(GitSettings(repositories=(one, many)))
    known = {
        "https://git.example/shop/apps": "one",
        "https://GIT.example/shop/apps.git/": "one",
        "git@git.example:shop/apps.git": "one",
        "https://git.example/team/a/b.git": "many/a/b",
        "git@git.example:team/c.git": "many/c",
    }
    assert {url: books.name(url) for url in known} == known
    for url in (
        "https://git.example/shop/apps2",
        "https://git.example/team/../shop/x",
        "https://git.example/team/",
        "https://evil.example/shop/apps",
        "https://git.example.evil/team/a",
        "",
    ):
        assert books.name(url) is None, url
    assert books.find("many/a/b")[1] == "https://git.example/team/a/b.git"
    for name in ("many", "many/../x", "one/x", "two", ""):
        with pytest.raises(Refused):
            books.find(name)


async def test_only_who_has_a_branch_can_be_committed_to(server: GitServer, source: GitSource) -> None:
    for revision, fits in (("main", True), ("HEAD", True), ("", True), ("v1", False), ("refs/heads/main", False)):
        tree = make_shop(f"{server.url}/{NAME}.git", revision=revision)
        if fits:
            file = await source.find(tree, api_node(tree), "Application")
            assert file is not None
            assert file.place.namespace == "main"
        else:
            with pytest.raises(Refused, match="branch"):
                await source.find(tree, api_node(tree), "Application")


async def test_what_does_not_move_is_fetched_once(server: GitServer, source: GitSource) -> None:
    tree = make_shop(f"{server.url}/{NAME}.git")
    for _ in range(3):
        await source.find(tree, api_node(tree), "Application")
    first = [one.url for one in server.seen]
    server.seen.clear()
    await source.find(tree, api_node(tree), "Application")
    assert [one.method for one in server.seen] == ["GET", "POST"]
    assert len(first) > 2
