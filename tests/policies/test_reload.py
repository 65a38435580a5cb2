"""Policies that change on disk: a good set takes over whole, a bad one changes nothing and is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from watchfiles.main import FileChange

from arborgate.policies import loader
from arborgate.policies import watching as watching_module
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.loader import LoadedPolicies, Policies, Reload, load_policies
from arborgate.policies.model import Action
from tests.policies.writing import TRUSTING, app, change, copy_shipped, environment, keyspace, person

pytestmark = pytest.mark.anyio

Told = asyncio.Queue[Reload]

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


async def test_a_policy_that_was_moved_to_where_it_is_read_takes_over(folder: Path) -> None:
    policies = Policies(folder)
    (folder / "teams").mkdir()
    (folder / "readers.cedar").rename(folder / "teams/readers.cedar")
    refused = await policies.reload()
    (folder / "teams/readers.cedar").rename(folder / "readers.cedar")

    assert refused is not None
    assert "is not read" in str(refused.refused)
    assert await policies.reload() is not None
    assert policies.refused == ""


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


@asynccontextmanager
async def watching(policies: Policies, interval: float = 60.0) -> AsyncIterator[Told]:
    """What the watch tells, which is not helped along by looking every now and then unless the test says so."""
    told: Told = asyncio.Queue()
    watch = asyncio.create_task(policies.watch(told.put, interval=interval))
    try:
        async with asyncio.timeout(20):
            yield told
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_the_watch_tells_of_every_reload(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    async with watching(policies) as told:
        good = (folder / "readers.cedar").read_text()
        (folder / "readers.cedar").write_text("permit")
        assert (await told.get()).refused is not None
        assert policies.refused.startswith("readers.cedar:1")
        (folder / "readers.cedar").write_text(good)
        assert (await told.get()).refused is None
        assert policies.refused == ""


async def test_an_editor_that_renames_and_a_file_that_is_deleted_are_noticed(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    async with watching(policies) as told:
        (folder / ".readers.swp").write_text((folder / "readers.cedar").read_text() + "// edited")
        (folder / ".readers.swp").rename(folder / "readers.cedar")
        assert await told.get() == Reload(policies.current.digest)
        (folder / "readers.cedar").unlink()
        assert (await told.get()).refused is not None


async def test_a_change_of_the_cases_alone_is_noticed(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    async with watching(policies) as told:
        change(folder / "cases/readers.yaml", lambda text: text + "# one more line\n")
        assert await told.get() == Reload(policies.current.digest)


async def test_a_mounted_configmap_is_followed_when_it_is_swapped(tmp_path: Path) -> None:
    """Kubernetes writes a new folder, a link to it beside `..data`, and renames that over `..data`."""
    mount = tmp_path / "policies"
    first, second = copy_shipped(tmp_path / "first"), copy_shipped(tmp_path / "second")
    let_auditors_read_values(second)
    (first / "own.cedar").write_text("// nothing yet")
    mount.mkdir()
    for number, version in enumerate((first, second), start=1):
        version.rename(mount / f"..{number}")
    (mount / "..data").symlink_to("..1")
    for name in ("cases", *(file.name for file in (mount / "..1").glob("*.cedar"))):
        (mount / name).symlink_to(f"..data/{name}")
    policies = Policies(mount, surroundings=TRUSTING)
    assert not policies.current.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed

    async with watching(policies) as told:
        (mount / "..data_tmp").symlink_to("..2")
        (mount / "..data_tmp").rename(mount / "..data")
        assert await told.get() == Reload(policies.current.digest)
    assert policies.current.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed


async def test_a_folder_that_goes_away_and_comes_back_is_followed(folder: Path) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    async with watching(policies, interval=1.0) as told:
        away = folder.with_name("away")
        await asyncio.to_thread(folder.rename, away)
        assert (await told.get()).refused is not None
        let_auditors_read_values(away)
        await asyncio.to_thread(away.rename, folder)
        assert await told.get() == Reload(policies.current.digest)
        change(folder / "readers.cedar", lambda text: text + "// and on")
        assert await told.get() == Reload(policies.current.digest)


async def test_a_folder_that_goes_away_while_it_is_looked_at_is_followed_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies, glob = Policies(folder, surroundings=TRUSTING), Path.glob

    def go_away(self: Path, pattern: str) -> Iterator[Path]:
        if self == folder:
            raise FileNotFoundError(2, "No such file or directory")
        return iter(glob(self, pattern))

    monkeypatch.setattr(Path, "glob", go_away)
    async with watching(policies, interval=0.05) as told:
        assert (await told.get()).refused is not None
        monkeypatch.undo()
        assert await told.get() == Reload(policies.current.digest)


async def test_without_word_from_the_file_system_changes_are_found_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network's file system nobody tells of changes; and the kernel may have no watch left to give."""

    async def refuse(*_paths: Path, **_how: object) -> AsyncGenerator[set[FileChange], None]:
        raise OSError(28, "no watches left")
        yield set()

    monkeypatch.setattr(watching_module, "awatch", refuse)
    policies = Policies(folder, surroundings=TRUSTING)
    async with watching(policies, interval=0.02) as told:
        let_auditors_read_values(folder)
        while (await told.get()).refused is not None:  # half of the change, seen between two writes
            pass
    assert policies.current.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed


async def test_a_burst_of_changes_is_loaded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    loads: list[Path | None] = []
    real = load_policies

    def count(directory: Path | None) -> LoadedPolicies:
        loads.append(directory)
        return real(directory)

    monkeypatch.setattr(loader, "load_policies", count)
    async with watching(policies) as told:
        for number in range(200):
            (folder / f"empty-{number}.cedar").write_text("// nothing")
        assert await told.get() == Reload(policies.current.digest)
    assert len(loads) <= 2  # the first look may fall into the burst


async def test_files_that_change_while_they_are_read_are_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    real = load_policies

    def change_meanwhile(directory: Path | None) -> LoadedPolicies:
        monkeypatch.setattr(loader, "load_policies", real)
        loaded = real(directory)
        let_auditors_read_values(folder)
        return loaded

    monkeypatch.setattr(loader, "load_policies", change_meanwhile)
    change(folder / "readers.cedar", lambda text: text + "// one more line\n")

    assert await policies.reload() == Reload(policies.current.digest)
    assert policies.current.decide(AUDITOR, Action.REDIS_READ_VALUE, SECRET).allowed
    assert await policies.reload() is None


async def test_files_that_never_rest_are_not_taken_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = Policies(folder, surroundings=TRUSTING)
    before, real = policies.current, load_policies

    def change_always(directory: Path | None) -> LoadedPolicies:
        change(folder / "readers.cedar", lambda text: text + "// one more line\n")
        return real(directory)

    monkeypatch.setattr(loader, "load_policies", change_always)
    change(folder / "readers.cedar", lambda text: text + "// one more line\n")

    told = await policies.reload()

    assert told is not None
    assert "change faster" in str(told.refused)
    assert policies.current is before


async def test_there_is_no_start_with_a_bad_set(folder: Path) -> None:
    (folder / "own.cedar").write_text("permit")

    with pytest.raises(BadConfiguration, match=r"own\.cedar:1"):
        Policies(folder, surroundings=TRUSTING)
