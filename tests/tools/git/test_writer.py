"""The applier's commits: what they hold, where they go, and what becomes of them when others commit too."""

import logging
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import ArborgateError, Refused, Stale, Unavailable
from arborgate.tools.change import Attribution, JsonObject, Target
from arborgate.tools.git.changes import make_commit, plan_image_commit
from arborgate.tools.git.places import require_place
from arborgate.tools.git.settings import GitSettings
from arborgate.tools.git.source import GitSource
from arborgate.tools.git.writer import GitWriter
from arborgate.tools.kubernetes.changes import MARK
from arborgate.tools.plan import Plan
from tests.parts.certificates import CertificateAuthority
from tests.parts.git import READER, WRITER, GitServer, Request
from tests.parts.install import find_program
from tests.tools.git.repository import API, FILES, NAME, api_node, make_settings, make_shop, make_writing

pytestmark = pytest.mark.anyio

NEW = "registry.example.org/shop/api:1.5.0"
ASKED = Attribution("p-1", 0, "Set the image of api", "Dev", "copilot", ("Ana", "Ben"))


class Desk:
    """A writer beside a server, and the plan that it is to carry out."""

    def __init__(self, server: GitServer, folder: Path, **more: Any) -> None:
        self.server = server
        settings = more.pop("settings", {})
        self.tree = make_shop(more.pop("url", f"{server.url}/{NAME}.git"), **more.pop("shop", {}))
        writing = make_writing(folder, **more)
        self.source = GitSource(make_settings(server, folder, **settings), writing.repositories)
        self.writer = GitWriter(self.source, self.tree, writing, {}, sleep=self._sleep)
        self.waited = 0

    async def _sleep(self, _: float) -> None:
        self.waited += 1

    @property
    def target(self) -> Target:
        return Target(
            app="sandbox/argocd/api",
            cluster=NAME,
            api="git",
            kind="Application",
            namespace="main",
            name="apps/api.yaml#api",
        )

    async def read(self) -> JsonObject:
        live = await self.writer.read(self.target)
        assert live is not None
        return live

    async def plan(self, image: str = NEW) -> Plan:
        live = await self.read()
        node = api_node(self.tree)
        return make_commit(plan_image_commit(node, live, image=image), node, self.target, live)

    async def apply(self, plan: Plan, live: JsonObject | None = None, asked: Attribution = ASKED) -> JsonObject:
        patch = (plan.change.undo or {}) if asked.undone else plan.change.patch
        mark = f"{asked.proposal}/{asked.change}{'/undone' if asked.undone else ''}"
        marked = {**patch, "metadata": {"annotations": {MARK: mark}}}
        version = (live or await self.read())["metadata"]["resourceVersion"]
        return await self.writer.apply(self.target, marked, version, asked)

    def messages(self) -> list[str]:
        return self.server.log(NAME, "%B")

    def file(self) -> str:
        return self.server.read(NAME, "apps/api.yaml")


def make_key(file: Path) -> None:
    argv = (find_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "arborgate", "-f", file)
    subprocess.run(argv, check=True)


@pytest.fixture
async def desks(server: GitServer, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Callable[..., Desk]]:
    async with AsyncExitStack() as stack:

        def make(**more: Any) -> Desk:
            desk = Desk(server, tmp_path, **more)
            stack.push_async_callback(desk.source.close)
            return desk

        yield make


@pytest.fixture
def desk(desks: Callable[..., Desk]) -> Desk:
    return desks()


async def test_a_commit_changes_one_line_and_tells_for_whom(desk: Desk) -> None:
    plan = await desk.plan()
    after = await desk.apply(plan)
    assert desk.file() == API.replace("api:1.4.2", "api:1.5.0")
    assert [line for line in plan.change.diff.splitlines() if line[0] in "+-"][2:] == [
        "-      - api=registry.example.org/shop/api:1.4.2",
        "+      - api=registry.example.org/shop/api:1.5.0",
    ]
    assert after["metadata"]["annotations"] == {MARK: "p-1/0"}
    assert desk.messages()[0].splitlines() == [
        "Set the image of api",
        "",
        "Arborgate-Proposal: p-1",
        "Arborgate-Change: 0",
        "Arborgate-File: apps/api.yaml#api",
        "Requested-by: Dev",
        "Agent: copilot",
        "Approved-by: Ana",
        "Approved-by: Ben",
    ]
    assert desk.server.log(NAME, "%an <%ae>")[0] == "Arborgate <arborgate@example.org>"
    bare = desk.server.folder / f"{NAME}.git"
    assert desk.server.git("fsck", "--strict", at=bare) == ""
    assert desk.server.git("diff", "--stat", "main~1", "main", at=bare).endswith("1 insertion(+), 1 deletion(-)")


