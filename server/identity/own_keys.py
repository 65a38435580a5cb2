"""The keys that Arborgate signs its own tokens with: each replica has its own, and all know each other's public halves."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ...policies.errors import Unavailable
from ..state import State, reaching_state

logger = logging.getLogger(__name__)

JWKS_PATH: Final = "/.well-known/jwks.json"
ALGORITHM: Final = "ES256"
LEEWAY_SECONDS: Final = 10.0
"""How much the clocks of replicas may differ."""

_MAX_AGE_SECONDS: Final = 60.0
"""After how long the published keys are read again; a key that was taken away there verifies no longer than this."""
_READS: Final = 10
"""How often an unknown key is looked for, all askers together: so many times at once, and as often each second."""
_KEPT_SECONDS: Final = 3_600 + 2 * LEEWAY_SECONDS
"""For how long Redis keeps the keys after the last signature: as long as any replica's token may live."""
_SHOWN_SECONDS: Final = 5.0
"""How old the keys may be that are shown to the world."""
_KID = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class _Signing:
    """A private key, which never leaves this process; `until` (seconds since the epoch) is when it stops signing."""

    key: ECKey
    kid: str
    public: Mapping[str, str | list[str]]
    until: float


class OwnKeys:
    """Signs with a key that is replaced every `rotate` seconds; its public half stays in Redis until the last token that
    it signed has ended, so neither a rotation nor a restart ends a token. As a `KeySource` it knows all replicas' keys.

    Whoever can write to the state Redis could publish a key there: what these keys vouch for is therefore little (one
    app, on `/mcp` alone, no approval). `clock` is in seconds since the epoch."""

    def __init__(self, state: State, *, rotate: float, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._name = state.key("issuer-keys")
        self._rotate = rotate
        self._clock = clock
        self._signing: _Signing | None = None
        self._keys: dict[str, tuple[ECKey, float]] = {}
        self._own: dict[str, tuple[ECKey, float]] = {}
        self._set = KeySet([])
        self._generation = 0
        self._read_at = self._began = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._failed = False
        self._budget = float(_READS)
        self._filled = clock()

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def fresh(self) -> bool:
        return self._clock() - self._read_at < _MAX_AGE_SECONDS

    async def find(self, kid: str | None) -> KeySet | None:
        """The keys of all replicas, if one of them has this `kid`; raises `Unavailable` when nobody can tell.

        A `kid` that no replica would make costs no Redis, and one that is unknown costs it little, however often it is
        asked for. While Redis is away known keys stay in use."""
        if kid is None or not _KID.fullmatch(kid):
            return None
        if kid in self._keys:
            if not self.fresh and self._under_way() is None:
                self._begin()
            return self._set
        await self._look_for(kid)
        if kid in self._keys:
            return self._set
        if self._failed:
            raise Unavailable("Arborgate's own keys can't be read right now.", hint="Try again in a moment.")
        return None

    async def sign(self, claims: Mapping[str, Any], *, ends: float) -> str:
        """A JWT of these claims that is valid until `ends`, once every replica can verify it; raises `Unavailable`."""
        signing = self._current()
        until = ends + LEEWAY_SECONDS
        await self._publish(signing, until)
        kept = self._own.get(signing.kid, (signing.key, 0.0))[1]
        self._own[signing.kid] = (signing.key, max(until, kept))
        self._know({**self._keys, **self._own})
        header = {"alg": ALGORITHM, "kid": signing.kid, "typ": "at+jwt"}
        return jws.serialize_compact(header, orjson.dumps(claims), signing.key, algorithms=[ALGORITHM])

    def routes(self) -> list[BaseRoute]:
        return [Route(JWKS_PATH, self._show)]

    async def close(self) -> None:
        """Returns once nothing is under way any more."""
        if (reading := self._under_way()) is not None:
            await asyncio.wait({reading})

    async def _show(self, _request: Request) -> Response:
        """The public keys of all replicas (RFC 7517)."""
        old = self._clock() - self._began > _SHOWN_SECONDS
        if (reading := self._under_way() or (self._begin() if old else None)) is not None:
            await asyncio.wait({reading})
        if self._failed and not self._keys:
            return JSONResponse({}, 503, headers={"Cache-Control": "no-store", "Retry-After": "1"})
        shown = [_public(key, kid) for kid, (key, _) in sorted(self._keys.items())]
        return JSONResponse({"keys": shown}, headers={"Cache-Control": "max-age=60"})

    def _current(self) -> _Signing:
        now = self._clock()
        if self._signing is None or self._signing.until <= now:
            key = ECKey.generate_key("P-256")
            kid = key.thumbprint()
            self._signing = _Signing(key, kid, _public(key, kid), now + self._rotate)
        return self._signing

    async def _publish(self, signing: _Signing, until: float) -> None:
        """Puts the key among the published ones, for as long as the token: each time, since Redis may have lost it."""
        kept = max(until, self._own.get(signing.kid, (None, 0.0))[1])
        with reaching_state():
            async with self._state.redis.pipeline(transaction=True) as pipe:
                pipe.hset(self._name, signing.kid, orjson.dumps({"jwk": signing.public, "until": kept}).decode())
                pipe.pexpire(self._name, int(_KEPT_SECONDS * 1_000))  # other replicas' tokens may live longer than this
                await pipe.execute()

    async def _look_for(self, kid: str) -> None:
        """Reads until the key is there, or was not there at a moment after it was asked for."""
        asked = self._clock()
        while kid not in self._keys:
            reading = self._under_way() or self._begin()
            if reading is None:
                return
            began = self._began
            await asyncio.wait({reading})  # which is not ended by one who waits going away
            if began >= asked:
                return

    def _under_way(self) -> asyncio.Task[None] | None:
        return self._reading if self._reading is not None and not self._reading.done() else None

    def _begin(self) -> asyncio.Task[None] | None:
        """A new read of the published keys, or None when the budget is spent."""
        now = self._clock()
        self._budget = min(_READS, self._budget + max(now - self._filled, 0.0) * _READS)
        self._filled = now
        if self._budget < 1:
            return None
        self._budget -= 1
        self._began = now
        self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        began = self._began
        try:
            with reaching_state():
                # redis-py's types know no client that answers in text
                published = cast("dict[str, str]", await self._state.redis.hgetall(self._name))
                found = {kid: key for kid, text in published.items() if (key := _parse(kid, text)) is not None}
                now = self._clock()
                if ended := [kid for kid in published if kid not in found or found[kid][1] <= now]:
                    await self._state.redis.hdel(self._name, *ended)
        except Unavailable as error:
            logger.warning("the published keys can't be read: %s", error.detail)
            self._failed = True
            return
        self._own = {kid: each for kid, each in self._own.items() if each[1] > now}
        self._know({kid: each for kid, each in found.items() if each[1] > now} | self._own)
        self._read_at, self._failed = began, False

    def _know(self, keys: dict[str, tuple[ECKey, float]]) -> None:
        changed = keys.keys() != self._keys.keys()
        self._keys = keys
        if changed:
            public: list[Key] = [ECKey.import_key(_public(key, kid)) for kid, (key, _) in keys.items()]
            self._set = KeySet(public)
            self._generation += 1


def _public(key: ECKey, kid: str) -> dict[str, str | list[str]]:
    whole = key.as_dict(private=False)
    return {
        "kty": "EC",
        "crv": str(whole["crv"]),
        "x": str(whole["x"]),
        "y": str(whole["y"]),
        "kid": kid,
        "use": "sig",
        "alg": ALGORITHM,
    }


def _parse(kid: str, text: str) -> tuple[ECKey, float] | None:
    """A published key and when it ends; None for what no replica would publish."""
    try:
        said = orjson.loads(text)
        key, until = ECKey.import_key(said["jwk"]), float(said["until"])
        if key.is_private or key.curve_name != "P-256" or key.thumbprint() != kid:
            raise ValueError("not a public key of that name")
    except (JoseError, KeyError, TypeError, ValueError) as error:
        logger.warning("a published key can't be used: %s", type(error).__name__)
        return None
    return key, until
