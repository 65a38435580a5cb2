"""Pull requests by a stand-in for the two forges: it speaks the shapes that their documentation gives, over real HTTP.

No forge can be had as a part; the repository behind is a real one, and merging is Git's own.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx2
import pytest

from arborgate.policies.errors import Refused, Unavailable
from arborgate.tools.git.requests import Requests
from arborgate.tools.git.settings import Forge
from arborgate.tools.git.writer import GitWriter
from arborgate.tools.kubernetes.changes import MARK
from tests.parts.git import WRITER, GitServer
from tests.parts.loopback import Loopback
from tests.tools.git.desk import ASKED, Desk
from tests.tools.git.repository import API, NAME, make_writing

pytestmark = pytest.mark.anyio

CREATED = "2026-11-21T10:00:00Z"
BEGAN = 1_795_255_200.0


class StandInForge(Loopback):
    """A project `shop` whose pull requests are kept in memory. `act` is what people do each time one is looked at."""

    def __init__(self, server: GitServer, forge: Forge) -> None:
        self.server = server
        self.github = forge is Forge.GITHUB
        self.requests: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.act: Callable[[dict[str, Any]], None] = lambda _: None
        self.status = 0

    def merge(self, request: dict[str, Any], *, squash: str = "") -> None:
        """As the forge would: a merge commit, or one of its own with another message."""
        if request["state"] != "open":
            return
        bare, git = self.server.folder / f"{NAME}.git", self.server.git
        tree = git("rev-parse", f"{request['branch']}^{{tree}}", at=bare)
        parents = ("-p", "main") if squash else ("-p", "main", "-p", request["branch"])
        commit = git("commit-tree", tree, *parents, "-m", squash or f"Merge {request['branch']}", at=bare)
        git("update-ref", "refs/heads/main", commit, at=bare)
        request |= {"state": "merged", "commit": commit}

    def close(self, request: dict[str, Any]) -> None:
        request["state"] = "closed"

    def _show(self, request: dict[str, Any]) -> dict[str, Any]:
        merged = request["state"] == "merged"
        if self.github:
            return {
                "number": request["number"],
                "state": "open" if request["state"] == "open" else "closed",
                "merged": merged,
                "merged_at": CREATED if merged else None,
                "merge_commit_sha": request.get("commit", "0" * 40),
                "head": {"ref": request["branch"]},
                "created_at": CREATED,
            }
        return {
            "iid": request["number"],
            "state": {"open": "opened"}.get(request["state"], request["state"]),
            "merge_commit_sha": request.get("commit"),
            "squash_commit_sha": None,
            "sha": "0" * 40,
            "source_branch": request["branch"],
            "created_at": CREATED,
        }

    def _answer(self, method: str, path: str, said: dict[str, Any]) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        collection = "/repos/shop/pulls" if self.github else "/projects/shop/merge_requests"
        if self.status:
            return self.status, {"message": "no"}
        if not unquote(path).startswith(collection):
            return 404, {"message": "Not Found"}
        number = path.removeprefix(collection).strip("/")
        if number:
            request = self.requests[int(number) - 1]
            if method in ("PATCH", "PUT") and request["state"] == "open":
                self.close(request)
            elif method == "GET":
                self.act(request)
            return 200, self._show(request)
        if method == "POST":
            branch = said["head" if self.github else "source_branch"]
            self.requests.append({"number": len(self.requests) + 1, "state": "open", "branch": branch, "said": said})
            return 201, self._show(self.requests[-1])
        wanted = {key: values[0] for key, values in parse_qs(query).items()}
        branch = wanted.get("head", "").rpartition(":")[2] or wanted.get("source_branch", "")
        return 200, [self._show(one) for one in self.requests if branch in ("", one["branch"])]

    def make_handler(self) -> type[BaseHTTPRequestHandler]:
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                forge.asked.append((self.command, self.path, dict(self.headers.items())))
                status, answer = forge._answer(self.command, self.path, json.loads(body) if body else {})
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_PUT = _take  # noqa: N815  # the base class calls them so

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
                pass

        return Handler


@pytest.fixture(params=list(Forge))
def forge(request: pytest.FixtureRequest, server: GitServer) -> Iterator[StandInForge]:
    with StandInForge(server, request.param) as running:
        yield running


class Office(Desk):
    """A desk whose commits go by pull requests; time passes only while it waits."""

    def __init__(self, forge: StandInForge, folder: Path, client: httpx2.AsyncClient) -> None:
        kind = Forge.GITHUB if forge.github else Forge.GITLAB
        how = {"mode": "pull_request", "forge": kind, "api_url": forge.url, "merge_within": 60}
        super().__init__(forge.server, folder, **how)
        self.now = BEGAN
        (delivery,) = make_writing(folder, **how).repositories
        requests = Requests(delivery, client, sleep=self._pass, clock=lambda: self.now)
        writing = make_writing(folder, **how)
        self.writer = GitWriter(self.source, self.tree, writing, {NAME: requests}, sleep=self._pass)

    async def _pass(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
async def offices(forge: StandInForge, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Callable[[], Office]]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx2.AsyncClient())

        def make() -> Office:
            office = Office(forge, tmp_path, client)
            stack.push_async_callback(office.source.close)
            return office

        yield make


async def test_a_change_waits_in_a_pull_request_until_people_merge_it(
    offices: Callable[[], Office], forge: StandInForge
) -> None:
    office, looks = offices(), list[int]()
    plan, live = await office.plan(), await office.read()

    def merge_at_the_third_look(request: dict[str, Any]) -> None:
        looks.append(1)
        assert office.file() == API
        if len(looks) == 3:
            forge.merge(request)

    forge.act = merge_at_the_third_look
    after = await office.apply(plan, live)
    assert after["metadata"]["annotations"] == {MARK: "p-1/0"}
    assert office.file() == API.replace("api:1.4.2", "api:1.5.0")
    (request,) = forge.requests
    assert request["branch"] == "arborgate/p-1-0"
    assert "Requested-by: Dev" in str(request["said"])
    assert BEGAN + 15 <= office.now < BEGAN + 16
    assert {headers["Authorization"] for _, _, headers in forge.asked} == {f"Bearer {WRITER[1]}"}
    assert not [path for _, path, _ in forge.asked if WRITER[1] in path]


async def test_a_squash_with_words_of_its_own_is_found_done_by_another_process(
    offices: Callable[[], Office], forge: StandInForge
) -> None:
    office = offices()
    plan, live = await office.plan(), await office.read()
    forge.act = lambda request: forge.merge(request, squash="What people call it")
    await office.apply(plan, live)
    again = offices()
    assert (await again.read())["metadata"]["annotations"] == {MARK: "p-1/0"}
    await again.apply(plan, live)
    assert len(forge.requests) == 1


async def test_one_that_is_closed_fails_and_leaves_the_branch_alone(
    offices: Callable[[], Office], forge: StandInForge
) -> None:
    office = offices()
    forge.act = forge.close
    with pytest.raises(Refused, match="closed without being merged"):
        await office.apply(await office.plan())
    assert office.file() == API


async def test_one_that_nobody_merges_in_time_is_closed(offices: Callable[[], Office], forge: StandInForge) -> None:
    office = offices()
    with pytest.raises(Refused, match="not merged in time"):
        await office.apply(await office.plan())
    assert forge.requests[0]["state"] == "closed"
    assert BEGAN + 60 <= office.now < BEGAN + 61


async def test_one_that_was_merged_with_something_else_in_it_fails(
    offices: Callable[[], Office], forge: StandInForge, server: GitServer
) -> None:
    office = offices()

    def smuggle(request: dict[str, Any]) -> None:
        other = API.replace("api:1.4.2", "api:6.6.6")
        server.commit(NAME, {"apps/api.yaml": other}, branch=request["branch"])
        forge.merge(request)

    forge.act = smuggle
    with pytest.raises(Refused, match="is something else"):
        await office.apply(await office.plan())


async def test_one_that_people_want_no_more_is_closed(offices: Callable[[], Office], forge: StandInForge) -> None:
    office = offices()

    async def abort() -> None:
        if office.now > BEGAN + 10:
            raise Refused("Ana aborted it.")

    with pytest.raises(Refused, match="Ana aborted it"):
        await office.apply(await office.plan(), heed=abort)
    assert forge.requests[0]["state"] == "closed"
    assert office.now < BEGAN + 20
    assert office.file() == API


async def test_one_that_is_merged_before_it_can_be_closed_counts(
    offices: Callable[[], Office], forge: StandInForge
) -> None:
    office = offices()

    async def abort_too_late() -> None:
        forge.merge(forge.requests[0])
        raise Refused("Ana aborted it.")

    after = await office.apply(await office.plan(), heed=abort_too_late)
    assert after["metadata"]["annotations"] == {MARK: "p-1/0"}
    assert forge.requests[0]["state"] == "merged"


async def test_one_that_is_merged_at_the_last_moment_counts(offices: Callable[[], Office], forge: StandInForge) -> None:
    office = offices()

    def merge_late(request: dict[str, Any]) -> None:
        if office.now >= BEGAN + 60:
            forge.merge(request)

    forge.act = merge_late
    await office.apply(await office.plan())
    assert office.file() != API


async def test_what_an_earlier_try_left_is_taken_up(offices: Callable[[], Office], forge: StandInForge) -> None:
    office = offices()
    plan, live = await office.plan(), await office.read()
    forge.status = 503
    with pytest.raises(Unavailable):
        await office.apply(plan, live)
    forge.status = 0
    forge.act = lambda _: (_ for _ in ()).throw(ConnectionResetError())
    with pytest.raises(Unavailable):
        await office.apply(plan, live)
    forge.act = forge.merge
    await offices().apply(plan, live)
    assert [one["state"] for one in forge.requests] == ["merged"]


@pytest.mark.parametrize("before", [{"apps/other.yaml": "kind: Evil\n"}, {"apps/api.yaml": API + "# more\n"}])
async def test_no_pull_request_is_opened_of_a_branch_that_somebody_else_has_made(
    offices: Callable[[], Office], forge: StandInForge, before: dict[str, str | None]
) -> None:
    office = offices()
    plan, bare = await office.plan(), forge.server.folder / f"{NAME}.git"
    forge.server.git("branch", "arborgate/p-1-0", "main", at=bare)
    forge.server.commit(NAME, before, branch="arborgate/p-1-0")
    good = {"apps/api.yaml": API.replace("api:1.4.2", "api:1.5.0")}
    forge.server.commit(NAME, good, branch="arborgate/p-1-0")
    with pytest.raises(Refused, match="holds something else"):
        await office.apply(plan)
    assert forge.requests == []


async def test_a_forge_that_says_no_is_told_without_its_words(
    offices: Callable[[], Office], forge: StandInForge
) -> None:
    office = offices()
    plan, live = await office.plan(), await office.read()
    forge.status = 422
    with pytest.raises(Refused, match=r"does not take the pull request \(HTTP 422\)"):
        await office.writer.apply(
            office.target,
            {**plan.change.patch, "metadata": {"annotations": {MARK: "p-1/0"}}},
            live["metadata"]["resourceVersion"],
            ASKED,
        )
