"""What the doctor asks of the Git servers: whether they answer, and whether the credentials there may push."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..policies.errors import ArborgateError, Refused
from ..tools.git.remote import Remote
from ..tools.git.settings import GitRepository
from ..tools.git.source import GitSource
from .doctor_findings import Finding, Process, bad, good, poor
from .settings import Settings


async def examine_git(settings: Settings, process: Process) -> AsyncIterator[Finding]:
    """Each repository with the credentials that the process uses; nothing is sent that changes anything."""
    serve = process is Process.SERVE
    deliveries = () if serve else settings.applier.git.repositories
    written = {one.name for one in deliveries}
    source = GitSource(settings.git, deliveries)
    try:
        for each in settings.git.repositories:
            if serve or each.name in written:
                yield await _examine(source, each, serve)
    finally:
        await source.close()


async def _examine(source: GitSource, entry: GitRepository, serve: bool) -> Finding:
    what = f"git {entry.name}"
    if entry.url.endswith("/"):
        must = "it must fail" if serve else "it must not"
        return poor(what, "is all that lies below an address, so there is none to ask", f"try a push to one: {must}")
    remote = source.remote(entry.name)
    try:
        branch, _ = await source.run(remote.find_head, "")
        pushes = await source.run(_may_push, remote)
    except ArborgateError as error:
        return bad(what, f"can't be read: {error.message}", "see its url, username and password_file")
    if serve and pushes:
        told = "may be pushed to by serve: what steals serve has that too"
        return bad(what, told, "give serve a password or token that can only read")
    if not serve and not pushes:
        return bad(
            what, "can't be pushed to by the applier", "see applier.git.repositories: its username and password_file"
        )
    return good(what, f"can be read, and {'not ' if serve else ''}pushed to; its default branch is {branch}")


def _may_push(remote: Remote) -> bool:
    """Asks the server; raises `Unavailable` when it does not say."""
    try:
        remote.require_push()
    except Refused:
        return False
    return True
