"""Pull requests (GitLab: merge requests) by the two forges' REST APIs: found, opened, followed until merged, or closed.

GitHub's "REST API endpoints for pull requests" (version 2022-11-28) and GitLab's "Merge requests API" (v4).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from ...policies.errors import Refused, Unavailable
from ..change import Heed, heed_nobody
from ..kubernetes.fields import read_number, read_object, read_text
from .settings import Forge, GitDelivery

BRANCHES = "arborgate/"
"""What the branches of our pull requests begin with."""

_PAGE = 100
_GITHUB = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


class RequestState(StrEnum):
    """Where a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Request:
    """One pull request; `commit` is what it became on its branch once merged, `created_at` in seconds since the epoch."""

    number: int
    branch: str
    state: RequestState
    commit: str
    created_at: float


class Requests:
    """The pull requests of one configured delivery. `sleep` and `clock` are asyncio's and time's own."""

    def __init__(
        self,
        delivery: GitDelivery,
        client: httpx2.AsyncClient,
        *,
        pause: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._delivery = delivery
        self._client = client
        self._pause = pause
        self._sleep = sleep
        self._clock = clock
        self._github = delivery.forge is Forge.GITHUB

    async def find(self, url: str, branch: str, base: str) -> Request | None:
        """The newest pull request of a branch of the repository with this URL."""
        owner = _project(url).partition("/")[0]
        query = (
            {"head": f"{owner}:{branch}", "base": base, "state": "all"}
            if self._github
            else {"source_branch": branch, "target_branch": base, "state": "all"}
        )
        found = [one for one in await self._list(url, query) if one.branch == branch]
        return max(found, key=lambda one: one.number, default=None)

    async def list_merged(self, url: str, base: str) -> Sequence[Request]:
        """The last of our pull requests that were merged into a branch."""
        query = (
            {"base": base, "state": "closed", "sort": "updated", "direction": "desc"}
            if self._github
            else {"target_branch": base, "state": "merged", "order_by": "updated_at", "sort": "desc"}
        )
        listed = await self._list(url, {**query, "per_page": str(_PAGE)})
        return [one for one in listed if one.branch.startswith(BRANCHES) and one.state is RequestState.MERGED]

    async def open(self, url: str, branch: str, base: str, title: str, body: str) -> Request:
        """Opens one; raises `Refused` when the forge will not."""
        said = (
            {"title": title, "head": branch, "base": base, "body": body}
            if self._github
            else {"title": title, "source_branch": branch, "target_branch": base, "description": body}
        )
        return self._read(await self._ask("POST", self._collection(url), json=said))

    async def wait_merged(self, url: str, request: Request, heed: Heed = heed_nobody) -> None:
        """Until it is merged. Raises `Refused` when it is closed, not merged in time, or when `heed` does: then it is closed
        first, so that nobody merges it afterwards."""
        ends = request.created_at + self._delivery.merge_within
        while request.state is RequestState.OPEN:
            if self._clock() >= ends:
                request = await self._close(url, request)
                break
            try:
                await heed()
            except Refused:
                request = await self._close(url, request)
                if request.state is not RequestState.MERGED:
                    raise
                break
            await self._sleep(self._pause)
            request = self._read(await self._ask("GET", f"{self._collection(url)}/{request.number}"))
        if request.state is not RequestState.MERGED:
            late = self._clock() >= ends
            raise Refused(
                f"The pull request {request.number} was {'not merged in time' if late else 'closed without being merged'}."
            )

    async def _close(self, url: str, request: Request) -> Request:
        method, said = ("PATCH", {"state": "closed"}) if self._github else ("PUT", {"state_event": "close"})
        path = f"{self._collection(url)}/{request.number}"
        with suppress(Refused):  # one that was merged a moment ago can't be closed
            await self._ask(method, path, json=said)
        request = self._read(await self._ask("GET", path))
        if request.state is RequestState.OPEN:
            raise Unavailable(f"The pull request {request.number} could not be closed.")
        return request

    def _collection(self, url: str) -> str:
        project = _project(url)
        if self._github:
            return f"/repos/{quote(project)}/pulls"
        return f"/projects/{quote(project, safe='')}/merge_requests"

    async def _list(self, url: str, query: Mapping[str, str]) -> Sequence[Request]:
        listed = await self._ask("GET", self._collection(url), query=query)
        return [self._read(one) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []

    async def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, json: Mapping[str, str] | None = None
    ) -> Any:
        token = _read_token(self._delivery.token_file or self._delivery.password_file)
        headers = {"Authorization": f"Bearer {token}", **(_GITHUB if self._github else {})}
        forge = self._delivery.forge
        try:
            answer = await self._client.request(
                method, f"{self._delivery.api_url}{path}", params=query, json=json, headers=headers
            )
            if answer.status_code in (400, 403, 404, 405, 409, 422):
                raise Refused(f"{forge} does not take the pull request (HTTP {answer.status_code}).")
            if answer.status_code not in (200, 201):
                raise Unavailable(f"{forge} could not answer.", detail=f"HTTP {answer.status_code}")
            return answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise Unavailable(f"{forge} does not answer.", detail=type(error).__name__) from None

    def _read(self, raw: Any) -> Request:
        if not isinstance(raw, dict):
            raise Unavailable(f"{self._delivery.forge} answered something else than a pull request.")
        if self._github:
            merged = bool(raw.get("merged") or raw.get("merged_at"))
            state, number = read_text(raw, "state"), read_number(raw, "number")
            branch = read_text(read_object(raw, "head"), "ref")
            commit = read_text(raw, "merge_commit_sha")
        else:
            state, number, branch = read_text(raw, "state"), read_number(raw, "iid"), read_text(raw, "source_branch")
            merged = state == "merged"
            names = ("merge_commit_sha", "squash_commit_sha", "sha")
            commit = next(filter(None, (read_text(raw, name) for name in names)), "")
        is_open = state in ("open", "opened", "locked")
        told = RequestState.MERGED if merged else RequestState.OPEN if is_open else RequestState.CLOSED
        return Request(number, branch, told, commit if merged else "", _read_time(read_text(raw, "created_at")))


def _project(url: str) -> str:
    return urlsplit(url).path.strip("/").removesuffix(".git")


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable("The token for pull requests can't be read.", detail=type(error).__name__) from None


def _read_time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
