"""What a platform team says about its secrets: patterns and names of its own, what is none, where the key is."""

from __future__ import annotations

from pathlib import Path

import re2
from pydantic import Field, field_validator

from ..tools.secret_names import normalise_name, split_words
from ..tools.secret_shapes import Shape
from .section import Section

_LEAST_ALLOWED = 4


class SecretPattern(Section):
    """One kind of secret that is known by its form."""

    kind: str = Field(pattern=r"^[a-z][a-z0-9_]{1,39}$", description="stands in the answer: `[redacted:kind]`")
    pattern: str = Field(description="RE2; with one group, the group is the secret")

    @field_validator("pattern")
    @classmethod
    def _is_re2(cls, value: str) -> str:
        try:
            compiled = re2.compile(value, _quiet())
        except re2.error as error:
            raise ValueError(f"is no RE2 pattern: {error.args[0]!r}") from error
        if compiled.groups > 1:
            raise ValueError(f"has {compiled.groups} groups; at most one, which is the secret: write the others (?:…)")
        if compiled.search(b"") is not None:
            raise ValueError("matches the empty text: it would match everywhere")
        return value


class RedactionSettings(Section):
    """Which secrets are removed besides the known ones, and which texts are none. See docs/redaction.md."""

    patterns: tuple[SecretPattern, ...] = ()
    names: tuple[str, ...] = Field(default=(), description="further names of fields that hold a secret")
    allow: tuple[str, ...] = Field(default=(), description="exact values, or exact names of fields, that are no secret")
    fingerprint_key_file: Path | None = Field(
        default=None, description="32 bytes or more; default: a key that the replicas share in the state Redis"
    )

    @field_validator("names")
    @classmethod
    def _names_have_letters(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if len(normalise_name(value)) < 3:
                raise ValueError(f"{value!r} is too short a name: it would hide too much")
        return values

    @field_validator("allow")
    @classmethod
    def _allows_no_whole_class(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        # `password` would switch off every field of that name, in every source, and nobody would see it happen.
        for value in values:
            words = split_words(value)
            if len(words) < 2 and value.isalpha():
                raise ValueError(f"{value!r} is one word, which would allow far more than one thing: name it exactly")
            if len(value) < _LEAST_ALLOWED:
                raise ValueError(f"{value!r} is too short to be exact")
        return values

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The patterns as shapes."""
        return tuple(Shape(one.kind, one.pattern, one.pattern) for one in self.patterns)


def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options
