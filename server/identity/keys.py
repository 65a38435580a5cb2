"""The signing keys of an issuer: fetched when needed, kept while the issuer is away, never fetched on a stranger's whim."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any, Protocol

import httpx2
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key

from ..section import is_https_or_loopback
from .settings import IssuerSettings

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.25
"""How long a call whose key is known waits for newer keys of its issuer."""
_FIRST_RETRY_SECONDS = 1.0
"""The least time between two fetches while there are no keys at all."""


class KeySource(Protocol):
    """Where the keys of one issuer come from. `generation` counts up when they change; while `fresh`, what they
    vouched for need not be asked again."""

    @property
    def generation(self) -> int: ...

    @property
    def fresh(self) -> bool: ...

    async def find(self, kid: str | None) -> KeySet | None:
        """The key set, if it holds the key (or, without a `kid`, if there is one); None when it does not."""
        ...


class Keys:
    """The signing keys of one issuer: fetched when first needed, kept when the issuer is away, and fetched again for
    an unknown `kid` at most once per `min_interval` seconds, however many callers ask at once."""

    def __init__(
        self, issuer: IssuerSettings, client: httpx2.AsyncClient, *, max_age: float, min_interval: float
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._max_age = max_age
        self._min_interval = min_interval
        self._keys: KeySet | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._generation = 0

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def fresh(self) -> bool:
        """Whether the keys are younger than `max_age`: what they vouched for need not be asked again."""
        return time.monotonic() - self._fetched < self._max_age

    async def find(self, kid: str | None) -> KeySet | None:
        """The key set, if it holds the key (or, without a `kid`, if there is one); None when it does not.

        Keys that are known are not kept waiting for by a slow issuer: they are used while newer ones are fetched."""
        if self._holds(kid) and self.fresh:
            return self._keys
        if (fetching := self._start_fetch()) is not None:
            await asyncio.wait({fetching}, timeout=_PATIENCE_SECONDS if self._holds(kid) else None)
        return self._keys if self._holds(kid) else None

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one when it is time: one for all who ask, ended by none of them going away."""
        if self._fetching is None or self._fetching.done():
            interval = self._min_interval if self._keys is not None else min(self._min_interval, _FIRST_RETRY_SECONDS)
            if time.monotonic() - self._tried < interval:
                return None
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    def _holds(self, kid: str | None) -> bool:
        if self._keys is None:
            return False
        return len(self._keys.keys) == 1 if kid is None else any(key.kid == kid for key in self._keys.keys)

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            url = self._issuer.jwks_url or await self._discover()
            response = await self._client.get(url)
            response.raise_for_status()
            document: dict[str, Any] = orjson.loads(response.content)
            self._keys = KeySet(_signing_keys(document["keys"]))
        except Exception as error:  # the issuer is away or answers nonsense, in whatever way
            # What is known stays in use, unknown keys stay unknown.
            logger.warning("the keys of %s can't be fetched: %s", self._issuer.issuer, type(error).__name__)
            return
        self._fetched = self._tried
        self._generation += 1

    async def _discover(self) -> str:
        """`jwks_uri` from the issuer's metadata (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3)."""
        issuer = httpx2.URL(self._issuer.issuer)
        path = issuer.path.rstrip("/")
        paths = (f"{path}/.well-known/openid-configuration", f"/.well-known/oauth-authorization-server{path}")
        for candidate in paths:
            response = await self._client.get(issuer.copy_with(path=candidate))
            if response.status_code == 200:
                metadata: dict[str, Any] = orjson.loads(response.content)
                if metadata.get("issuer") != self._issuer.issuer:
                    raise ValueError("the metadata names another issuer")
                return _trustworthy(str(metadata["jwks_uri"]))
        raise ValueError("the issuer has no metadata")


def _signing_keys(published: Iterable[Any]) -> list[Any]:
    """The public keys for signatures among those that an issuer publishes; one that is none costs no other."""
    keys = []
    for key in published:
        if not isinstance(key, dict) or key.get("use", "sig") != "sig" or key.get("kty") == "oct":
            continue
        try:
            keys.append(import_key(key))
        except (JoseError, KeyError, TypeError, ValueError) as error:
            logger.info("a published key can't be used: %s", type(error).__name__)
    return keys


def _trustworthy(url: str) -> str:
    """The URL, when what comes from there can't be forged on its way; raises ValueError."""
    if not is_https_or_loopback(url):
        raise ValueError("the keys are neither behind https nor on loopback")
    return url
