"""What is answered to who may not pass: the status and the challenge that says what would do.

RFC 6750 section 3 (Bearer), RFC 9449 section 7.1 (DPoP), RFC 9470 (step-up), RFC 9728 section 5.1 (`resource_metadata`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from ..policies.errors import ArborgateError, LoginNeeded, ScopeNeeded
from .identity.flaws import Flaw, Unauthenticated
from .identity.presenting import Scheme

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Challenges:
    """Challenges for one protected resource. `metadata` is the URL of its RFC 9728 document, `algorithms` those that
    proofs may be signed with; `bearer` says whether an unbound token would do for some issuer."""

    metadata: str
    algorithms: Sequence[str]
    bearer: bool = True

    def refuse(self, error: Unauthenticated, scheme: Scheme) -> Response:
        """400 for a request that can't be read, else 401, with what would do."""
        if error.flaw is Flaw.REQUEST:
            told = [self._write(scheme, {"error": "invalid_request", "error_description": error.message})]
            return problem(400, "Authorization", error.message, [("WWW-Authenticate", one) for one in told])
        if error.flaw is Flaw.MISSING:
            schemes = (Scheme.BEARER, Scheme.DPOP) if self.bearer else (Scheme.DPOP,)
            told = [self._write(each, {}) for each in schemes]
        else:
            told = [self._write(*self._blame(error, scheme))]
        headers = [("WWW-Authenticate", one) for one in told]
        if error.nonce:
            headers.append(("DPoP-Nonce", error.nonce))
        return problem(401, "DPoP" if error.flaw.of_proof else "Authorization", error.message, headers)

    def demand(self, error: ArborgateError, scheme: Scheme) -> tuple[int, Headers] | None:
        """The status and headers of an answer that says what a token lacks; None for an error that no token mends."""
        match error:
            case ScopeNeeded(scope=scope):
                asked = {"error": "insufficient_scope", "error_description": error.message, "scope": scope}
                return 403, [("WWW-Authenticate", self._write(scheme, asked))]
            case LoginNeeded(max_age=age, acr_values=values):
                asked = {"error": "insufficient_user_authentication", "error_description": error.message}
                asked |= {"acr_values": " ".join(values)} if values else {}
                return 401, [("WWW-Authenticate", self._write(scheme, {**asked, "max_age": str(age)}))]
        return None

    @staticmethod
    def _blame(error: Unauthenticated, scheme: Scheme) -> tuple[Scheme, Mapping[str, str]]:
        told = {"error_description": error.message}
        if error.flaw is Flaw.NONCE:
            return Scheme.DPOP, {"error": "use_dpop_nonce", **told}
        if error.flaw.of_proof:
            return Scheme.DPOP, {"error": "invalid_dpop_proof", **told}
        only_bound = error.flaw in (Flaw.UNBOUND, Flaw.DOWNGRADE)
        return Scheme.DPOP if only_bound else scheme, {"error": "invalid_token", **told}

    def _write(self, scheme: Scheme, asked: Mapping[str, str]) -> str:
        parts = {**asked, "resource_metadata": self.metadata}
        if scheme is Scheme.DPOP:
            parts["algs"] = " ".join(self.algorithms)
        name = "DPoP" if scheme is Scheme.DPOP else "Bearer"
        return f"{name} " + ", ".join(f"{key}={_quote(value)}" for key, value in parts.items())


def problem(status: int, field: str, message: str, headers: Headers | Mapping[str, str] = ()) -> Response:
    """An error before there is a call: one shape for all of them. A header may be there twice."""
    response = JSONResponse({"error": {"field": field, "message": message}}, status_code=status)
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        response.headers.append(name, value)
    return response


def _quote(value: str) -> str:
    """A quoted-string (RFC 9110 section 5.6.4) of what RFC 6750 section 3 lets into a challenge."""
    kept = "".join(c if c.isascii() and c.isprintable() else "?" for c in value)
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'
