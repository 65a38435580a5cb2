"""What an app owns in Redis: its key prefixes as policy resources, and keys as text and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...policies.errors import Invalid, Refused
from ...policies.model import Resource, ResourceType
from ..argocd.find import find_app
from ..cuts import LONGEST_WORD, shorten
from ..secrets import holds_secret, redact
from ..text import disarm
from ..tool import Context

_GLOB = re.compile(rb"([*?\[\]\\^-])")
_HEX = "hex:"
_PLAIN = re.compile(r"[\w:.{}/-]{1,80}", re.ASCII)
"""What of a declared prefix our own sentences may say: it comes from an annotation."""


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys under one prefix that an app owns in one source."""

    source: str
    prefix: str
    resource: Resource

    def holds(self, key: bytes) -> bool:
        return key.startswith(self.prefix.encode())


def find_keyspaces(ctx: Context, app: str) -> list[Keyspace]:
    """What the visible app of this name owns, as declared on it or in the settings.

    Raises what `find_app` raises, and `Refused` when it owns nothing in Redis. An empty prefix owns nothing: it would
    be everybody's keys."""
    node = find_app(ctx, app)
    declared = (text.partition(":") for text in node.app.owned.redis)
    found = [_make_keyspace(source, prefix, node.resource) for source, _, prefix in declared if source and prefix]
    if not found:
        raise Refused(
            f"{node.app.id.name} declares no keys in Redis.",
            field="app",
            hint="The annotation arborgate.dev/redis on the Application (source:prefix), or the settings, declare them.",
        )
    return found


def choose_keyspace(keyspaces: Iterable[Keyspace], source: str, key: bytes) -> Keyspace | None:
    """The keyspace of a key in that source (`""`: in any): the one with the longest prefix."""
    holding = [one for one in keyspaces if source in ("", one.source) and one.holds(key)]
    return max(holding, key=lambda one: len(one.prefix), default=None)


def narrow(keyspaces: Sequence[Keyspace], prefix: str) -> list[tuple[Keyspace, bytes]]:
    """The keyspaces to list and under which prefix: their own, or the narrower one asked for (field `prefix`)."""
    if not prefix:
        return [(one, one.prefix.encode()) for one in keyspaces]
    holding = choose_keyspace(keyspaces, "", prefix.encode())
    if holding is None:
        raise _not_owned(keyspaces, "prefix")
    return [(one, prefix.encode()) for one in keyspaces if one.prefix == holding.prefix]


def find_key(keyspaces: Sequence[Keyspace], text: str) -> tuple[Keyspace, bytes]:
    """The key that the text means, in the keyspace that holds it; raises `Invalid` (field `key`) when none does."""
    for key in _read_key(text):
        holding = choose_keyspace(keyspaces, "", key)
        if holding is not None:
            return holding, key
    raise _not_owned(keyspaces, "key")


def match_prefix(prefix: bytes) -> bytes:
    """The glob-style pattern of the keys that start with exactly these bytes."""
    return _GLOB.sub(rb"\\\1", prefix) + b"*"


def show_key(key: bytes) -> str:
    """The key as text that `find_key` understands: itself, or `hex:…` where that would not be shown as it
    is. Of one that holds a secret only the rest is told."""
    text = _decode(key)
    if text is not None and text.isprintable() and disarm(text) == text:
        return text
    plain, secrets = redact(disarm(key.decode("utf-8", "replace")))
    return plain if secrets else f"{_HEX}{key.hex()}"  # in hexadecimal, nobody would know a secret for one


def show_value(value: bytes | str | float, limit: int) -> str:
    """A value as text of at most about `limit` characters; what is not text is told by its size and first bytes."""
    if not isinstance(value, bytes):
        return str(value)
    text = _decode(value)
    if text is None or any(char < " " and char not in "\t\r\n" for char in text):
        if holds_secret(disarm(value.decode("utf-8", "ignore"))):
            return f"(binary, {len(value)} bytes)"
        return f"(binary, {len(value)} bytes: {value[:16].hex(' ')}{' …' if len(value) > 16 else ''})"
    return text if len(text) <= limit + LONGEST_WORD else f"{shorten(text, limit + 1)} ({len(value)} bytes)"


def _make_keyspace(source: str, prefix: str, app: Resource) -> Keyspace:
    attributes = (("prefix", prefix), ("source", source))
    return Keyspace(source, prefix, Resource(ResourceType.KEYSPACE, f"{source}:{prefix}", (app,), attributes))


def _read_key(text: str) -> Iterable[bytes]:
    yield text.encode()
    if text.startswith(_HEX):
        try:
            yield bytes.fromhex(text.removeprefix(_HEX))
        except ValueError:
            return


def _not_owned(keyspaces: Sequence[Keyspace], field: str) -> Invalid:
    owned = ", ".join(sorted({one.prefix for one in keyspaces if _PLAIN.fullmatch(one.prefix)}))
    hint = f"It owns what starts with {owned}." if owned else "app_get says what it owns."
    return Invalid(f"The app does not own this {field}.", field=field, hint=hint)


def _decode(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
