"""Page cursors, encrypted (RFC 7516, direct A256GCM) and bound to one caller, agent and purpose."""

from __future__ import annotations

from typing import Any

import orjson
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from redis.exceptions import RedisError

from ..policies.errors import Invalid
from ..policies.model import Caller
from .state import State

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_LIMIT = 2_048


class Cursors:
    """Seals and opens cursors. Replicas share the key through the state Redis, so that a page begun on one goes on at
    another; while Redis is away each has its own, and only such a hand-over asks the reader to begin again."""

    def __init__(self, key: OctKey) -> None:
        self._key = key

    @classmethod
    async def shared(cls, state: State) -> Cursors:
        own = OctKey.generate_key(256)
        secret = str(own.as_dict(private=True)["k"])
        name = state.key("cursors", "key")
        try:
            await state.redis.set(name, secret, nx=True)
            held = await state.redis.get(name)
        except RedisError:
            return cls(own)
        return cls(OctKey.import_key({"kty": "oct", "k": str(held)}))

    def seal(self, caller: Caller, purpose: str, position: str) -> str:
        body = orjson.dumps([caller.key, caller.agent, purpose, position])
        return jwe.encrypt_compact(_HEADER, body, self._key)

    def open(self, caller: Caller, purpose: str, cursor: str) -> str:
        """The position; raises `Invalid` for a cursor that is broken, another caller's or another question's."""
        try:
            if len(cursor) > _LIMIT:
                raise ValueError("too long")
            opened = jwe.decrypt_compact(cursor, self._key, algorithms=list(_HEADER.values()))
            body: Any = orjson.loads(opened.plaintext or b"")
            *bound, position = body
        except (JoseError, ValueError, TypeError) as error:
            raise _bad_cursor() from error
        if bound != [caller.key, caller.agent, purpose]:
            raise _bad_cursor()
        return str(position)


def _bad_cursor() -> Invalid:
    return Invalid(
        "The cursor is not one that was given to you for this question.",
        field="cursor",
        hint="Leave `cursor` out to begin at the first page.",
    )
