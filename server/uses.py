"""What the applier remembers of each passkey's uses, in a file of its own: by that a copied passkey shows."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..policies.errors import BadConfiguration, Refused, Unrecorded
from ..tools.proposal import Assertion

_KEPT = 256
"""How many uses of one passkey are remembered: far more than proposals are open at once."""


class Use(BaseModel):
    """One use: the authenticator's count, when the approval says it was (seconds since the epoch), and of what it was a
    signature (SHA-256)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    at: float
    signed: str


_uses = TypeAdapter(dict[str, tuple[Use, ...]])


class Uses:
    """The uses of all passkeys. An authenticator counts each one: two that have the same count, or that are counted in
    another order than they were made, come from two devices."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises `BadConfiguration` for a file that can't be read. Without a `path` a restart forgets all."""
        self._path = path
        self._uses: dict[str, tuple[Use, ...]] = {}
        if path is not None and path.exists():
            try:
                self._uses = _uses.validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                raise BadConfiguration(f"{path}: the uses of passkeys can't be read from it") from error

    def note(self, assertion: Assertion, count: int, at: float) -> None:
        """Remembers a use; the same one may come again. Raises `Refused` for one that only a copy can have made, and
        `Unrecorded` when it can't be remembered. Authenticators that keep no count say 0."""
        if count == 0 and not self._uses.get(assertion.credential):
            return
        text = f"{assertion.authenticator_data}.{assertion.client_data}"
        use = Use(count=count, at=at, signed=hashlib.sha256(text.encode()).hexdigest())
        known = self._uses.get(assertion.credential, ())
        if any(one.count == count and one.signed == use.signed for one in known):
            return
        if any(one.count == count or (one.count < count) != (one.at <= at) for one in known):
            raise Refused(
                "This passkey seems to have been copied: its uses are not counted one after the other.",
                detail=f"passkey {assertion.credential}, count {count}",
            )
        self._keep({**self._uses, assertion.credential: (*known, use)[-_KEPT:]})

    def _keep(self, uses: dict[str, tuple[Use, ...]]) -> None:
        if self._path is not None:
            beside = self._path.with_suffix(".new")
            try:
                beside.write_bytes(_uses.dump_json(uses))
                os.replace(beside, self._path)  # noqa: PTH105  # the whole file or the old one
            except OSError as error:
                raise Unrecorded(
                    "A passkey's use can't be remembered, so it does not count yet.", detail=str(error)
                ) from error
        self._uses = uses
