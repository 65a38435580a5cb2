"""`arborgate keys`: the key pairs that approvals and the log's heads are signed and checked with."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer

from ..policies.errors import BadConfiguration
from .approvals import new_signing_key

commands = typer.Typer(help="The key pairs for approvals and for the record.", no_args_is_help=True)

PRIVATE, PUBLIC = "approvals.jwk", "approvals.pub.jwk"
RECORD_PRIVATE, RECORD_PUBLIC = "record.jwk", "record.pub.jwk"
PARENT_PRIVATE, PARENT_PUBLIC = "parent.jwk", "parent.jwks.json"


class Purpose(StrEnum):
    """What a pair is for."""

    APPROVALS = "approvals"
    RECORD = "record"


_PAIRS = {
    Purpose.APPROVALS: (
        (PRIVATE, "for serve (proposals.signing_key_file); keep it secret"),
        (PUBLIC, "for the applier (proposals.verify_key_file)"),
    ),
    Purpose.RECORD: (
        (RECORD_PRIVATE, "for the process that writes the log (record.signing_key_file); keep it secret"),
        (RECORD_PUBLIC, "for whoever proves the log (arborgate record verify --key)"),
    ),
}


@commands.callback()
def keys() -> None:
    """The key pairs that approvals and the log's heads are signed and checked with."""


@commands.command("new")
def make_keys(
    folder: Annotated[Path, typer.Argument(help="Where the files go; files that are there are never replaced.")],
    only: Annotated[Purpose | None, typer.Option(help="Make this pair alone.")] = None,
) -> None:
    """Makes two Ed25519 pairs: one for approvals, whose private half is for `serve` alone, and one for the record."""
    for purpose in (only,) if only else Purpose:
        private, public = new_signing_key()
        (private_name, for_private), (public_name, for_public) = _PAIRS[purpose]
        _write(folder / private_name, private, 0o600)
        _write(folder / public_name, public, 0o644)
        typer.echo(f"{folder / private_name}: {for_private}")
        typer.echo(f"{folder / public_name}: {for_public}")


@commands.command("parent")
def make_parent_keys(
    folder: Annotated[Path, typer.Argument(help="Where the files go; files that are there are never replaced.")],
) -> None:
    """Makes the Ed25519 pair of one parent app, whose private half is for its controller alone."""
    private, public = new_signing_key()
    _write(folder / PARENT_PRIVATE, private, 0o600)
    _write(folder / PARENT_PUBLIC, orjson.dumps({"keys": [orjson.loads(public)]}).decode(), 0o644)
    typer.echo(f"{folder / PARENT_PRIVATE}: for arborgate parent (controller.signing_key_file); keep it secret")
    typer.echo(f"{folder / PARENT_PUBLIC}: for the applier (parents[].jwks_file)")


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
