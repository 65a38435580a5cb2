"""A scene for attacks: two issuers that Arborgate trusts, one that it does not, a door, and all that was asked outside."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from arborgate.server.gate import Recorder
from arborgate.server.http import Authenticated, Authenticator
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.settings import DpopSettings, IdentitySettings, IssuerSettings
from arborgate.server.limits import Unlimited
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp

URL = "https://arborgate.test"
AUDIENCE = f"{URL}/mcp"
HOME = "https://login.test"
NEIGHBOUR = "https://login.neighbour.test"
STRICT = "https://login.strict.test"
STRANGER = "https://login.stranger.test"

Key = ECKey | RSAKey | OKPKey | OctKey
Header = tuple[str, str]

_SIGNING = JWSRegistry(algorithms=["ES256", "Ed25519", "HS256", "RS512"])
_RSA = RSAKey.generate_key(2048, {"kid": "r1", "use": "sig"})
"""RSA keys take long to make: one for all scenes."""


def encode(value: Any) -> str:
    """Base64url without padding, of text, bytes or JSON."""
    raw = (
        value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else json.dumps(value).encode()
    )
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: Any, payload: Any, key: Key, algorithm: str = "ES256") -> str:
    """A compact JWS whose two parts are just these, as odd as they may be; text and bytes are taken as they are."""
    signing = f"{encode(header)}.{encode(payload)}"
    return f"{signing}.{encode(_SIGNING.get_alg(algorithm).sign(signing.encode(), key))}"


def without(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without what is None."""
    return {name: value for name, value in values.items() if value is not None}


def _algorithm(header: Mapping[str, Any]) -> str:
    """What it is signed with, even if the header is about to lie."""
    return str(header["alg"]) if header.get("alg") in ("Ed25519", "HS256", "RS512") else "ES256"


@dataclass
class Scene:
    """`door` is `/mcp` behind authentication alone: it says 200 to whoever gets through."""

    door: httpx2.AsyncClient
    authenticator: Authenticator
    asked: list[str]
    home: ECKey
    neighbour: ECKey
    strict: ECKey
    holder: ECKey

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token of HOME; None takes one away."""
        now = int(time.time())
        good = {
            "iss": HOME,
            "sub": "ada",
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 300,
            "jti": "t-1",
            "client_id": "ide-copilot",
            "groups": ["arborgate-developers"],
        }
        return without({**good, **changes})

    def token(self, header: Mapping[str, Any] | None = None, key: Key | None = None, **changes: Any) -> str:
        """A token of HOME, signed as it should be unless told otherwise."""
        head = without({"alg": "ES256", "kid": "h1", "typ": "at+jwt", **(header or {})})
        return sign(head, self.claims(**changes), key or self.home, _algorithm(head))

    def bound(self, **changes: Any) -> str:
        """A token bound to the key of `holder`."""
        return self.token(**{"cnf": {"jkt": self.holder.thumbprint()}, **changes})

    def proof(self, token: str, header: Mapping[str, Any] | None = None, key: Key | None = None, **changes: Any) -> str:
        """A proof for one POST to the door with this token; None takes a claim or a header away."""
        signer = key or self.holder
        head = without({"alg": "ES256", "typ": "dpop+jwt", "jwk": signer.as_dict(private=False), **(header or {})})
        return sign(head, self.proof_claims(token, **changes), signer, _algorithm(head))

    def proof_claims(self, token: str, **changes: Any) -> dict[str, Any]:
        ath = encode(hashlib.sha256(token.encode()).digest())
        good = {"htm": "POST", "htu": AUDIENCE, "iat": int(time.time()), "jti": secrets.token_urlsafe(16), "ath": ath}
        return without({**good, **changes})

    async def knock(self, headers: Sequence[Header], *, path: str = "/mcp") -> httpx2.Response:
        return await self.door.post(path, headers=list(headers), content=b"{}")


def bearer(token: str) -> list[Header]:
    return [("authorization", f"Bearer {token}")]


def dpop(token: str, *proofs: str) -> list[Header]:
    return [("authorization", f"DPoP {token}"), *(("dpop", proof) for proof in proofs)]


@asynccontextmanager
async def open_scene(recorder: Recorder, safeguards: Safeguards) -> AsyncIterator[Scene]:
    """`safeguards` are those that `serve` builds."""
    home, neighbour, strict = (ECKey.generate_key("P-256", {"kid": kid, "use": "sig"}) for kid in ("h1", "n1", "s1"))
    sealed = ECKey.generate_key("P-256", {"kid": "e1", "use": "enc"})
    published: dict[str, list[Any]] = {HOME: [home, _RSA, sealed], NEIGHBOUR: [neighbour], STRICT: [strict]}
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(str(request.url))
        origin = f"{request.url.scheme}://{request.url.hostname}"
        if request.url.path == "/jwks":
            return JSONResponse(KeySet(published.get(origin, [])).as_dict(private=False))
        if request.url.path == "/.well-known/openid-configuration":
            return JSONResponse({"issuer": origin, "jwks_uri": f"{origin}/jwks"})
        return Response(status_code=404)

    internet = Starlette(routes=[Route("/{path:path}", answer)])
    settings = IdentitySettings(
        issuers=(
            IssuerSettings(issuer=HOME),
            IssuerSettings(issuer=NEIGHBOUR),
            IssuerSettings(issuer=STRICT, require_dpop=True, dpop_nonce=True, tokens="at+jwt"),
        ),
        dpop=DpopSettings(),
    )

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(internet)) as outside:
        identity = Identity(settings, {}, client=outside, safeguards=safeguards)
        authenticator = Authenticator(identity, recorder, Metrics(), protect_mcp(URL, settings))
        app = Authenticated(inside, authenticator, Unlimited())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=URL) as door:
            yield Scene(door, authenticator, asked, home, neighbour, strict, ECKey.generate_key("P-256"))
