"""The login of the approval pages: OpenID Connect by authorization code and PKCE (OIDC Core section 3.1)."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson
from authlib.integrations.httpx_client import OAuth2ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jws, jwt
from joserfc.errors import JoseError
from pydantic import BaseModel, ConfigDict, ValidationError

from ...policies.errors import Denied, Unavailable
from ..identity.callers import read_texts
from ..identity.keys import Keys
from ..identity.settings import IssuerSettings, PagesSettings
from ..state import State, reaching_state
from .sessions import Person, hash_id

ATTEMPT_SECONDS = 600
"""How long a person may take at the provider."""

_METADATA_AGE = 3_600.0
_LEEWAY = 30
_PAGES = re.compile(r"/(proposals|apps)(/[A-Za-z0-9._~-]+)*")


class LoginFailed(Denied):
    """The provider's answer does not prove who is there; `detail` says why, for operators."""


class Metadata(BaseModel):
    """What the provider says of itself (OpenID Connect Discovery 1.0 section 3), as far as it is needed here."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    userinfo_endpoint: str = ""
    device_authorization_endpoint: str = ""
    authorization_response_iss_parameter_supported: bool = False


class _Attempt(BaseModel):
    """One login under way, in Redis under the hash of its `state`. `browser` is the hash of the browser's cookie."""

    browser: str
    nonce: str
    verifier: str
    next: str


@dataclass(frozen=True, slots=True)
class Entered:
    """A login that succeeded, and the page it was for."""

    person: Person
    next: str


