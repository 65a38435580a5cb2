"""The applier's commits: what they hold, where they go, and what becomes of them when others commit too."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from arborgate.policies.errors import Stale, Unavailable
from arborgate.tools.change import Attribution
from arborgate.tools.kubernetes.changes import MARK
from tests.parts.git import Request
from tests.tools.git.desk import ASKED, Desk, make_key
from tests.tools.git.repository import API, NAME

pytestmark = pytest.mark.anyio


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
