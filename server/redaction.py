"""Redaction: the one engine that results, errors, records, logs and pages pass before they leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import re2

from ..tools.secrets import SHAPES, is_secret_name, redact
from ..tools.text import neutralise

_TELLING = r"pass|pwd|secret|token|credential|key|auth|cookie|string|dsn|kubeconfig|dockerconfigjson"
_STRUCTURES = (
    rf'(?i:"[^"]*(?:{_TELLING})[^"]*":)',
    rf'(?i:"name":"[^"]*(?:{_TELLING}))',
    r'"kind":"Secret"',
    # Anything escaped in JSON, or not plain ASCII: the shapes below could miss what such a text says.
    r"\\|[^\x20-\x7e]",
)
"""What makes an answer worth a closer look, as patterns over its compact JSON."""


class Redactor:
    """Removes secrets by structure (a Secret's data, an environment variable's value), by key name and by shape, and
    makes untrusted text harmless. An answer in which one linear scan finds nothing suspicious passes untouched."""

    def __init__(self, *, text_limit: int = 12_000) -> None:
        self._limit = text_limit
        self._suspicious = re2.compile("|".join([*_STRUCTURES, *(pattern for _, pattern in SHAPES)]))

    def clean(self, value: Any) -> tuple[Any, int]:
        """The JSON value, cleaned, and how many secrets were taken out. The value given is not changed."""
        try:
            dumped = orjson.dumps(value).decode()
        except TypeError:  # half of a surrogate pair somewhere in it
            return self._walk(value, None)
        if len(dumped) <= self._limit and self._suspicious.search(dumped) is None:
            return value, 0
        return self._walk(value, None)

    def clean_text(self, text: str) -> str:
        """One text, cleaned."""
        return self._text(text)[0]

    def _walk(self, value: Any, name: str | None) -> tuple[Any, int]:
        """`name` is the key the value hangs under when that key says "secret", else None."""
        if isinstance(value, str):
            return ("[redacted:named]", 1) if name is not None and value else self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        if isinstance(value, list | tuple):
            items, counts = [], 0
            for item in value:
                cleaned, count = self._walk(item, name)
                items.append(cleaned)
                counts += count
            return items, counts
        if name is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return "[redacted:named]", 1
        return value, 0

    def _mapping(self, value: Mapping[str, Any], name: str | None) -> tuple[dict[str, Any], int]:
        secret_object = value.get("kind") == "Secret"
        # {name: DB_PASSWORD, value: …}: an environment variable, a Helm parameter, a header.
        named = value.get("name")
        secret_pair = isinstance(named, str) and is_secret_name(neutralise(named, self._limit))
        result: dict[str, Any] = {}
        counts = 0
        for raw_key, inner in value.items():
            key = neutralise(raw_key, self._limit)  # judged as it will be read
            hidden = (
                name is not None
                or (secret_object and key in ("data", "stringData"))
                or (secret_pair and key == "value")
                or is_secret_name(key)
            )
            clean_key, key_count = redact(key)
            result[clean_key], count = self._walk(inner, key if hidden else None)
            counts += count + key_count
        return result, counts

    def _text(self, text: str) -> tuple[str, int]:
        harmless = neutralise(text, self._limit)
        if harmless[:1] in ("{", "["):
            inner, count = self._json(harmless)
            if count:
                return inner, count
        return redact(harmless)

    def _json(self, text: str) -> tuple[str, int]:
        """JSON held in a text (a manifest in an annotation, a document in Redis): its structure says what is secret.
        Where nothing is, the text stays as it was written."""
        try:
            cleaned, count = self._walk(orjson.loads(text), None)
        except (orjson.JSONDecodeError, RecursionError):
            return text, 0
        return orjson.dumps(cleaned).decode(), count
