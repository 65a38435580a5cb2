"""What an issuer publishes about itself, fetched within bounds: its metadata, its keys, its answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson

from ..section import is_https_or_loopback
from .settings import IssuerSettings

_LONGEST = 512 * 1024
_SECONDS = 5.0


class Published:
    """The documents of one issuer. Nothing is fetched through a redirect, nor beyond 512 KiB or 5 seconds; where the
    settings name a CA or a token, both are read anew each time, since they change under a running process."""

    def __init__(self, issuer: IssuerSettings, client: httpx2.AsyncClient) -> None:
        self._issuer = issuer
        self._client = client
        own = {issuer.issuer, issuer.jwks_url or issuer.issuer}
        self._own = {_origin(url) for url in own}

    async def find(self, endpoint: str) -> str:
        """A URL from the issuer's metadata (OpenID Connect Discovery 1.0 section 4, RFC 8414 sections 3 and 5).

        Raises ValueError when there is none that can be trusted, and what `fetch` raises."""
        issuer = httpx2.URL(self._issuer.issuer)
        path = issuer.path.rstrip("/")
        names = ("openid-configuration", "oauth-authorization-server")
        paths = [f"{path}/.well-known/{names[0]}", *(f"/.well-known/{name}{path}" for name in reversed(names))]
        for candidate in dict.fromkeys(paths):
            status, metadata = await self.fetch("GET", str(issuer.copy_with(path=candidate)))
            if status == 200:
                if metadata.get("issuer") != self._issuer.issuer:
                    raise ValueError("the metadata names another issuer")
                url = str(metadata[endpoint])
                if not is_https_or_loopback(url):
                    raise ValueError(f"{endpoint} is neither behind https nor on loopback")
                return url
        raise ValueError("the issuer has no metadata")

    async def fetch(
        self, method: str, url: str, *, form: Mapping[str, str] | None = None, auth: httpx2.Auth | None = None
    ) -> tuple[int, dict[str, Any]]:
        """The status, and the JSON object that came with a 200 (with anything else: nothing).

        Raises ValueError, OSError (also for a timeout) or httpx2.HTTPError."""
        headers = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": "identity"}
        if auth is None and (file := self._issuer.jwks_token_file) and _origin(url) in self._own:
            token = await asyncio.to_thread(file.read_text, encoding="utf-8")
            headers["Authorization"] = f"Bearer {token.strip()}"
        async with asyncio.timeout(_SECONDS), self._open_client() as client:
            request = client.build_request(method, url, data=form, headers=headers)
            response = await client.send(request, auth=auth, stream=True, follow_redirects=False)
            try:
                return response.status_code, await _read(response) if response.status_code == 200 else {}
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _open_client(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._issuer.ca_file is None:
            yield self._client
            return
        context = await asyncio.to_thread(ssl.create_default_context, cafile=self._issuer.ca_file)
        async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
            yield client


async def _read(response: httpx2.Response) -> dict[str, Any]:
    body = bytearray()
    async for chunk in response.aiter_raw():  # not decompressed: a small answer could become a large one
        body += chunk
        if len(body) > _LONGEST:
            raise ValueError("the answer is too long")
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the answer is no JSON object")
    return document


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = httpx2.URL(url)
    return parts.scheme, parts.host, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
