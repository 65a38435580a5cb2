"""Keyed fingerprints of secrets: two places that hold the same one can be told to be the same, on every replica."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from redis.exceptions import RedisError

from ..policies.errors import BadConfiguration
from ..tools.randomness import looks_random
from .state import State

_LEAST_KEY = 32
_SHOWN = 8


class Fingerprints:
    """HMAC-SHA-256 under one key, the first 32 bits in hex.

    Only of what a machine drew. Agents can have texts of their own redacted (a reason they write into a proposal, a key
    they write into Redis through the app), so a fingerprint of a person's password would tell them whether a guess was
    right, and let them try a dictionary. What `looks_random` has far more than the 60 bits that anybody could try here; it
    is no matter then that somebody who already holds the secret can learn where else it is used."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    async def shared(cls, state: State, key_file: Path | None = None) -> Fingerprints | None:
        """With the key of the file, else with the one that replicas share in the state Redis. None while that is away:
        better no fingerprint than one that differs between replicas and says "not the same".

        Raises `BadConfiguration` when the file can't be read or holds too little."""
        if key_file is not None:
            return cls(_read_key(key_file))
        name = state.key("redaction", "key")
        try:
            await state.redis.set(name, secrets.token_hex(_LEAST_KEY), nx=True)
            held = await state.redis.get(name)
        except (RedisError, OSError):
            return None
        return cls(held.encode() if isinstance(held, str) else bytes(held)) if held else None

    def of(self, secret: str) -> str:
        """Eight hex digits; empty for what could be guessed."""
        if not looks_random(secret):
            return ""
        return hmac.digest(self._key, secret.encode("utf-8", "replace"), "sha256").hex()[:_SHOWN]


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise BadConfiguration(f"redaction.fingerprint_key_file: can't be read: {error.strerror}") from error
    if len(key) < _LEAST_KEY:
        raise BadConfiguration(
            f"redaction.fingerprint_key_file: holds {len(key)} bytes; at least {_LEAST_KEY} are needed"
        )
    return key
