"""Proofs of possession (RFC 9449): a key of this machine for one server, and the proofs that it signs."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from joserfc import jws
from joserfc.jwk import ECKey

from .entries import origin_of

ALGORITHM = "ES256"
_CLOCKS_DIFFER = 2.0
_LONGEST_NONCE = 1_024


def make_key() -> dict[str, str]:
    """A new private key, as a JWK."""
    return {name: str(value) for name, value in ECKey.generate_key("P-256").as_dict(private=True).items()}


class Prover:
    """Signs proofs with one key. It knows the nonces that servers gave out and how far their clocks are from ours."""

    def __init__(self, key: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        self.key = key
        self._key = ECKey.import_key(dict(key))
        self._clock = clock
        self._header: dict[str, Any] = {
            "typ": "dpop+jwt",
            "alg": ALGORITHM,
            "jwk": {name: key[name] for name in ("kty", "crv", "x", "y")},
        }
        self._nonces: dict[str, str] = {}
        self._ahead: dict[str, float] = {}
        self._hash = ("", "")

    @property
    def thumbprint(self) -> str:
        """RFC 7638, base64url."""
        return self._key.thumbprint()

    def prove(self, method: str, url: str, token: str = "") -> str:
        """A proof for one request; with the token that goes along, if one does."""
        origin = origin_of(url)
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": int(self._clock() + self._ahead.get(origin, 0.0)),
        }
        if token:
            claims["ath"] = self._hash_token(token)
        if nonce := self._nonces.get(origin):
            claims["nonce"] = nonce
        return jws.serialize_compact(self._header, orjson.dumps(claims), self._key, algorithms=[ALGORITHM])

    def learn_nonce(self, url: str, nonce: str | None) -> bool:
        """Takes in the `DPoP-Nonce` of an answer from this URL; whether there was one."""
        if not nonce or len(nonce) > _LONGEST_NONCE:
            return False
        self._nonces[origin_of(url)] = nonce
        return True

    def learn_time(self, url: str, date: str | None) -> bool:
        """Takes in the `Date` of an answer that refused a proof; whether the clocks differ, so that it may be why."""
        try:
            ahead = parsedate_to_datetime(date or "").timestamp() - self._clock()
        except ValueError:
            return False
        if abs(ahead) < _CLOCKS_DIFFER:
            return False
        self._ahead[origin_of(url)] = ahead
        return True

    def _hash_token(self, token: str) -> str:
        if self._hash[0] != token:
            digest = hashlib.sha256(token.encode()).digest()
            self._hash = (token, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())
        return self._hash[1]
