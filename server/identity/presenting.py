"""How a token is presented: what a request brings besides the token itself, read from its headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from starlette.types import Scope

from .flaws import Flaw, Unauthenticated


class Scheme(StrEnum):
    """The scheme of the Authorization header."""

    BEARER = "bearer"
    DPOP = "dpop"


@dataclass(frozen=True, slots=True)
class Presented:
    """What comes with a token. `proof` is the DPoP header as it came, `method` and `url` what it must be for (`url`
    is the public one, without query and fragment); `certificate` is the client's, DER, from a trusted proxy."""

    scheme: Scheme = Scheme.BEARER
    proof: str = ""
    method: str = ""
    url: str = ""
    certificate: bytes = b""


BEARER = Presented()
"""A bare bearer token."""


def read_token(scope: Scope, public_url: str) -> tuple[str, Presented]:
    """The token of the one Authorization header and how it is presented (RFC 6750 section 2.1, RFC 9449 section 7.1);
    never from a query or a body. `("", BEARER)` when there is none. Raises `Unauthenticated`."""
    header = proof = b""
    headers = proofs = 0
    for name, value in scope["headers"]:
        if name == b"authorization":
            header, headers = value, headers + 1
        elif name == b"dpop":
            proof, proofs = value, proofs + 1
    if not headers:
        return "", BEARER
    scheme, _, token = header.decode("latin-1").partition(" ")
    if headers > 1:
        raise Unauthenticated(Flaw.REQUEST)
    token = token.strip()
    match scheme.lower():
        case Scheme.BEARER:
            return token, BEARER
        case Scheme.DPOP:
            if proofs > 1:
                raise Unauthenticated(Flaw.PROOF_FORMAT, detail="more than one DPoP header")
            url = f"{public_url}{scope['path']}"
            return token, Presented(Scheme.DPOP, proof.decode("latin-1"), scope["method"], url)
        case _:  # a scheme of somebody else's is no credential here (RFC 6750 section 3.1)
            return "", BEARER
