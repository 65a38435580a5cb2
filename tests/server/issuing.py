"""An issuer of tokens, good and hostile: a stand-in, since no real provider signs what an attacker would send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx2
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ISSUER = "https://issuer.test"
AUDIENCE = "http://127.0.0.1:8484/mcp"

Key = ECKey | RSAKey | OKPKey | OctKey


class Issuer:
    """Publishes metadata and keys over an in-process HTTP transport, and signs whatever it is told to."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {"k1": ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})}
        self.fetches = 0
        self.strangers: list[Any] = []
        self.metadata: Any = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.answering = asyncio.Event()
        self.answering.set()
        routes = [
            Route("/.well-known/openid-configuration", self._metadata),
            Route("/jwks", self._jwks),
        ]
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(Starlette(routes=routes)))

    async def _metadata(self, _request: Request) -> Response:
        return JSONResponse(self.metadata, 503 if self.away else 200)

    async def _jwks(self, _request: Request) -> Response:
        self.fetches += 1
        await self.answering.wait()
        await self.answering.wait()
        if self.away:
            return JSONResponse({}, 503)
        own = KeySet(list(self.keys.values())).as_dict(private=False)["keys"]
        return JSONResponse({"keys": [*self.strangers, *own]})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": "ada",
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 300,
            "client_id": "ide-copilot",
            "groups": ["arborgate-developers"],
            "name": "Ada",
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def sign(
        self, claims: Mapping[str, Any], *, header: Mapping[str, Any] | None = None, key: Key | None = None
    ) -> str:
        import orjson

        head = {"alg": "ES256", "kid": "k1", "typ": "at+jwt", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        registry = jws.JWSRegistry(strict_check_header=False, algorithms=[str(head["alg"])])
        return jws.serialize_compact(head, orjson.dumps(dict(claims)), key or self.keys["k1"], registry=registry)

    def token(self, **changes: Any) -> str:
        return self.sign(self.claims(**changes))
