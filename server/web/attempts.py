"""Logins under way: sealed into a cookie of the browser that began them, so that strangers' visits leave nothing here."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..state import State, reaching_state
from .sessions import hash_id

ATTEMPT_SECONDS = 600
"""How long a person may take at the provider."""

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_MOST = 4
"""How many logins one browser can have under way (one per tab); a cookie has 4 KiB."""


class Attempt(BaseModel):
    """One login under way: its secrets, the page it is for, and what was asked of the login.

    `again`: the person must be asked anew. `acr_values`: one of these is wanted (OIDC Core section 3.1.2.1)."""

    model_config = ConfigDict(frozen=True)

    state: str
    nonce: str
    verifier: str
    next: str
    begun_at: float
    again: bool = False
    acr_values: tuple[str, ...] = ()


_Sealed = TypeAdapter(tuple[Attempt, ...])


class Attempts:
    """Seals and opens attempts (RFC 7516, direct A256GCM). Replicas share the key through Redis; it is read anew each
    time, since replicas that kept different ones could not finish each other's logins. Every method raises
    `Unavailable` when Redis does not answer."""

    def __init__(self, state: State, *, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock

    async def add(self, held: str, attempt: Attempt) -> str:
        """The cookie's new value: what it held, with one more attempt."""
        key = await self._key()
        return _seal((*self._open(held, key), attempt)[-_MOST:], key)

    async def take(self, held: str, state: str) -> tuple[Attempt | None, str]:
        """The attempt of this `state`, if the cookie holds it and it is not too old; and the cookie without it."""
        key = await self._key()
        there = self._open(held, key)
        rest = tuple(one for one in there if one.state != state)
        return next((one for one in there if one.state == state), None), _seal(rest, key) if rest else ""

    async def finish(self, attempt: Attempt) -> bool:
        """Marks an attempt as finished; False when it was before. Only what the provider vouched for gets here."""
        with reaching_state():
            name = self._state.key("login", "done", hash_id(attempt.state))
            return bool(await self._state.redis.set(name, "1", nx=True, ex=2 * ATTEMPT_SECONDS))

    def _open(self, held: str, key: OctKey) -> tuple[Attempt, ...]:
        """What a cookie holds; nothing, for one that we did not seal."""
        try:
            opened = jwe.decrypt_compact(held, key, algorithms=list(_HEADER.values()))
            attempts = _Sealed.validate_json(opened.plaintext or b"")
        except (JoseError, ValueError, TypeError, ValidationError):
            return ()
        oldest = self._clock() - ATTEMPT_SECONDS
        return tuple(one for one in attempts if one.begun_at > oldest)

    async def _key(self) -> OctKey:
        name = self._state.key("login", "key")
        with reaching_state():
            held = await self._state.redis.get(name)
            if held is None:
                fresh = str(OctKey.generate_key(256).as_dict(private=True)["k"])
                await self._state.redis.set(name, fresh, nx=True)
                held = await self._state.redis.get(name)
        return OctKey.import_key({"kty": "oct", "k": str(held)})


def _seal(attempts: tuple[Attempt, ...], key: OctKey) -> str:
    body = orjson.dumps([one.model_dump(mode="json", exclude_defaults=True) for one in attempts])
    return jwe.encrypt_compact(_HEADER, body, key)
