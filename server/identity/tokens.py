"""Signed JWTs taken apart and judged: form, header, signature, kind and times (RFC 7515, RFC 7519, RFC 8725, RFC 9068)."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet
from joserfc.jws import JWSRegistry

from ...tools.cuts import shorten
from .flaws import Flaw, Unauthenticated
from .settings import IssuerSettings

TOKEN_LIMIT = 16_384
"""The most bytes a token may have: bigger ones are refused before anything is parsed."""
NAME_LIMIT = 512
"""The longest that a `kid`, a subject or another name in a token may be, in characters."""

_DEEPEST = 32

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAST_OF_TWO, _LAST_OF_THREE = _URL_SAFE[::16], _URL_SAFE[::4]
"""What the last character may be, so that the bits that carry nothing are zero: each value has one form."""

_PLAIN_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_TYPES: Mapping[str, frozenset[str]] = {
    "access": frozenset({"at+jwt", "application/at+jwt", "jwt"}),
    "at+jwt": frozenset({"at+jwt", "application/at+jwt"}),
    "id": frozenset({"jwt"}),
}
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "access": (),
    "at+jwt": (
        "sub",
        "client_id",
        "jti",
        "iat",
    ),  # with iss, aud and exp, which every token needs: RFC 9068 section 2.2
    "id": ("sub", "iat"),  # likewise: OpenID Connect Core section 2
}
_FITTING: Mapping[str, tuple[str, str]] = {
    "RS256": ("RSA", ""),
    "PS256": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""Algorithm: the type and the curve of the keys that it is used with."""


@dataclass(frozen=True, slots=True)
class Jwt:
    """A JWT in its parts. `signed` is what the signature is over; nothing is verified yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Times:
    """When a token was issued (0 where it does not say) and when it stops being valid, leeway included; seconds since
    the epoch."""

    issued: float
    expires: float


def take_apart(token: bytes) -> Jwt:
    """The parts of a token in JWS compact serialization, which have one form each; raises `Unauthenticated`."""
    parts = token.split(b".")
    if len(parts) != 3 or not all(parts):
        raise Unauthenticated(Flaw.FORMAT, detail=f"{len(parts)} parts")
    header, claims = (read_object(decode(part)) for part in parts[:2])
    return Jwt(header, claims, token[: token.rindex(b".")], decode(parts[2]))


def decode(part: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2), in the one form that a value has; raises `Unauthenticated`."""
    over = len(part) % 4
    last = part[-1:]
    if (
        part.translate(None, _URL_SAFE)
        or over == 1
        or (over == 2 and last not in _LAST_OF_TWO)
        or (over == 3 and last not in _LAST_OF_THREE)
    ):
        raise Unauthenticated(Flaw.FORMAT, detail="base64url")
    return binascii.a2b_base64(part.translate(_TO_STANDARD) + b"=" * (-len(part) % 4))


def read_object(raw: bytes) -> dict[str, Any]:
    """A JSON object in which no member is there twice (RFC 8725 section 2.4 tells why); raises `Unauthenticated`.

    Two parsers read it: orjson knows what is JSON (no NaN, no half surrogates, no byte order mark), the standard
    library's alone can tell a member that comes twice."""
    try:
        value = orjson.loads(raw)
        if not isinstance(value, dict) or (raw.count(b"{") + raw.count(b"[") > _DEEPEST and _is_deep(value)):
            raise Unauthenticated(Flaw.FORMAT, detail="not a flat JSON object")
        _TWICE.decode(raw.decode())
    except ValueError as error:
        raise Unauthenticated(Flaw.FORMAT, detail="JSON") from error
    return value


def check_header(header: Mapping[str, Any], issuer: IssuerSettings) -> None:
    """Raises `Unauthenticated` unless the header asks for nothing but what the issuer's settings allow."""
    if header.get("alg") not in issuer.algorithms:
        raise Unauthenticated(Flaw.ALGORITHM)
    if not header.keys() <= _PLAIN_HEADERS:
        # Nothing in the token says where its own key is (`jwk`, `jku`, `x5u`, `x5c`), nor what to skip (`crit`, `b64`),
        # nor that another token is inside it (`cty`).
        raise Unauthenticated(Flaw.HEADER, detail=shorten(", ".join(sorted(header.keys() - _PLAIN_HEADERS)), 200))
    kind, kid = header.get("typ", "JWT"), header.get("kid", "")
    if not isinstance(kind, str) or kind.lower() not in _TYPES[issuer.tokens]:
        raise Unauthenticated(Flaw.HEADER, detail="typ")
    if not is_name(kid) and "kid" in header:
        raise Unauthenticated(Flaw.HEADER, detail="kid")


