"""The settings of parent apps: whose approvals the applier takes, and what `arborgate parent` runs with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from .section import Seconds, Section


class ParentSettings(Section):
    """A parent app that may decide on proposals for the apps below it, and where its public keys are: one of the three.

    `annotation` believes whoever can edit that Application."""

    app: str = Field(description="cluster/namespace/name, or a name that only one app has")
    jwks_file: Path | None = Field(default=None, description="its public keys, a JWK Set; read again when it changes")
    jwks: Mapping[str, Any] | None = Field(default=None, description="the same, right here")
    annotation: bool = Field(default=False, description="the same, in arborgate.dev/parent-jwks of the Application")
    alone: bool = Field(default=True, description="whether a low risk needs nobody else; a high one needs a person")

    @model_validator(mode="after")
    def _has_keys_from_one_place(self) -> Self:
        if sum((self.jwks_file is not None, self.jwks is not None, self.annotation)) != 1:
            raise ValueError("give one of jwks_file, jwks and annotation")
        return self


class ControllerSettings(Section):
    """What `arborgate parent` runs with: whom it speaks for, its private key, and what it may approve."""

    app: str = Field(description="the parent app, cluster/namespace/name")
    signing_key_file: Path = Field(description="its private JWK (Ed25519), from `arborgate keys parent`")
    template_file: Path = Field(description="what it approves, YAML")
    life: Seconds = Field(default=3_600.0, le=86_400, description="how long an approval of its own is good for")
    patience: Seconds = Field(default=60.0, description="how long a proposal waits while its view is out of date")
