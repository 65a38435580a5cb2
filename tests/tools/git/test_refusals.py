"""What the applier's writer never commits, never takes for a repository, and never gives away."""

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import ArborgateError, Refused, Stale, Unavailable
from arborgate.tools.change import JsonObject
from arborgate.tools.git.places import require_place
from arborgate.tools.git.settings import GitSettings
from arborgate.tools.git.source import GitSource
from arborgate.tools.kubernetes.changes import MARK
from tests.parts.certificates import CertificateAuthority
from tests.parts.git import READER, WRITER, GitServer
from tests.tools.git.desk import ASKED, Desk, make_key
from tests.tools.git.repository import API, FILES, NAME, api_node, make_settings, make_shop

pytestmark = pytest.mark.anyio


async def test_a_rehearsal_sends_nothing_and_says_who_may_not_push(desk: Desk, tmp_path: Path) -> None:
    plan = await desk.plan()
    assert (await desk.writer.rehearse(desk.target, plan.change.patch)).ok
    assert not [one for one in desk.server.seen if one.method == "POST" and "receive-pack" in one.url]
    (tmp_path / "writer.password").write_text("wrong")
    with pytest.raises(Unavailable):
        await desk.writer.rehearse(desk.target, plan.change.patch)


async def test_who_may_only_read_can_not_push(desks: Callable[..., Desk], tmp_path: Path) -> None:
    desk = desks()
    plan, live = await desk.plan(), await desk.read()
    poor = desks(mode="push")
    object.__setattr__(poor.source.remote(NAME)._access, "username", READER[0])
    (tmp_path / "writer.password").write_text(READER[1])
    said = await poor.writer.rehearse(desk.target, plan.change.patch)
    assert said.refusal == "The repository shop does not let the applier push."
    with pytest.raises(Refused):
        await poor.apply(plan, live)
    assert desk.messages() == ["Begin"]


async def test_a_hook_that_says_no_is_told_in_its_words(desk: Desk) -> None:
    bare = desk.server.folder / f"{NAME}.git"
    hook = bare / "hooks" / "update"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused, match="does not take the commit: hook declined"):
        await desk.apply(await desk.plan())


ELSEWHERE = {
    "a workflow": {"name": ".github/workflows/ci.yaml#api"},
    "the folder above": {"name": "apps/../README.md#api"},
    "another folder": {"name": "values/api.yaml#api"},
    "a folder below": {"name": "apps/deep/api.yaml#api"},
    "no YAML": {"name": "apps/notes.txt#api"},
    "another app's document": {"name": "apps/api.yaml#other"},
    "another branch": {"namespace": "release"},
    "no branch": {"namespace": "../main"},
    "another repository": {"cluster": "other"},
    "a repository below": {"cluster": "shop/other"},
    "another kind": {"kind": "ConfigMap"},
    "a file of values": {"kind": "File", "name": "apps/api.yaml"},
    "an app that is not there": {"app": "sandbox/argocd/nobody"},
}


@pytest.mark.parametrize("where", ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_nothing_is_written_but_where_the_app_is(desk: Desk, where: dict[str, str]) -> None:
    plan, live = await desk.plan(), await desk.read()
    target = desk.target.model_copy(update=where)
    marked = {**plan.change.patch, "metadata": {"annotations": {MARK: "p-1/0"}}}
    with pytest.raises((Refused, Stale)):
        await desk.writer.apply(target, marked, live["metadata"]["resourceVersion"], ASKED)
    assert desk.messages() == ["Begin"]
    if "app" not in where:  # nor does it get as far: who verifies refuses it, without asking the server
        with pytest.raises(Refused):
            require_place(desk.source.books, desk.tree, api_node(desk.tree), target)


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"annotations": {MARK: "p-1/0", "other": "x"}}},
        {"metadata": {"annotations": {MARK: "p-2/0"}}},
        {"metadata": {"name": "other"}},
        {"kind": "ConfigMap"},
        {"text": "a: 1"},
    ],
)
async def test_a_patch_of_anything_but_the_document_is_refused(desk: Desk, patch: JsonObject) -> None:
    live = await desk.read()
    with pytest.raises(Refused):
        await desk.writer.apply(desk.target, patch, live["metadata"]["resourceVersion"], ASKED)
    assert desk.messages() == ["Begin"]


