"""Signed JWTs taken apart and judged: form, header, signature and times (RFC 7515, RFC 7519, RFC 8725, RFC 9068)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc.util import urlsafe_b64decode

from .flaws import Flaw, Unauthenticated
from .settings import IssuerSettings

TOKEN_LIMIT = 16_384
"""The most bytes a token may have: bigger ones are refused before anything is parsed."""

_ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_PLAIN_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256", "cty"})


def peek(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims before anything is verified: only to choose the issuer and refuse early."""
    parts = token.split(b".")
    if len(parts) != 3 or not all(parts):
        raise Unauthenticated(Flaw.FORMAT)
    try:
        header, claims = (orjson.loads(urlsafe_b64decode(part)) for part in parts[:2])
    except (ValueError, TypeError) as error:
        raise Unauthenticated(Flaw.FORMAT) from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unauthenticated(Flaw.FORMAT)
    return header, claims


def check_header(header: Mapping[str, Any], issuer: IssuerSettings) -> None:
    if header.get("alg") not in issuer.algorithms:
        raise Unauthenticated(Flaw.ALGORITHM)
    if not header.keys() <= _PLAIN_HEADERS:
        # Nothing in the token says where its own key is (`jwk`, `jku`, `x5u`, `x5c`), nor what to skip (`crit`, `b64`).
        raise Unauthenticated(Flaw.HEADER, detail=", ".join(sorted(map(str, header.keys() - _PLAIN_HEADERS)))[:200])
    if str(header.get("typ", "JWT")).lower() not in _ACCESS_TOKEN_TYPES:
        raise Unauthenticated(Flaw.HEADER, detail="typ")
    if not isinstance(header.get("kid", ""), str):
        raise Unauthenticated(Flaw.HEADER, detail="kid")


def read_seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate claim (RFC 7519 section 2); a bool or text in its place is refused, not converted."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(Flaw.CLAIMS, detail=name)
    return float(value)


@dataclass(frozen=True, slots=True)
class Times:
    """When a token was issued (0 where it does not say) and when it stops being valid, leeway included; seconds since
    the epoch."""

    issued: float
    expires: float


def check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """Raises `Unauthenticated` unless `aud` (RFC 7519 section 4.1.3) names the audience."""
    named = claims.get("aud")
    audiences = named if isinstance(named, list) else [named]
    if audience not in audiences:
        raise Unauthenticated(Flaw.AUDIENCE)


def check_times(claims: Mapping[str, Any], issuer: IssuerSettings, now: float) -> Times:
    """Raises `Unauthenticated` unless the token is valid at `now` and for no longer than the issuer's settings allow."""
    expires, begins, issued = (read_seconds(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise Unauthenticated(Flaw.CLAIMS, detail="exp")
    if expires + issuer.leeway <= now:
        raise Unauthenticated(Flaw.EXPIRED)
    if (begins or 0) - issuer.leeway > now or (issued or 0) - issuer.leeway > now:
        raise Unauthenticated(Flaw.NOT_YET)
    if expires - (issued or now) > issuer.longest_life + issuer.leeway:
        raise Unauthenticated(Flaw.LIFETIME)
    return Times(issued or 0.0, expires + issuer.leeway)
