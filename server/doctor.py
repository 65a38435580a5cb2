"""The doctor: looks an installation over, from its settings file outwards, and says of each thing whether it will do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ..policies.errors import ArborgateError, BadConfiguration
from ..policies.loader import Policies
from .approvals import load_signing_key, load_verify_key
from .approvers import Approvers, read_approvers
from .doctor_clusters import examine_clusters
from .doctor_findings import Finding, Process, bad, good, poor
from .doctor_git import examine_git
from .doctor_keys import examine_key, tell
from .doctor_parent import examine_parent
from .doctor_redis import Examiner, examine_redis
from .enrolment import read_enrolled
from .passkeys import RelyingParty
from .settings import PasskeyUse, Settings
from .signed_heads import load_record_key
from .state import open_state

_LEAST_FREE = 1024**3
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


async def examine(settings: Settings, process: Process, examiner: Examiner | None = None) -> AsyncIterator[Finding]:
    """Every finding about the installation as this process would see it, as it is found. `examiner` is a Redis user who
    may ask what Arborgate's own may not."""
    if process is Process.PARENT:
        async for finding in examine_parent(settings):
            yield finding
        async for finding in examine_clusters(settings, process):
            yield finding
        return
    for look in (_examine_keys, _examine_policies, _examine_record, _examine_pages):
        for finding in look(settings, process):
            yield finding
    async for finding in examine_redis(settings.state, examiner):
        yield finding
    async for finding in _examine_approvers(settings, process):
        yield finding
    async for finding in examine_clusters(settings, process):
        yield finding
    async for finding in examine_git(settings, process):
        yield finding


def find_process(settings: Settings) -> Process:
    """Whose settings these are, by the half of the key that they name; a parent app's controller has a key of its own."""
    own = settings.proposals
    if settings.controller and not own.signing_key_file and not own.verify_key_file:
        return Process.PARENT
    return Process.APPLIER if own.verify_key_file and not own.signing_key_file else Process.SERVE


def _examine_keys(settings: Settings, process: Process) -> Iterator[Finding]:
    own = settings.proposals
    serve = process is Process.SERVE
    name = "proposals.signing_key_file" if serve else "proposals.verify_key_file"
    path = own.signing_key_file if serve else own.verify_key_file
    if path is None and serve and not settings.identity.pages:
        yield good(name, "is not set, and there are no approval pages to need it")
    else:
        yield from examine_key(name, path, load_signing_key if serve else load_verify_key)
    if own.signing_key_file and own.verify_key_file:
        yield _compare_halves(own.signing_key_file, own.verify_key_file)
    if (record := settings.record.signing_key_file) is None:
        yield poor(
            "record.signing_key_file",
            "is not set, so who can write the log can rewrite it unseen",
            "make a pair by `arborgate keys new --only record`",
        )
    else:
        yield from examine_key("record.signing_key_file", record, lambda _: load_record_key(record))


def _compare_halves(private: Path, public: Path) -> Finding:
    name = "proposals.verify_key_file"
    try:
        same = load_signing_key(private).thumbprint() == load_verify_key(public).thumbprint()
    except BadConfiguration as error:
        return bad(name, tell(error, name), "make a pair by `arborgate keys new`")
    if same:
        return good(name, "is the other half of proposals.signing_key_file")
    return bad(name, "is not the other half of proposals.signing_key_file", "give the applier the public half of that")


def _examine_policies(settings: Settings, _process: Process) -> Iterator[Finding]:
    where = str(settings.policies.dir or "the shipped ones")
    try:
        engine = Policies(settings.policies.dir, surroundings=settings.surroundings).current
    except BadConfiguration as error:
        yield bad("policies.dir", f"{where}: {error.message}", "`arborgate policy test` shows every case")
    else:
        yield good("policies.dir", f"{where}: they load and hold their cases, set {engine.digest[:12]}")


def _examine_record(settings: Settings, _process: Process) -> Iterator[Finding]:
    folder = settings.record.dir
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = os.statvfs(there)
    except OSError as error:
        yield bad("record.dir", f"{there} can't be written: {error.strerror}", "let the process write there")
        return
    left = free.f_bavail * free.f_frsize
    if left < _LEAST_FREE:
        told = f"has {left // 1024**2} MiB left; when the record can't be written, nothing is answered"
        yield poor("record.dir", told, "make room, or move old files away (record.rotate_bytes)")
    else:
        yield good("record.dir", f"can be written, with {left // 1024**3} GiB left")


def _examine_pages(settings: Settings, process: Process) -> Iterator[Finding]:
    name, url = "http.public_url", settings.http.url
    needs_host = settings.proposals.passkeys is not PasskeyUse.OFF or settings.applier.approvers_file
    parts = urlsplit(url)
    if needs_host:
        try:
            party = RelyingParty.of(url)
        except BadConfiguration as error:
            yield bad(name, tell(error, name), error.hint or "")
            return
        yield good(name, f"passkeys belong to the host name {party.id}, for good")
    if process is Process.SERVE and parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        told, way_out = f"{url} is neither https nor a loopback address", "set the https URL that clients use"
        yield bad(name, told, way_out) if settings.identity.pages else poor(name, told, way_out)
    elif not needs_host:
        yield good(name, f"clients come by {url}")


async def _examine_approvers(settings: Settings, process: Process) -> AsyncIterator[Finding]:
    name, path = "applier.approvers_file", settings.applier.approvers_file
    if path is None:
        if process is Process.APPLIER:
            told = "is not set, so the applier takes serve's signature for the approver's"
            yield poor(name, told, "`arborgate approvers export`, read it, and give it to the applier")
        return
    try:
        pinned = read_approvers(path)
    except BadConfiguration as error:
        yield bad(name, error.message, "`arborgate approvers export` writes it")
        return
    state = open_state(settings.state)
    try:
        enrolled = await read_enrolled(state)
    except ArborgateError as error:
        yield poor(name, f"can't be compared with what people enrolled: {error.message}", "see state.url above")
        return
    finally:
        await state.redis.aclose()
    yield _compare_approvers(name, path, pinned, enrolled)


def _compare_approvers(name: str, path: Path, pinned: Approvers, enrolled: Approvers) -> Finding:
    here, there = (
        {(one.key, passkey.id) for one in each.approvers for passkey in one.passkeys} for each in (pinned, enrolled)
    )
    if here == there:
        return good(name, f"has the {len(here)} passkeys that are enrolled")
    told = f"is older than the registry: {len(there - here)} passkeys are new, {len(here - there)} are gone"
    return poor(name, told, f"`arborgate approvers verify {path}` shows which")
