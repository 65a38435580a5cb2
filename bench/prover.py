"""A client that holds a key: proofs of possession (RFC 9449) for the server that is measured."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time

from joserfc import jwt
from joserfc.jwk import ECKey

from arborgate.server.identity.presenting import Presented, Scheme


class Prover:
    """Makes proofs for POSTs to one URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._key = ECKey.generate_key("P-256")
        self.thumbprint = self._key.thumbprint()

    def prove(self, token: str) -> Presented:
        """The token's one proof for one request, now."""
        header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": self._key.as_dict(private=False)}
        digest = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        claims = {
            "jti": secrets.token_urlsafe(16),
            "htm": "POST",
            "htu": self._url,
            "iat": int(time.time()),
            "ath": digest,
        }
        return Presented(Scheme.DPOP, jwt.encode(header, claims, self._key), "POST", self._url)
