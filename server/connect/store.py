"""Where logins are kept: in the keyring of the operating system, else in files that their owner alone can read."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from ...policies.errors import BadConfiguration, Unavailable
from .entries import Entry, Kept, Slot

_SERVICE = "arborgate"
_POLL = 0.02

Say = Callable[[str], None]


class Kind(StrEnum):
    """Where the secret part of a login is."""

    KEYRING = "keyring"
    FILE = "file"


class Keyring(Protocol):
    """What is needed of a backend of the package `keyring`."""

    def get_password(self, service: str, username: str, /) -> str | None: ...
    def set_password(self, service: str, username: str, password: str, /) -> None: ...
    def delete_password(self, service: str, username: str, /) -> None: ...


class _Card(Kept):
    """The file of one login: whose it is, and where the rest of it is. A keyring can't be listed, a folder can."""

    resource: str
    account: str
    kind: Kind
    entry: Entry | None = None


class _Registered(Kept):
    """The file of a client that was registered for this machine. It is no secret."""

    issuer: str
    client_id: str


class Store:
    """The logins of one person on this machine. Reading and writing may block: a keyring may ask to be unlocked.

    `folder` is made for its owner alone. `find_keyring` gives the backend to use, None for no keyring."""

    def __init__(self, folder: Path, say: Say, find_keyring: Callable[[], Keyring | None] | None = None) -> None:
        self._folder = folder
        self._say = say
        self._find_keyring = find_keyring or find_os_keyring

    @classmethod
    def of(cls, say: Say, environ: Mapping[str, str] = os.environ) -> Store:
        state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
        return cls(Path(state) / "arborgate", say)

    def read(self, slot: Slot) -> Entry | None:
        """The login, None where there is none. Raises `Unavailable` when the keyring does not open."""
        card = self._read_card(self._path(slot))
        if card is None or card.kind is Kind.FILE:
            return card.entry if card else None
        keyring = self._find_keyring()
        if keyring is None:
            raise Unavailable("The keyring that holds the login is not there.", hint="Log in again: arborgate login.")
        try:
            secret = keyring.get_password(_SERVICE, _label(slot))
        except Exception as error:  # what a backend raises depends on the system that it is for
            raise _locked(error) from error
        try:
            return Entry.model_validate_json(secret) if secret else None
        except ValidationError:
            return None

    def write(self, slot: Slot, entry: Entry) -> None:
        """Keeps the login, in the keyring if that takes it. Says so once where a file has to do."""
        keyring = self._find_keyring()
        card = _Card(resource=slot.resource, account=slot.account, kind=Kind.KEYRING)
        if keyring is not None:
            try:
                keyring.set_password(_SERVICE, _label(slot), entry.model_dump_json())
            except Exception:  # as above; some keyrings take no secret of this size
                keyring = None
        if keyring is None:
            known = self._read_card(self._path(slot))
            card = card.model_copy(update={"kind": Kind.FILE, "entry": entry})
            if known is None or known.kind is not Kind.FILE:
                self._say(
                    f"No keyring on this machine takes logins: this one is kept in {self._path(slot)}, for you alone."
                )
        self._write_file(self._path(slot), card.model_dump_json().encode())

    def forget(self, slot: Slot) -> None:
        """Takes the login away; nothing where there is none."""
        path = self._path(slot)
        card = self._read_card(path)
        if card is not None and card.kind is Kind.KEYRING and (keyring := self._find_keyring()) is not None:
            try:
                if keyring.get_password(_SERVICE, _label(slot)) is not None:
                    keyring.delete_password(_SERVICE, _label(slot))
            except Exception as error:  # as above
                raise _locked(error) from error
        path.unlink(missing_ok=True)

    def list(self) -> Iterator[Slot]:
        """The logins that are kept."""
        for path in sorted(self._folder.glob("login-*.json")):
            if card := self._read_card(path):
                yield Slot(card.resource, card.account)

    def describe(self, slot: Slot) -> str:
        """Where the login is, in words; "" where there is none."""
        card = self._read_card(self._path(slot))
        if card is None:
            return ""
        return str(self._path(slot)) if card.kind is Kind.FILE else "the keyring of this machine"

    def read_client(self, issuer: str) -> str:
        """The client that was registered at an issuer for this machine, or ""."""
        try:
            found = _Registered.model_validate_json(self._read_file(self._client_path(issuer)))
        except (OSError, ValidationError):
            return ""
        return found.client_id if found.issuer == issuer else ""

    def write_client(self, issuer: str, client_id: str) -> None:
        registered = _Registered(issuer=issuer, client_id=client_id)
        self._write_file(self._client_path(issuer), registered.model_dump_json().encode())

    def forget_client(self, issuer: str) -> None:
        self._client_path(issuer).unlink(missing_ok=True)

    def forget_clients(self) -> None:
        for path in self._folder.glob("client-*.json"):
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def lock(self, slot: Slot, what: str, seconds: float) -> AsyncIterator[bool]:
        """Keeps other processes from doing `what` with the login; yields whether that worked within `seconds`.

        The file stays: one that is deleted while others wait for it locks nothing."""
        self._make_folder()
        descriptor = os.open(self._folder / f"{what}-{slot.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            ends = time.monotonic() + seconds
            while not (held := _try_lock(descriptor)) and time.monotonic() < ends:  # noqa: ASYNC110  # another process
                await asyncio.sleep(_POLL)
            yield held
        finally:
            os.close(descriptor)

    def _path(self, slot: Slot) -> Path:
        return self._folder / f"login-{slot.name}.json"

    def _client_path(self, issuer: str) -> Path:
        return self._folder / f"client-{hashlib.sha256(issuer.encode()).hexdigest()[:24]}.json"

    def _read_card(self, path: Path) -> _Card | None:
        try:
            return _Card.model_validate_json(self._read_file(path))
        except (OSError, ValidationError):
            return None

    def _read_file(self, path: Path) -> bytes:
        """Raises `OSError` where there is none. One that others could read or have written is of no use any more."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.getuid():
                path.unlink(missing_ok=True)
                self._say(f"{path} could be read by others, so it was thrown away.")
                raise PermissionError(path)
            return file.read()

    def _write_file(self, path: Path, content: bytes) -> None:
        """Atomically: who reads it meanwhile, or after a crash, finds the old one or the new one."""
        self._make_folder()
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = self._folder.stat()
            if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
                self._folder.chmod(0o700)
        except OSError as error:
            raise BadConfiguration(f"{self._folder} can't be used: {error.strerror}.") from error
        if found.st_uid != os.getuid():
            raise BadConfiguration(f"{self._folder} is somebody else's, so no login is kept there.")


def find_os_keyring() -> Keyring | None:
    """The keyring of the operating system, None where there is none that keeps secrets well."""
    import keyring  # noqa: PLC0415  # takes a tenth of a second, which logins in files need not wait for
    from keyring.core import recommended  # noqa: PLC0415

    backend = keyring.get_keyring()
    return backend if recommended(backend) else None


def _label(slot: Slot) -> str:
    """As whom the keyring shows it to the person."""
    return f"{slot.account} at {slot.resource}"


def _locked(error: Exception) -> Unavailable:
    return Unavailable("The keyring of this machine does not open.", hint="Unlock it.", detail=type(error).__name__)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
