"""The signing keys of an issuer: fetched when needed, kept while the issuer is away, never fetched on a stranger's whim."""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, import_key

from ...policies.errors import Unavailable
from .published import Published
from .settings import IssuerSettings

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.25
"""How long a call whose key is known waits for newer keys of its issuer."""
_FIRST_RETRY_SECONDS = 1.0
"""The time between two fetches in the long run while there are no keys at all."""
_AT_ONCE = 3
"""Fetches without a pause: for the first keys, for a rotation that comes right after, and for one that a fetch under
way was too early to see."""
_LONGEST_SECONDS = 5.0
"""How long a call whose key is unknown may wait: metadata and keys together."""
_MOST_KEYS = 64
_MOST_ABSENT = 1_000
_CURVES = {"EC": ("P-256", "P-384"), "OKP": ("Ed25519",)}
_RSA_BITS = range(2_048, 8_193)


class KeySource(Protocol):
    """Where the keys of one issuer come from. `generation` counts up when they change; while `fresh`, what they
    vouched for need not be asked again."""

    @property
    def generation(self) -> int: ...

    @property
    def fresh(self) -> bool: ...

    async def find(self, kid: str | None) -> KeySet | None:
        """The key set, if it holds the key (or, without a `kid`, if there is one); None when it does not.

        Raises `Unavailable` when nobody can tell."""
        ...


class Keys:
    """The signing keys of one issuer: fetched when first needed and kept when the issuer is away. For an unknown `kid`
    they are fetched again, however many callers ask at once, from a budget: `_AT_ONCE` fetches, which fills up by one
    per `min_interval` seconds."""

    def __init__(
        self,
        issuer: IssuerSettings,
        client: httpx2.AsyncClient,
        *,
        max_age: float,
        min_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._published = Published(issuer, client)
        self._max_age = max_age
        self._min_interval = min_interval
        self._clock = clock
        self._keys: KeySet | None = None
        self._kids: frozenset[str | None] = frozenset()
        self._fetched = self._began = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._failed = False
        self._budget = float(_AT_ONCE)
        self._filled = clock()
        self._absent: OrderedDict[str | None, float] = OrderedDict()
        self._generation = 0

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def fresh(self) -> bool:
        """Whether the keys are younger than `max_age`: what they vouched for need not be asked again."""
        return self._clock() - self._fetched < self._max_age

    async def find(self, kid: str | None) -> KeySet | None:
        """The key set, if it holds the key (or, without a `kid`, if there is one); None when it does not.

        Keys that are known are not kept waiting for by a slow issuer: they are used while newer ones are fetched.
        Raises `Unavailable` when the key is unknown and the issuer could not be asked."""
        if kid in self._kids:
            await self._refresh()
        elif not self._was_absent(kid):
            await self._look_for(kid)
        if kid in self._kids:
            return self._keys
        if self._failed:
            raise Unavailable(
                "The keys of the token's issuer can't be fetched right now.", detail=f"keys of {self._issuer.issuer}"
            )
        return None

    async def _refresh(self) -> None:
        """Begins to fetch newer keys when it is time, and gives them a moment to come."""
        now = self._clock()
        if now - self._fetched < self._max_age:
            return
        if self._under_way() is None and now - self._began < self._min_interval:
            return
        fetching = self._under_way() or self._begin()
        left = self._began + _PATIENCE_SECONDS - now
        if fetching is not None and left > 0:
            await asyncio.wait({fetching}, timeout=left)

    async def _look_for(self, kid: str | None) -> None:
        """Fetches until the key is there, or was not there at a moment after it was asked for.

        A fetch under way may have begun before the issuer had the key, so one more may have to follow it."""
        asked = self._clock()
        while kid not in self._kids:
            fetching = self._under_way() or self._begin()
            if fetching is None:
                return
            began = self._began
            await asyncio.wait({fetching})  # which is not ended by one who waits going away
            if began >= asked:
                break
        if kid not in self._kids and not self._failed:
            self._absent[kid] = self._clock() + self._min_interval
            if len(self._absent) > _MOST_ABSENT:
                self._absent.popitem(last=False)

    def _was_absent(self, kid: str | None) -> bool:
        """Whether a key was looked for in vain so lately that nobody need wait or ask for it again."""
        return self._absent.get(kid, float("-inf")) > self._clock()

    def _under_way(self) -> asyncio.Task[None] | None:
        return self._fetching if self._fetching is not None and not self._fetching.done() else None

    def _begin(self) -> asyncio.Task[None] | None:
        """A new fetch, or None when the budget is spent."""
        now = self._clock()
        interval = self._min_interval if self._keys is not None else min(self._min_interval, _FIRST_RETRY_SECONDS)
        self._budget = min(_AT_ONCE, self._budget + (now - self._filled) / interval)
        self._filled = now
        if self._budget < 1:
            return None
        self._budget -= 1
        self._began = now
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        began = self._began
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                url = self._issuer.jwks_url or await self._published.find("jwks_uri")
                _, document = await self._published.fetch("GET", url)
            keys = _signing_keys(document["keys"])
        except Exception as error:  # the issuer is away or answers nonsense, in whatever way
            # What is known stays in use, unknown keys stay unknown.
            logger.warning("the keys of %s can't be fetched: %s", self._issuer.issuer, type(error).__name__)
            self._failed = True
            return
        self._keys = KeySet(keys)
        self._kids = frozenset({key.kid for key in keys} | ({None} if len(keys) == 1 else set()))
        self._fetched, self._failed = began, False
        self._generation += 1


def _signing_keys(published: Sequence[Any]) -> list[Key]:
    """The public keys for signatures among those that an issuer publishes; one that is none costs no other."""
    if len(published) > _MOST_KEYS:
        logger.warning("%d keys are published: the first %d count", len(published), _MOST_KEYS)
    keys = []
    for key in published[:_MOST_KEYS]:
        if not isinstance(key, dict) or key.get("use", "sig") != "sig":
            continue
        try:
            if not _is_trustworthy(key):
                raise ValueError("weak, of a kind that is not in use, or no secret any more")
            keys.append(import_key(key))
        except (JoseError, KeyError, TypeError, ValueError) as error:
            logger.info("a published key can't be used: %s", type(error).__name__)
    return keys


def _is_trustworthy(key: dict[str, Any]) -> bool:
    """Whether only its holder can sign with the key: it is asymmetric and strong, and its private half not published."""
    if "d" in key or "verify" not in key.get("key_ops", ["verify"]):
        return False
    if key["kty"] == "RSA":
        modulus = key["n"] + "=" * (-len(key["n"]) % 4)
        return int.from_bytes(urlsafe_b64decode(modulus)).bit_length() in _RSA_BITS
    return key["crv"] in _CURVES.get(key["kty"], ())
