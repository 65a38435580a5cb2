"""The identity provider that people log in at: what it says of itself, what it answers, and what it signs for us."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import httpx2
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ...policies.errors import Denied, Unavailable
from ...tools.cuts import shorten
from ..identity.flaws import Unauthenticated
from ..identity.keys import Keys
from ..identity.settings import IssuerSettings, PagesSettings
from ..identity.tokens import check_signature, take_apart
from ..section import is_https_or_loopback

logger = logging.getLogger(__name__)

LEEWAY = 30
"""Seconds that the provider's clock and ours may be apart."""

_METADATA_AGE = 3_600.0
_RETRY_SECONDS = 1.0
_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})


class Untrusted(Denied):
    """What came in the provider's name is not proven to be the provider's, or not meant for us; `detail` says why."""


class Metadata(BaseModel):
    """What the provider says of itself (OpenID Connect Discovery 1.0 section 3), as far as it is needed here."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    authorization_response_iss_parameter_supported: bool = False

    @field_validator(
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "end_session_endpoint",
    )
    @classmethod
    def _endpoint_is_https_or_loopback(cls, value: str) -> str:
        if value and not is_https_or_loopback(value):
            raise ValueError("is neither https nor on loopback")
        return value


class Provider:
    """Asks the provider, and judges what it signs. What it says of itself is kept for an hour, and longer while it is
    away; strangers can't make us ask more often than once a second."""

    def __init__(self, settings: PagesSettings, client: httpx2.AsyncClient, *, clock: Callable[[], float]) -> None:
        self.issuer = settings.issuer
        self.client_id = settings.client_id
        self._client = client
        self._clock = clock
        self._trust = IssuerSettings(issuer=settings.issuer)
        self._keys = Keys(self._trust, client, max_age=_METADATA_AGE, min_interval=LEEWAY)
        self._metadata: Metadata | None = None
        self._discovered = self._tried = float("-inf")
        self._discovering = asyncio.Lock()

    async def discover(self) -> Metadata:
        """The provider's metadata. Raises `Unavailable`."""
        if self._metadata is not None and (self._is_fresh() or self._discovering.locked()):
            return self._metadata
        async with self._discovering:
            if not self._is_fresh() and time.monotonic() - self._tried > self._pause():
                try:
                    self._metadata = await self._fetch_metadata()
                    self._discovered = time.monotonic()
                except (Unavailable, Untrusted) as error:
                    if self._metadata is None:
                        raise
                    logger.warning("the metadata of the pages' provider is old: %s", error.detail)
                finally:
                    self._tried = time.monotonic()
            if self._metadata is None:
                raise unavailable("it did not answer a moment ago")
            return self._metadata

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._discovered < _METADATA_AGE

    def _pause(self) -> float:
        """Seconds between two tries; who has old metadata can wait longer for new."""
        return _RETRY_SECONDS if self._metadata is None else LEEWAY

    async def fetch(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """A JSON object from the provider; raises `Untrusted` for a refusal, `Unavailable` for no answer."""
        try:
            response = await self._client.request(method, url, **options)
            body = orjson.loads(response.content)
        except (httpx2.HTTPError, orjson.JSONDecodeError) as error:
            raise unavailable(type(error).__name__) from error
        if response.is_server_error or not isinstance(body, dict):
            raise unavailable(f"status {response.status_code}")
        if not response.is_success:
            raise Untrusted(
                "The identity provider refused.", detail=f"it answered {shorten(str(body.get('error')), 80)}"
            )
        return body

    async def read(self, raw: str, types: Collection[str], **expected: Any) -> dict[str, Any]:
        """The claims of a token that the provider signed for this client alone, and that is valid now.

        `types` are what `typ` may be, in lower case, "" for none; `expected` are claims as `JWTClaimsRegistry` takes
        them. Nothing is asked of the provider for a token that names another issuer or client. Raises `Untrusted`, or
        `Unavailable` when its keys can't be fetched."""
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.client_id},
            exp={"essential": True},
            iat={"essential": True},
            **expected,
        )
        try:
            token = take_apart(raw.encode("utf-8", "surrogatepass"))
            self._check_header(token.header, types)
            registry.validate(token.claims)
            if token.claims["aud"] not in (self.client_id, [self.client_id]):
                raise _not_ours("it was issued to another client as well")
            keys = await self._keys.find(token.header.get("kid"))
            if keys is None:
                raise _not_ours("it is signed with a key that its issuer does not publish")
            check_signature(token, keys)
        except (Unauthenticated, JoseError, ValueError, TypeError) as error:
            raise _not_ours(shorten(f"{type(error).__name__} {error}", 200)) from error
        return token.claims

    def _check_header(self, header: dict[str, Any], types: Collection[str]) -> None:
        if header.get("alg") not in self._trust.algorithms:
            raise _not_ours("its algorithm is not accepted here")
        if not header.keys() <= _HEADERS or not isinstance(header.get("kid", ""), str):
            raise _not_ours("its header has a parameter that is not accepted here")
        if str(header.get("typ", "")).lower() not in types:
            raise _not_ours("it is a token of another type")

    async def _fetch_metadata(self) -> Metadata:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            metadata = Metadata.model_validate(await self.fetch("GET", url))
        except ValidationError as error:
            raise unavailable("its metadata lacks an endpoint, or has one that can't be trusted") from error
        if metadata.issuer != self.issuer:
            raise unavailable("its metadata names another issuer")
        return metadata


def unavailable(detail: str) -> Unavailable:
    """The provider does not answer as it should."""
    return Unavailable(
        "The identity provider does not answer as it should, so nobody can log in now.",
        hint="Try again in a moment; if it stays, tell the platform team.",
        detail=detail,
    )


def _not_ours(detail: str) -> Untrusted:
    return Untrusted("This is not a token that the identity provider signed for us.", detail=detail)