async def test_a_link_is_no_file(desk: Desk) -> None:
    """However much the name of what it leads to looks like one."""
    bare = desk.server.folder / f"{NAME}.git"
    blob = desk.server.git("hash-object", "-w", "--stdin", at=bare, text=API)
    index = {"GIT_INDEX_FILE": str(bare / "index.link")}
    desk.server.git("read-tree", "main", at=bare, env=index)
    desk.server.git("update-index", "--add", "--cacheinfo", f"120000,{blob},apps/api.yaml", at=bare, env=index)
    tree = desk.server.git("write-tree", at=bare, env=index)
    commit = desk.server.git("commit-tree", tree, "-p", "main", "-m", "Link", at=bare)
    desk.server.git("update-ref", "refs/heads/main", commit, at=bare)
    assert await desk.writer.read(desk.target) is None
    clone = await desk.source.clone(NAME, "main")
    assert clone.find("apps/api.yaml") is None
    assert clone.find("README.md/below") is None


async def test_settings_bound_what_is_ever_written(desks: Callable[..., Desk]) -> None:
    for bounds in ({"branches": ("release-*",)}, {"paths": ("values/*",)}):
        desk = desks(**bounds)
        with pytest.raises(Refused, match="never written"):
            await desk.writer.read(desk.target)


async def test_no_password_is_in_an_address_a_log_an_error_or_an_argument(
    desks: Callable[..., Desk],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    make_key(tmp_path / "signing")
    start = subprocess.run

    def overhear(*given: Any, **more: Any) -> Any:
        told.append(repr((given, more)))
        return start(*given, **more)

    monkeypatch.setattr(subprocess, "run", overhear)
    desk = desks(signing_key_file=tmp_path / "signing")
    with caplog.at_level(logging.DEBUG):
        await desk.apply(await desk.plan())
        for wrong in ("wrong-password-of-a-test", None):
            file = tmp_path / "writer.password"
            file.unlink() if wrong is None else file.write_text(wrong)
            with pytest.raises(ArborgateError) as failed:
                await desk.read()
            error = failed.value
            told += [error.message, error.detail, str(error.hint), repr(error.__cause__), repr(error)]
    told += [record.getMessage() for record in caplog.records]
    told += [request.url for request in desk.server.seen]
    secrets = (WRITER[1], READER[1], "wrong-password-of-a-test")
    assert not [one for one in told if any(secret in one for secret in secrets)]
    assert any("ssh-keygen" in one for one in told)


async def test_a_repository_that_is_away_or_too_large_is_said_so(desks: Callable[..., Desk], server: GitServer) -> None:
    small = desks(settings={"most_bytes": 65_536})
    noise = "".join(f"{number * 7919 % 1_000_003:x}" for number in range(60_000))
    bare = server.folder / f"{NAME}.git"
    server.git("config", "uploadpack.allowFilter", "false", at=bare)
    server.commit(NAME, {"noise.txt": noise})
    with pytest.raises(Refused, match="most_bytes"):
        await small.read()
    desk = desks()
    server.before = lambda _: (_ for _ in ()).throw(ConnectionResetError())
    with pytest.raises(Unavailable, match="does not answer"):
        await desk.read()


async def test_a_file_that_grows_when_unpacked_is_refused(desks: Callable[..., Desk], server: GitServer) -> None:
    server.commit(NAME, {"apps/bomb.yaml": "api: " + "0" * 40_000_000})
    desk = desks(settings={"most_bytes": 65_536})
    with pytest.raises(Refused, match="grows"):
        await desk.read()


async def test_a_certificate_counts_only_by_an_authority_that_is_trusted(tmp_path: Path, anyio_backend: str) -> None:
    authority = CertificateAuthority(tmp_path)
    (tmp_path / "repositories").mkdir()
    with GitServer(tmp_path / "repositories", tls=authority.issue("git")) as server:
        url = server.add(NAME, FILES)
        tree = make_shop(url)
        for ca_file, believed in ((authority.file, True), (None, False)):
            (entry,) = make_settings(server, tmp_path).repositories
            entry = entry.model_copy(update={"ca_file": ca_file})
            source = GitSource(GitSettings(repositories=(entry,)))
            if believed:
                assert await source.find(tree, api_node(tree), "Application") is not None
            else:
                with pytest.raises(Unavailable):
                    await source.find(tree, api_node(tree), "Application")
            await source.close()


async def test_a_password_does_not_follow_to_another_server(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with GitServer(tmp_path / "elsewhere") as thief:
        thief.add(NAME, FILES)
        desk.server.moved_to = thief.url
        with pytest.raises(Unavailable):
            await desk.read()
        assert thief.seen
        assert not [one for one in thief.seen if "authorization" in {name.lower() for name in one.headers}]
