"""Policies that change on disk: a good set takes over whole, a bad one changes nothing and is told."""

import asyncio
from pathlib import Path

import pytest

from arborgate.policies.errors import BadConfiguration
from arborgate.policies.loader import Policies, Reload
from arborgate.policies.model import Action
from tests.policies.writing import TRUSTING, app, change, copy_shipped, environment, keyspace, person

pytestmark = pytest.mark.anyio

SECRET = keyspace(app("shop", environment("prod", strict=True)))
AUDITOR = person("otto", "auditor")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_shipped(tmp_path / "set")


def let_auditors_read_values(folder: Path) -> None:
    """A change that is good, cases and all."""
    (folder / "own.cedar").write_text(
        '@id("auditors-read-values") permit (principal in Role::"auditor", action == Action::"redis:read_value", resource);'
    )
    denied = '    may_not: redis:read_value\n    of: "Keyspace::main:shop:"\n    by: nothing\n    why: Auditing'
    allowed = denied.replace("may_not", "may").replace("nothing", "auditors-read-values")
    change(folder / "cases/readers.yaml", lambda text: text.replace(denied, allowed))


async def test_nothing_is_reloaded_when_nothing_changed(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    before = policies.current

    assert await policies.reload() is None
    assert policies.current is before


async def test_a_changed_set_takes_over(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    before = policies.current
    assert not before.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed

    let_auditors_read_values(folder)

    assert await policies.reload() == Reload(policies.current.digest)
    assert policies.current.digest != before.digest
    assert policies.current.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed
    assert not before.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed


async def test_a_bad_set_keeps_the_old_one_and_says_so_once(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    before = policies.current

    change(folder / "readers.cedar", lambda text: text.replace('Action::"read"', 'Action::"raed"'))
    told = await policies.reload()

    assert told is not None
    assert told.digest == before.digest
    assert "readers.cedar" in str(told.refused)
    assert policies.current is before
    assert await policies.reload() is None


async def test_a_set_that_is_repaired_takes_over(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    good = (folder / "readers.cedar").read_text()
    (folder / "readers.cedar").unlink()
    assert (told := await policies.reload()) is not None
    assert told.refused is not None

    (folder / "readers.cedar").write_text(good)

    assert await policies.reload() == Reload(policies.current.digest)


async def test_a_folder_that_goes_away_keeps_the_old_set(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    before = policies.current
    await asyncio.to_thread(folder.rename, folder.with_name("elsewhere"))

    told = await policies.reload()

    assert told is not None
    assert told.refused is not None
    assert policies.current is before


async def test_the_switch_of_a_link_to_another_folder_is_noticed(folder: Path, tmp_path: Path) -> None:
    """How Kubernetes updates a mounted ConfigMap: the files are links through one link that is switched."""
    other = copy_shipped(tmp_path / "other")
    let_auditors_read_values(other)
    link = tmp_path / "mounted"
    link.symlink_to(folder)
    policies = Policies(link, surroundings=TRUSTING)

    fresh = tmp_path / "fresh"
    fresh.symlink_to(other)
    fresh.rename(link)

    assert await policies.reload() == Reload(policies.current.digest)
    assert policies.current.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed


async def test_the_watch_tells_of_every_reload(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    told: asyncio.Queue[Reload] = asyncio.Queue()
    watch = asyncio.create_task(policies.watch(told.put, interval=0.01))
    try:
        good = (folder / "readers.cedar").read_text()
        (folder / "readers.cedar").write_text("permit")
        async with asyncio.timeout(10):
            assert (await told.get()).refused is not None
            (folder / "readers.cedar").write_text(good)
            assert (await told.get()).refused is None
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_there_is_no_start_with_a_bad_set(folder: Path) -> None:
    (folder / "own.cedar").write_text("permit")

    with pytest.raises(BadConfiguration, match=r"own\.cedar:1"):
        Policies(folder, surroundings=TRUSTING)