class Login:
    """Sends a browser to the provider and judges what it brings back."""

    def __init__(
        self,
        settings: PagesSettings,
        url: str,
        state: State,
        client: httpx2.AsyncClient,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._redirect_uri = f"{url}/login/callback"
        self._state = state
        self._client = client
        self._clock = clock
        self._issuer = IssuerSettings(issuer=settings.issuer)
        self._keys = Keys(self._issuer, client, max_age=_METADATA_AGE, min_interval=_LEEWAY)
        self._metadata: Metadata | None = None
        self._discovered_at = float("-inf")
        secret = settings.client_secret_file
        self._secret = secret.read_text(encoding="utf-8").strip() if secret else ""

    @property
    def issuer(self) -> str:
        return self._settings.issuer

    async def begin(self, browser: str, *, next_page: str, again: bool) -> str:
        """The URL at the provider to send the browser to, whose login cookie holds `browser`.

        `again` asks for a fresh login even of somebody who is logged in there. Raises `Unavailable`."""
        metadata = await self.discover()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        attempt = _Attempt(browser=hash_id(browser), nonce=nonce, verifier=verifier, next=own_page(next_page))
        with reaching_state():
            await self._state.redis.set(self._key(state), attempt.model_dump_json(), ex=ATTEMPT_SECONDS)
        # `max_age` makes `auth_time` a required claim (OIDC Core section 3.1.2.1): approvals depend on it.
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            self._settings.client_id,
            "code",
            redirect_uri=self._redirect_uri,
            scope=self._settings.scope,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            max_age=str(int(self._settings.session_limit)),
            prompt="login" if again else None,
        )
        return url

    async def finish(self, browser: str, query: Mapping[str, str]) -> Entered:
        """Who is there, from the parameters of the callback. An attempt can be finished once, by the browser that
        began it. Raises `LoginFailed` or `Unavailable`."""
        attempt = await self._take(query.get("state", ""))
        if attempt is None or not browser or attempt.browser != hash_id(browser):
            raise _failed("the state belongs to no login of this browser", "Log in again, from this browser.")
        metadata = await self.discover()
        named = query.get("iss")
        if named != metadata.issuer and (named or metadata.authorization_response_iss_parameter_supported):
            raise _failed("the answer came from another issuer (RFC 9207)")
        if "code" not in query:
            raise _failed(f"the provider answered {query.get('error', 'nothing')[:80]}")
        tokens = await self._redeem(metadata, query["code"], attempt.verifier)
        claims = await self._check_id_token(tokens, attempt)
        return Entered(self._person(await self._with_groups(claims, tokens, metadata)), attempt.next)

    async def discover(self) -> Metadata:
        """The provider's metadata, kept for an hour. Raises `Unavailable`."""
        if self._metadata is None or time.monotonic() - self._discovered_at > _METADATA_AGE:
            url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            try:
                metadata = Metadata.model_validate(await self._fetch("GET", url))
            except ValidationError as error:
                raise _unavailable("its metadata lacks an endpoint") from error
            if metadata.issuer != self._settings.issuer:
                raise _unavailable("its metadata names another issuer")
            self._metadata, self._discovered_at = metadata, time.monotonic()
        return self._metadata

    def _key(self, state: str) -> str:
        return self._state.key("login", hash_id(state))

    async def _take(self, state: str) -> _Attempt | None:
        with reaching_state():
            raw = await self._state.redis.getdel(self._key(state))
        return _Attempt.model_validate_json(raw) if raw else None

    async def _redeem(self, metadata: Metadata, code: str, verifier: str) -> dict[str, Any]:
        auth = OAuth2ClientAuth(
            self._settings.client_id, self._secret, "client_secret_basic" if self._secret else "none"
        )
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        return await self._fetch("POST", metadata.token_endpoint, data=form, auth=auth)

    async def _check_id_token(self, tokens: Mapping[str, Any], attempt: _Attempt) -> dict[str, Any]:
        """The ID token's claims (OIDC Core section 3.1.3.7)."""
        now = int(self._clock())
        registry = jwt.JWTClaimsRegistry(
            now=now,
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": attempt.nonce},
        )
        raw = tokens.get("id_token")
        if not isinstance(raw, str):
            raise _failed("the answer holds no ID token")
        try:
            keys = await self._keys.find(jws.extract_compact(raw.encode()).headers().get("kid"))
            if keys is None:
                raise _failed("the ID token is signed with a key that its issuer does not publish")
            token = jwt.decode(raw, keys, algorithms=list(self._issuer.algorithms))
            registry.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise _failed(f"the ID token is not valid: {type(error).__name__} {error}") from error
        claims: dict[str, Any] = token.claims
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", self._settings.client_id) != self._settings.client_id or len(audiences) > 1:
            raise _failed("the ID token was issued to another client as well")
        return claims

    async def _with_groups(
        self, claims: dict[str, Any], tokens: Mapping[str, Any], metadata: Metadata
    ) -> dict[str, Any]:
        """The claims, with the groups that some providers give at userinfo alone (OIDC Core section 5.3)."""
        access_token, known = tokens.get("access_token"), read_texts(claims, self._settings.groups_claim)
        if known or not metadata.userinfo_endpoint or not isinstance(access_token, str):
            return claims
        headers = {"Authorization": f"Bearer {access_token}"}
        told = await self._fetch("GET", metadata.userinfo_endpoint, headers=headers)
        if told.get("sub") != claims["sub"]:
            raise _failed("userinfo is about somebody else")
        return {**told, **claims}

    def _person(self, claims: Mapping[str, Any]) -> Person:
        name, since = claims.get("name"), claims.get("auth_time")
        return Person(
            issuer=self._settings.issuer,
            subject=str(claims["sub"]),
            name=name if isinstance(name, str) and name else str(claims["sub"]),
            groups=tuple(sorted(read_texts(claims, self._settings.groups_claim))),
            authenticated_at=since if isinstance(since, int) and not isinstance(since, bool) else 0,
        )

    async def _fetch(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """A JSON object from the provider; raises `LoginFailed` for a refusal, `Unavailable` for no answer."""
        try:
            response = await self._client.request(method, url, **options)
            body = orjson.loads(response.content)
        except (httpx2.HTTPError, orjson.JSONDecodeError) as error:
            raise _unavailable(type(error).__name__) from error
        if response.is_server_error or not isinstance(body, dict):
            raise _unavailable(f"status {response.status_code}")
        if not response.is_success:
            raise _failed(f"the provider answered {str(body.get('error'))[:80]}")
        return body


def own_page(path: str) -> str:
    """The path, if it is one of our pages; else the inbox. Keeps `next` from leading anywhere else."""
    return path if _PAGES.fullmatch(path) else "/proposals"


def _failed(detail: str, hint: str = "Log in again.") -> LoginFailed:
    return LoginFailed("This login did not work.", hint=hint, detail=detail)


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(
        "The identity provider does not answer as it should, so nobody can log in now.",
        hint="Try again in a moment; if it stays, tell the platform team.",
        detail=detail,
    )
