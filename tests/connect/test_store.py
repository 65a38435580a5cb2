"""Where logins are kept: for their person alone, whole or not at all, in a keyring where there is one."""

import asyncio
import stat
import sys
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordSetError

from arborgate.policies.errors import BadConfiguration, Unavailable
from arborgate.server.connect.entries import Entry, Place, Provider, Slot, Tokens
from arborgate.server.connect.proofs import make_key
from arborgate.server.connect.store import Keyring, Store, find_os_keyring
from tests.connect.net import MCP, PROVIDER

pytestmark = pytest.mark.anyio

SLOT = Slot(MCP)
OTHER = Slot(MCP, "on-call")


class Ring(KeyringBackend):
    """A keyring in memory, which can be locked and takes only so much."""

    priority = 5  # pyright: ignore[reportAssignmentType]  # a property of the class

    def __init__(self, takes: int = 100_000) -> None:
        self.held: dict[tuple[str, str], str] = {}
        self.takes = takes
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked or len(password) > self.takes:
            raise PasswordSetError("too much")
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.held[service, username]


def make_entry(access: str = "access-1", refresh: str = "refresh-1", **changes: object) -> Entry:
    tokens = Tokens(access_token=access, refresh_token=refresh, bound=True, began=0.0, ends=2e9, scope="openid")
    place = Place(audience=MCP, provider=Provider.model_validate(PROVIDER))
    return Entry(place=place, client_id="laptop", key=make_key(), tokens=tokens).model_copy(update=changes)


def open_store(folder: Path, ring: Keyring | None = None) -> tuple[Store, list[str]]:
    said: list[str] = []
    return Store(folder / "arborgate", said.append, lambda: ring), said


async def test_without_a_keyring_a_login_is_in_a_file_for_its_person_alone_and_that_is_said_once(
    tmp_path: Path,
) -> None:
    store, said = open_store(tmp_path)
    entry = make_entry()
    for _ in range(2):
        store.write(SLOT, entry)
    (file,) = (tmp_path / "arborgate").glob("*")
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert store.read(SLOT) == entry
    assert store.describe(SLOT) == str(file)
    assert said == [f"No keyring on this machine takes logins: this one is kept in {file}, for you alone."]


async def test_with_a_keyring_no_secret_is_in_any_file(tmp_path: Path) -> None:
    ring = Ring()
    store, said = open_store(tmp_path, ring)
    entry = make_entry()
    store.write(SLOT, entry)
    assert list(ring.held) == [("arborgate", f"default at {MCP}")]
    assert store.read(SLOT) == entry
    assert store.describe(SLOT) == "the keyring of this machine"
    assert said == []
    (file,) = (tmp_path / "arborgate").glob("*")
    for secret in ("access-1", "refresh-1", entry.key["d"]):
        assert secret not in file.read_text()
    store.forget(SLOT)
    assert (ring.held, list(file.parent.iterdir()), store.read(SLOT)) == ({}, [], None)


async def test_what_a_keyring_does_not_take_goes_to_a_file(tmp_path: Path) -> None:
    store, said = open_store(tmp_path, Ring(takes=100))
    store.write(SLOT, make_entry())
    assert store.read(SLOT) is not None
    assert "for you alone" in said[0]


async def test_a_keyring_that_does_not_open_is_told_in_plain_words(tmp_path: Path) -> None:
    ring = Ring()
    store, _ = open_store(tmp_path, ring)
    store.write(SLOT, make_entry())
    ring.locked = True
    for act in (store.read, store.forget):
        with pytest.raises(Unavailable, match="does not open") as failed:
            act(SLOT)
        assert failed.value.hint == "Unlock it."
    gone, _ = open_store(tmp_path, None)
    with pytest.raises(Unavailable, match="is not there"):
        gone.read(SLOT)


