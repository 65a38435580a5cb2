"""`arborgate keys`: the key pair that approvals are signed and checked with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..policies.errors import BadConfiguration
from .approvals import new_signing_key

commands = typer.Typer(help="The key pair that approvals are signed and checked with.", no_args_is_help=True)

PRIVATE, PUBLIC = "approvals.jwk", "approvals.pub.jwk"


@commands.callback()
def keys() -> None:
    """The key pair that approvals are signed and checked with."""


@commands.command("new")
def make_keys(
    folder: Annotated[Path, typer.Argument(help="Where the two files go; files that are there are never replaced.")],
) -> None:
    """Makes an Ed25519 pair: the private half is for `serve` alone, the public one for the applier."""
    private, public = new_signing_key()
    _write(folder / PRIVATE, private, 0o600)
    _write(folder / PUBLIC, public, 0o644)
    typer.echo(f"{folder / PRIVATE}: for serve (proposals.signing_key_file); keep it secret")
    typer.echo(f"{folder / PUBLIC}: for the applier (proposals.verify_key_file)")


def _write(path: Path, text: str, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise BadConfiguration(
            f"{path}: can't be written: {error.strerror}",
            hint="Choose another folder, or move the old keys away first.",
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
