"""Whoever proves: DPoP proofs, good and odd, made with any key for any request."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from arborgate.server.identity.presenting import Presented, Scheme

URL = "https://arborgate.test/mcp"
NOW = 1_900_000_000.0

Key = ECKey | OKPKey | RSAKey


def encode(value: object) -> str:
    """Base64url without padding, of text, bytes or JSON."""
    text = value if isinstance(value, str | bytes) else json.dumps(value)
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def without(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without what is None."""
    return {name: value for name, value in values.items() if value is not None}


class Clock:
    """Time as the test has it."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Prover:
    """A client with a key of its own, whose proofs are signed by `algorithm` whatever their header says."""

    def __init__(self, key: Key | None = None, algorithm: str = "ES256") -> None:
        self.key = key or ECKey.generate_key("P-256")
        self._algorithm = algorithm

    @cached_property
    def jwk(self) -> dict[str, Any]:
        return dict(self.key.as_dict(private=False))

    @property
    def thumbprint(self) -> str:
        return self.key.thumbprint()

    def prove(self, token: str = "", *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A proof for a POST to `URL` at `NOW`; None takes a claim or a header away."""
        head = without({"typ": "dpop+jwt", "alg": self._algorithm, "jwk": self.jwk, **(header or {})})
        ath = encode(sha256(token.encode()).digest()) if token else None
        good = {"jti": secrets.token_urlsafe(16), "htm": "POST", "htu": URL, "iat": int(NOW), "ath": ath}
        return self.seal(head, without({**good, **claims}))

    def seal(self, header: object, payload: object) -> str:
        """Just these two parts, signed; text and bytes are taken as they are."""
        signing = f"{encode(header)}.{encode(payload)}"
        algorithm = JWSRegistry.algorithms["Ed25519" if self._algorithm == "EdDSA" else self._algorithm]
        return f"{signing}.{encode(algorithm.sign(signing.encode(), self.key))}"


def present(proof: str, *, url: str = URL, method: str = "POST") -> Presented:
    return Presented(Scheme.DPOP, proof, method, url)
