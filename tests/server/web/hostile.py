"""A provider of logins that answers as an attacker would like."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

import httpx2
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.server.issuing import ISSUER, Issuer, Key

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class Hostile(Issuer):
    """A provider whose ID tokens are what the test says: `changes` to the claims, `header`, `key`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, str] = {}
        self.ends: dict[str, str] = {}
        self.changes: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key: ECKey | None = None
        self.named = ISSUER
        self.described = 0
        self.answer: dict[str, Any] | None = None
        self.status = 200
        routes = [
            Route("/.well-known/openid-configuration", self._describe),
            Route("/jwks", self._jwks),
            Route("/token", self._token, methods=["POST"]),
            Route("/userinfo", self._userinfo),
        ]
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(Starlette(routes=routes)))

    def logout_token(
        self, *, header: Mapping[str, Any] | None = None, key: Key | None = None, drop: str = "", **changes: Any
    ) -> str:
        """What the provider sends when Ada logs out there: `changes` to the claims, without those that `drop` names."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": "arborgate-pages",
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "sub": "ada",
            "sid": "s-1",
            "events": {LOGOUT_EVENT: {}},
            **changes,
        }
        claims = {name: value for name, value in claims.items() if name not in drop.split()}
        return self.sign(claims, header={"typ": "logout+jwt", **(header or {})}, key=key)

    async def _describe(self, _request: Request) -> Response:
        self.described += 1
        ends = {f"{name}_endpoint": f"{ISSUER}/{name}" for name in ("authorization", "token", "userinfo")}
        return JSONResponse({"issuer": self.named, "jwks_uri": f"{ISSUER}/jwks", **ends, **self.ends})

    async def _token(self, _request: Request) -> Response:
        claims = self.claims(aud="arborgate-pages", nonce=self.asked["nonce"], auth_time=None, client_id=None)
        claims = {name: value for name, value in {**claims, **self.changes}.items() if value is not None}
        token = self.sign(claims, header={"typ": "JWT", **self.header}, key=self.key)
        return JSONResponse(self.answer or {"id_token": token, "access_token": "opaque"}, self.status)

    async def _userinfo(self, _request: Request) -> Response:
        return JSONResponse({"sub": "ada", "groups": ["from-userinfo"]})