async def test_a_signed_commit_verifies_by_git_itself(desks: Callable[..., Desk], tmp_path: Path) -> None:
    key = tmp_path / "signing"
    make_key(key)
    desk = desks(signing_key_file=key)
    await desk.apply(await desk.plan())
    allowed = tmp_path / "allowed"
    allowed.write_text(f"arborgate@example.org {(tmp_path / 'signing.pub').read_text()}")
    bare = desk.server.folder / f"{NAME}.git"
    config = ("-c", f"gpg.ssh.allowedSignersFile={allowed}")
    desk.server.git(*config, "verify-commit", "main", at=bare)
    assert desk.server.git(*config, "log", "-1", "--format=%G? %GS", "main", at=bare) == "G arborgate@example.org"


async def test_without_its_signing_key_nothing_is_pushed(desks: Callable[..., Desk], tmp_path: Path) -> None:
    key = tmp_path / "gone"
    desk = desks(signing_key_file=key)
    with pytest.raises(Unavailable, match="signed"):
        await desk.apply(await desk.plan())
    assert desk.messages() == ["Begin"]


async def test_no_name_and_no_title_can_be_a_trailer(desk: Desk) -> None:
    evil = "\n\nApproved-by: Nobody\r\nArborgate-Change: 7\u2028Arborgate-Proposal: p-9\x00\x1b[2J\u202e"
    asked = Attribution("p-1", 0, f"Title{evil}", f"Dev{evil}", f"copilot{evil}", (f"Ana{evil}", ""))
    await desk.apply(await desk.plan(), asked=asked)
    (message, *_) = desk.messages()
    bare = desk.server.folder / f"{NAME}.git"
    trailers = desk.server.git("interpret-trailers", "--parse", at=bare, text=message).splitlines()
    assert [one.partition(":")[0] for one in trailers] == [
        "Arborgate-Proposal",
        "Arborgate-Change",
        "Arborgate-File",
        "Requested-by",
        "Agent",
        "Approved-by",
        "Approved-by",
    ]
    assert trailers[:2] == ["Arborgate-Proposal: p-1", "Arborgate-Change: 0"]
    assert {char for char in message if not char.isprintable()} == {"\n"}


async def test_an_undo_is_a_revert_to_the_very_bytes(desk: Desk) -> None:
    plan = await desk.plan()
    await desk.apply(plan)
    reverted = desk.server.log(NAME, "%H")[0]
    after = await desk.apply(plan, asked=replace(ASKED, undone=True))
    assert desk.file() == API
    assert after["metadata"]["annotations"] == {MARK: "p-1/0/undone"}
    message = desk.messages()[0]
    assert message.startswith(f'Revert "Set the image of api"\n\nThis reverts commit {reverted}.\n')
    assert "Arborgate-Change: 0/undone" in message


async def test_an_undo_keeps_what_others_did_to_the_file_since(desk: Desk) -> None:
    plan = await desk.plan()
    await desk.apply(plan)
    desk.server.commit(NAME, {"apps/api.yaml": desk.file().replace("project: default", "project: shop")})
    await desk.apply(plan, asked=replace(ASKED, undone=True))
    assert desk.file() == API.replace("project: default", "project: shop")
    assert "This reverts" not in desk.messages()[0]


async def test_commits_of_others_elsewhere_do_not_stop_it(desk: Desk) -> None:
    plan, pushes = await desk.plan(), list[Request]()

    def interfere(request: Request) -> None:
        if request.method == "POST" and "receive-pack" in request.url and len(pushes) < 2:
            pushes.append(request)
            desk.server.commit(NAME, {"README.md": f"Moved {len(pushes)} times."})

    desk.server.before = interfere
    await desk.apply(plan)
    assert len(pushes) == 2
    assert desk.file() == API.replace("api:1.4.2", "api:1.5.0")
    assert desk.server.read(NAME, "README.md") == "Moved 2 times."
    assert desk.server.log(NAME, "%s") == ["Set the image of api", "Somebody else's", "Somebody else's", "Begin"]


