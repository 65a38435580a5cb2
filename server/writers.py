"""The applier's writers: of clusters, and of Git where the settings give it credentials; each target goes to its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2

from ..policies.errors import BadConfiguration, Refused
from ..tools.change import Attribution, Heed, JsonObject, Rehearsed, Target, Writer, heed_nobody
from ..tools.git.places import API as GIT
from ..tools.git.requests import Requests
from ..tools.git.settings import GitSettings, GitWriting, Mode
from ..tools.git.source import GitSource
from ..tools.git.writer import GitWriter
from ..tools.tree import AppTree
from .settings import Settings


class Writers:
    """One writer made of two; what there is none for is refused."""

    def __init__(self, clusters: Writer, git: Writer | None) -> None:
        self._clusters = clusters
        self._git = git

    async def read(self, target: Target) -> JsonObject | None:
        return await self._of(target).read(target)

    async def rehearse(self, target: Target, patch: JsonObject) -> Rehearsed:
        return await self._of(target).rehearse(target, patch)

    async def apply(
        self,
        target: Target,
        patch: JsonObject,
        resource_version: str,
        attribution: Attribution,
        heed: Heed = heed_nobody,
    ) -> JsonObject:
        return await self._of(target).apply(target, patch, resource_version, attribution, heed)

    def _of(self, target: Target) -> Writer:
        if target.api != GIT:
            return self._clusters
        if self._git is None:
            raise Refused("The applier has no credentials for Git.", hint="Add them to its settings (applier.git).")
        return self._git


@asynccontextmanager
async def open_writers(clusters: Writer, settings: Settings, tree: AppTree) -> AsyncIterator[Writers]:
    """Nothing is sent yet. Raises `BadConfiguration` for deliveries that could never work."""
    writing = settings.applier.git
    if not writing.repositories:
        yield Writers(clusters, None)
        return
    check_writing(settings.git, writing)
    async with AsyncExitStack() as stack:
        source = GitSource(settings.git, writing.repositories)
        stack.push_async_callback(source.close)
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=10.0, follow_redirects=False))
        requests = {one.name: Requests(one, client) for one in writing.repositories if one.mode is Mode.PULL_REQUEST}
        yield Writers(clusters, GitWriter(source, tree, writing, requests))


def check_writing(settings: GitSettings, writing: GitWriting) -> None:
    """Raises `BadConfiguration`, naming the setting."""
    known = {one.name for one in settings.repositories}
    for one in writing.repositories:
        if one.name not in known:
            raise BadConfiguration(f"applier.git.repositories: there is no {one.name!r} in git.repositories")
        if one.mode is Mode.PULL_REQUEST and not (one.forge and one.api_url):
            raise BadConfiguration(f"applier.git.repositories: {one.name!r} needs forge and api_url for pull requests")
    key = writing.signing_key_file
    if key is not None and not key.is_file():
        raise BadConfiguration("applier.git.signing_key_file: there is no such file")
    if key is not None and shutil.which("ssh-keygen") is None:
        raise BadConfiguration("applier.git.signing_key_file: signing needs ssh-keygen (Debian: openssh-client)")
