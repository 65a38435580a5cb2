"""What the doctor asks of key files."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from ..policies.errors import ArborgateError, BadConfiguration
from .approvals import load_key
from .doctor_findings import Finding, bad, good, poor


def examine_key(
    name: str, path: Path | None, load: Callable[[Path | None], object], command: str = "new"
) -> Iterator[Finding]:
    """What a setting names, as `load` takes it; a private one is for nobody else to read. `arborgate keys <command>` makes
    such a pair."""
    try:
        load(path)
        shown = load_key(path, name).thumbprint()
    except BadConfiguration as error:
        yield bad(name, tell(error, name), f"make a pair by `arborgate keys {command}`")
        return
    yield good(name, f"is a key with the thumbprint {shown}, the same for both halves")
    if path and "signing" in name and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        yield poor(name, f"can be read by others (mode {mode:o})", f"chmod 600 {path}")


def tell(error: ArborgateError, name: str) -> str:
    """The message without the name of the setting, which stands before it anyway."""
    return error.message.removeprefix(f"{name}: ").removeprefix(f"{name} ")