def check_signature(jwt: Jwt, keys: KeySet) -> None:
    """Raises `Unauthenticated` unless a key of the set, named by the header and made for its `alg`, verifies."""
    name, kid = jwt.header["alg"], jwt.header.get("kid")
    algorithm = JWSRegistry.algorithms[name]
    try:
        for key in keys.keys:
            if (
                (kid is None or key.kid == kid)
                and _fits(key, name)
                and algorithm.verify(jwt.signed, jwt.signature, key)
            ):
                return
    except (JoseError, ValueError) as error:
        raise Unauthenticated(Flaw.SIGNATURE, detail=type(error).__name__) from error
    raise Unauthenticated(Flaw.SIGNATURE)


def check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """Raises `Unauthenticated` unless `aud` (RFC 7519 section 4.1.3) names the audience."""
    named = claims.get("aud")
    audiences = named if isinstance(named, list) else [named]
    if audience not in audiences or not all(isinstance(one, str) for one in audiences):
        raise Unauthenticated(Flaw.AUDIENCE)


def check_kind(claims: Mapping[str, Any], issuer: IssuerSettings, audience: str) -> None:
    """Raises `Unauthenticated` unless the claims are of the kind of token that the issuer's settings name: no kind
    passes for another (RFC 8725 section 3.12). `audience` is what `aud` was checked for."""
    wanted_id = issuer.tokens == "id"
    if "events" in claims:  # a logout token or another security event (OIDC Back-Channel Logout section 2.4)
        raise Unauthenticated(Flaw.CLAIMS, detail="events")
    for claim in ("typ", "token_use"):  # Keycloak's and Cognito's own words for the kind
        said = claims.get(claim)
        word = said.lower() if isinstance(said, str) else said
        if word is not None and (word != "id" if wanted_id else word in ("id", "refresh", "offline", "logout")):
            raise Unauthenticated(Flaw.CLAIMS, detail=claim)
    if not wanted_id and (marks := [claim for claim in _OF_ID_TOKENS if claim in claims]):
        raise Unauthenticated(Flaw.CLAIMS, detail=", ".join(marks))
    for claim in _REQUIRED[issuer.tokens]:
        if claims.get(claim) in (None, ""):
            raise Unauthenticated(Flaw.CLAIMS, detail=claim)
    if issuer.tokens == "at+jwt" and not (is_name(claims["client_id"]) and is_name(claims["jti"])):
        raise Unauthenticated(Flaw.CLAIMS, detail="client_id, jti")
    several = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
    if wanted_id and several and claims.get("azp") != audience:
        # Issued to somebody else, who shows it here (OpenID Connect Core section 3.1.3.7).
        raise Unauthenticated(Flaw.AUDIENCE, detail="azp")


def check_times(claims: Mapping[str, Any], issuer: IssuerSettings, now: float) -> Times:
    """Raises `Unauthenticated` unless the token is valid at `now` and for no longer than the issuer's settings allow."""
    expires, begins, issued, logged_in = (read_seconds(claims, name) for name in ("exp", "nbf", "iat", "auth_time"))
    if expires is None:
        raise Unauthenticated(Flaw.CLAIMS, detail="exp")
    if expires + issuer.leeway <= now:
        raise Unauthenticated(Flaw.EXPIRED)
    if (begins or 0) - issuer.leeway > now or (issued or 0) - issuer.leeway > now:
        raise Unauthenticated(Flaw.NOT_YET)
    if (begins or 0) > expires or (issued or 0) > expires:
        raise Unauthenticated(Flaw.CLAIMS, detail="begins after its end")
    if expires - (now if issued is None else issued) > issuer.longest_life + issuer.leeway:
        raise Unauthenticated(Flaw.LIFETIME)
    if (logged_in or 0) - issuer.leeway > now:  # it would count as recent for as long as that is so
        raise Unauthenticated(Flaw.CLAIMS, detail="auth_time")
    return Times(issued or 0.0, expires + issuer.leeway)


def read_seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate claim (RFC 7519 section 2); a bool or text in its place is refused, not converted."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Unauthenticated(Flaw.CLAIMS, detail=name)
    return float(value)


def is_name(value: object) -> TypeGuard[str]:
    """Whether a value can name somebody or something: text of a sensible length, with nothing invisible in it."""
    return isinstance(value, str) and 0 < len(value) <= NAME_LIMIT and value.isprintable()


def _fits(key: Key, algorithm: str) -> bool:
    """Whether a key is made for the algorithm: by its type and curve, and by what it says itself (RFC 7517 section
    4.2 to 4.4)."""
    kind, curve = _FITTING[algorithm]
    said, operations = key.get("alg"), key.get("key_ops")
    return (
        key.key_type == kind
        and (not curve or key.get("crv") == curve)
        and (said is None or said == algorithm or (kind == "OKP" and said in ("EdDSA", "Ed25519")))
        and key.get("use") in (None, "sig")
        and (operations is None or "verify" in operations)
    )


def _refuse_twins(members: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise ValueError("a member is there twice")


_TWICE = json.JSONDecoder(object_pairs_hook=_refuse_twins)


def _is_deep(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