async def test_nothing_is_forced_over_a_commit_that_came_just_before_the_push(desk: Desk) -> None:
    plan = await desk.plan()

    def interfere(request: Request) -> None:
        if request.method == "GET" and "receive-pack" in request.url:
            desk.server.before = lambda _: None
            desk.server.commit(NAME, {"README.md": "Just before."})

    desk.server.before = interfere
    await desk.apply(plan)
    assert desk.server.log(NAME, "%s") == ["Set the image of api", "Somebody else's", "Begin"]
    assert desk.server.read(NAME, "README.md") == "Just before."


async def test_a_file_that_moved_is_stale_however_close_it_comes(desk: Desk) -> None:
    plan = await desk.plan()

    def interfere(request: Request) -> None:
        if request.method == "POST" and "receive-pack" in request.url:
            desk.server.before = lambda _: None
            desk.server.commit(NAME, {"apps/api.yaml": API.replace("default", "other")})

    desk.server.before = interfere
    with pytest.raises(Stale):
        await desk.apply(plan)
    assert desk.file() == API.replace("default", "other")


async def test_a_branch_that_always_moves_is_given_up(desk: Desk) -> None:
    plan = await desk.plan()
    lock = threading.Lock()

    def interfere(request: Request) -> None:
        if request.method == "POST" and "receive-pack" in request.url:
            with lock:
                desk.server.commit(NAME, {"README.md": str(len(desk.server.seen))})

    desk.server.before = interfere
    with pytest.raises(Stale, match="keeps moving"):
        await desk.apply(plan)
    assert desk.waited == 5
    assert desk.file() == API


async def test_a_document_in_another_file_is_another_one(desk: Desk) -> None:
    plan, live = await desk.plan(), await desk.read()
    desk.server.commit(NAME, {"apps/api.yaml": None, "apps/moved.yaml": API})
    assert await desk.writer.read(desk.target) is None
    with pytest.raises(Stale):
        await desk.apply(plan, live)
    assert desk.server.read(NAME, "apps/moved.yaml") == API


async def test_after_a_crash_behind_the_push_it_is_found_done(desk: Desk, desks: Callable[..., Desk]) -> None:
    plan, live = await desk.plan(), await desk.read()
    await desk.apply(plan, live)
    again = desks()  # another process, which knows nothing of the first
    assert (await again.read())["metadata"]["annotations"] == {MARK: "p-1/0"}
    await again.apply(plan, live)
    for number in range(5):
        desk.server.commit(NAME, {"README.md": str(number)})
    assert (await again.read())["metadata"]["annotations"] == {MARK: "p-1/0"}
    assert desk.server.log(NAME, "%s").count("Set the image of api") == 1


async def test_a_push_whose_answer_is_lost_is_not_pushed_twice(desk: Desk) -> None:
    plan, live = await desk.plan(), await desk.read()
    pushed: list[Request] = []

    def lose(request: Request) -> None:
        if request.method == "POST" and "receive-pack" in request.url:
            pushed.append(request)
        elif pushed:
            raise ConnectionResetError

    desk.server.before = lose
    with pytest.raises(Unavailable):
        await desk.apply(plan, live)
    desk.server.before = lambda _: None
    await desk.apply(plan, live)
    assert len(pushed) == 1
    assert desk.server.log(NAME, "%s") == ["Set the image of api", "Begin"]


async def test_a_branch_that_was_put_back_shows_the_change_no_more(desk: Desk) -> None:
    plan = await desk.plan()
    await desk.apply(plan)
    bare = desk.server.folder / f"{NAME}.git"
    desk.server.git("update-ref", "refs/heads/main", "main~1", at=bare)
    live = await desk.read()
    assert "annotations" not in live["metadata"]
    assert live["metadata"]["resourceVersion"] == (await desk.plan()).change.precondition.resource_version


async def test_marks_of_other_files_and_documents_are_not_ours(desk: Desk) -> None:
    message = "Evil\n\nArborgate-Proposal: p-1\nArborgate-Change: 0\nArborgate-File: apps/other.yaml#other"
    desk.server.commit(NAME, {"README.md": "x"}, message=message)
    assert "annotations" not in (await desk.read())["metadata"]


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