async def test_the_keyring_of_the_system_is_used_only_where_it_keeps_secrets_well() -> None:
    before, good, poor = keyring.get_keyring(), Ring(), Ring()
    poor.__class__ = type("Poor", (Ring,), {"priority": 0.5})
    try:
        keyring.set_keyring(good)
        assert find_os_keyring() is good
        keyring.set_keyring(poor)
        assert find_os_keyring() is None
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
async def test_a_file_that_others_could_read_or_write_is_thrown_away(tmp_path: Path, mode: int) -> None:
    store, said = open_store(tmp_path)
    store.write(SLOT, make_entry())
    (file,) = (tmp_path / "arborgate").glob("*")
    file.chmod(mode)
    assert store.read(SLOT) is None
    assert not file.exists()
    assert said[-1] == f"{file} could be read by others, so it was thrown away."


async def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    store.write(SLOT, make_entry())
    (file,) = (tmp_path / "arborgate").glob("*")
    moved = file.rename(tmp_path / "moved.json")
    file.symlink_to(moved)
    assert store.read(SLOT) is None
    store.write(SLOT, make_entry("access-2"))
    assert not file.is_symlink()
    assert "access-1" in moved.read_text()


async def test_a_folder_that_others_can_enter_is_closed(tmp_path: Path) -> None:
    (tmp_path / "arborgate").mkdir(mode=0o755)
    store, _ = open_store(tmp_path)
    store.write(SLOT, make_entry())
    assert stat.S_IMODE((tmp_path / "arborgate").stat().st_mode) == 0o700


async def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "arborgate").write_text("not a folder")
    store, _ = open_store(tmp_path)
    with pytest.raises(BadConfiguration, match="can't be used"):
        store.write(SLOT, make_entry())


async def test_a_broken_file_is_no_login(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    store.write(SLOT, make_entry())
    (file,) = (tmp_path / "arborgate").glob("*")
    file.write_text('{"resource":')
    assert (store.read(SLOT), list(store.list())) == (None, [])
    store.write(SLOT, make_entry())
    assert store.read(SLOT) is not None


async def test_logins_at_several_servers_and_of_several_accounts_are_side_by_side(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path, Ring())
    slots = [SLOT, OTHER, Slot("https://other.test/mcp")]
    for number, slot in enumerate(slots):
        store.write(slot, make_entry(f"access-{number}"))
    for number, slot in enumerate(slots):
        entry = store.read(slot)
        assert entry is not None
        assert entry.tokens is not None
        assert entry.tokens.access_token == f"access-{number}"
    assert {(slot.resource, slot.account) for slot in store.list()} == {(slot.resource, slot.account) for slot in slots}
    store.forget(OTHER)
    assert (store.read(OTHER), store.read(SLOT) is not None) == (None, True)


async def test_what_is_kept_is_never_printed() -> None:
    entry = make_entry()
    for secret in ("access-1", "refresh-1", entry.key["d"]):
        assert secret not in f"{entry!r} {entry}"


async def test_a_registered_client_is_remembered_for_its_issuer_alone(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    store.write_client("https://login.test", "laptop-7")
    assert (store.read_client("https://login.test"), store.read_client("https://login.test/")) == ("laptop-7", "")
    store.forget_client("https://login.test")
    assert store.read_client("https://login.test") == ""


async def test_a_login_is_locked_for_other_processes_too(tmp_path: Path) -> None:
    store, _ = open_store(tmp_path)
    script = (
        "import asyncio, pathlib, sys\n"
        "from arborgate.server.connect.entries import Slot\n"
        "from arborgate.server.connect.store import Store\n"
        "async def hold():\n"
        "    store = Store(pathlib.Path(sys.argv[1]), print, lambda: None)\n"
        "    async with store.lock(Slot(sys.argv[2]), 'refresh', 0) as held:\n"
        "        print(held, flush=True)\n"
        "        sys.stdin.read()\n"
        "asyncio.run(hold())\n"
    )
    argv = (sys.executable, "-c", script, str(tmp_path / "arborgate"), SLOT.resource)
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
    assert other.stdout is not None
    assert await other.stdout.readline() == b"True\n"
    async with store.lock(SLOT, "refresh", 0) as held:
        assert not held
    async with store.lock(OTHER, "refresh", 0) as held:
        assert held
    waiting = asyncio.create_task(_take(store))
    await other.communicate(b"")
    assert await waiting


async def _take(store: Store) -> bool:
    async with store.lock(SLOT, "refresh", 30) as held:
        return held
