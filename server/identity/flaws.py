"""Why somebody is not let in: what the record says, and what the challenge may say."""

from __future__ import annotations

from enum import StrEnum

from ...policies.errors import ArborgateError


class Flaw(StrEnum):
    """Why a token or a proof was refused, in a closed vocabulary."""

    ALGORITHM = "algorithm"
    AUDIENCE = "audience"
    CERTIFICATE = "certificate"
    CLAIMS = "claims"
    DENIED = "denied"
    DOWNGRADE = "downgrade"
    EXPIRED = "expired"
    FORMAT = "format"
    HEADER = "header"
    INACTIVE = "inactive"
    ISSUER = "issuer"
    KEY = "key"
    LIFETIME = "lifetime"
    MISSING = "missing"
    NONCE = "nonce"
    NOT_YET = "not_yet"
    PROOF_ALGORITHM = "proof_algorithm"
    PROOF_BINDING = "proof_binding"
    PROOF_FORMAT = "proof_format"
    PROOF_KEY = "proof_key"
    PROOF_MISSING = "proof_missing"
    PROOF_REPLAY = "proof_replay"
    PROOF_SIGNATURE = "proof_signature"
    PROOF_TARGET = "proof_target"
    PROOF_TIME = "proof_time"
    PROOF_TOKEN = "proof_token"  # noqa: S105  # a flaw, no password
    REQUEST = "request"
    SIGNATURE = "signature"
    UNBOUND = "unbound"

    @property
    def of_proof(self) -> bool:
        """Whether the fault lies in the DPoP proof (RFC 9449 section 7.1: `invalid_dpop_proof`)."""
        return self.value.startswith("proof_")


_WORDS = {
    Flaw.ALGORITHM: "the token is signed with an algorithm that is not accepted here",
    Flaw.AUDIENCE: "the token was issued for another audience",
    Flaw.CERTIFICATE: "the token is bound to another client certificate",
    Flaw.CLAIMS: "the token lacks a claim, or has one of the wrong type",
    Flaw.DENIED: "the token or its holder has been shut out",
    Flaw.DOWNGRADE: "the token is bound to a key, so it is of no use without a proof (Authorization: DPoP)",
    Flaw.EXPIRED: "the token has expired",
    Flaw.FORMAT: "the token is not a signed JWT",
    Flaw.HEADER: "the token's header has a parameter that is not accepted here",
    Flaw.INACTIVE: "the token's issuer says that it is not active",
    Flaw.ISSUER: "the token's issuer is not trusted here",
    Flaw.KEY: "the token is signed with a key that its issuer does not publish",
    Flaw.LIFETIME: "the token is good for longer than is accepted here",
    Flaw.MISSING: "an access token is needed",
    Flaw.NONCE: "the proof needs the nonce of the DPoP-Nonce header",
    Flaw.NOT_YET: "the token is not valid yet",
    Flaw.PROOF_ALGORITHM: "the proof is signed with an algorithm that is not accepted here",
    Flaw.PROOF_BINDING: "the proof is by another key than the token is bound to",
    Flaw.PROOF_FORMAT: "the DPoP header is not one proof, a signed JWT with typ dpop+jwt",
    Flaw.PROOF_KEY: "the proof's jwk is not a public key that fits its algorithm",
    Flaw.PROOF_MISSING: "a DPoP proof is needed with this token",
    Flaw.PROOF_REPLAY: "the proof was used before",
    Flaw.PROOF_SIGNATURE: "the proof's signature does not verify",
    Flaw.PROOF_TARGET: "the proof was made for another method or URL",
    Flaw.PROOF_TIME: "the proof is too old, or from the future",
    Flaw.PROOF_TOKEN: "the proof was made for another token",
    Flaw.REQUEST: "there must be one Authorization header, with one token",
    Flaw.SIGNATURE: "the token's signature does not verify",
    Flaw.UNBOUND: "the token is not bound to a key, and here only such tokens are accepted (DPoP)",
}


class Unauthenticated(ArborgateError):
    """No caller: the token or its proof is missing or refused. `flaw` says why, in a closed vocabulary.

    `nonce` is the one to use from now on, where the flaw is `NONCE`."""

    def __init__(self, flaw: Flaw, *, detail: str = "", nonce: str = "") -> None:
        super().__init__(_WORDS[flaw], detail=detail)
        self.flaw = flaw
        self.nonce = nonce
