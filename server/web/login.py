"""The login of the approval pages: OpenID Connect by authorization code and PKCE (OIDC Core section 3.1)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from authlib.integrations.httpx_client import OAuth2ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ...tools.cuts import shorten
from ..identity.callers import Identified, identify, read_texts
from ..identity.flaws import Unauthenticated
from ..identity.settings import IssuerSettings, PagesSettings
from ..notifications.settings import is_address
from .attempts import Attempt, Attempts
from .provider import LEEWAY, Metadata, Provider, Untrusted
from .sessions import Person, Shortfall

_PAGES = re.compile(r"/(proposals|apps|sessions|notifications)(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*")
_LONGEST = 200
_ID_TOKEN_TYPES = ("", "jwt")
_FAILED = "This login did not work."


class LoginFailed(Untrusted):
    """The provider's answer does not prove who is there; `detail` says why, for operators."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a login is for and what is asked of it (OIDC Core section 3.1.2.1, RFC 9470 section 5).

    `again`: the person is to be asked anew, whether or not they are logged in at the provider. `max_age` is in seconds,
    None for as old as a session may be; `acr_values` are ways to log in, the most wanted first."""

    next: str
    again: bool = False
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entered:
    """A login that succeeded, the page it was for, and what the provider did not give of what was asked.

    `issued_at` is the ID token's `iat`; `held` the login cookie's value from now on, "" for none."""

    person: Person
    next: str
    issued_at: float
    shortfall: Shortfall | None
    held: str


class Login:
    """Sends a browser to the provider and judges what it brings back."""

    def __init__(
        self,
        settings: PagesSettings,
        url: str,
        provider: Provider,
        attempts: Attempts,
        *,
        issuer: IssuerSettings,
        identify: Callable[[Mapping[str, Any], IssuerSettings], Identified] = identify,
        clock: Callable[[], float],
    ) -> None:
        """`issuer` and `identify` say how the provider's claims are read: as those of its tokens for agents."""
        self._settings = settings
        self._issuer = issuer
        self._identify = identify
        self._redirect_uri = f"{url}/login/callback"
        self._provider = provider
        self._attempts = attempts
        self._clock = clock
        secret = settings.client_secret_file
        self._secret = secret.read_text(encoding="utf-8").strip() if secret else ""

    async def begin(self, held: str, wanted: Wanted) -> tuple[str, str]:
        """The URL at the provider to send the browser to, and the value of its login cookie, which was `held`.

        Raises `Unavailable`."""
        metadata = await self._provider.discover()
        attempt = Attempt(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(32),
            next=own_page(wanted.next),
            begun_at=self._clock(),
            again=wanted.again,
            acr_values=wanted.acr_values,
        )
        limit = int(self._settings.session_limit)
        # `max_age` makes `auth_time` a required claim (OIDC Core section 3.1.2.1): approvals depend on it.
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            self._settings.client_id,
            "code",
            redirect_uri=self._redirect_uri,
            scope=self._settings.scope,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
            max_age=str(limit if wanted.max_age is None else min(wanted.max_age, limit)),
            prompt="login" if wanted.again else None,
            acr_values=" ".join(wanted.acr_values) or None,
        )
        return url, await self._attempts.add(held, attempt)

    async def finish(self, held: str, query: Mapping[str, str]) -> Entered:
        """Who is there, from the parameters of the callback and the login cookie. An attempt can be finished once, by
        the browser that began it. Raises `LoginFailed` or `Unavailable`."""
        attempt, rest = await self._attempts.take(held, query.get("state", ""))
        if attempt is None:
            raise _failed("the state belongs to no login of this browser", "Log in again, from this browser.")
        metadata = await self._provider.discover()
        named = query.get("iss")
        if named != metadata.issuer and (named or metadata.authorization_response_iss_parameter_supported):
            raise _failed("the answer came from another issuer (RFC 9207)")
        if "code" not in query:
            raise _refused(query.get("error", "nothing"))
        try:
            tokens = await self._redeem(metadata, query["code"], attempt.verifier)
            claims = await self._read_id_token(tokens, attempt)
            person = self._person(await self._with_groups(claims, tokens, metadata), read_mail(claims))
        except Untrusted as error:
            raise _failed(error.detail) from error
        except Unauthenticated as error:
            raise _failed(f"{error.message}: {error.detail}") from error
        if not await self._attempts.finish(attempt):
            raise _failed("the login was finished before")
        return Entered(person, attempt.next, float(claims["iat"]), _shortfall(attempt, person), rest)

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
        return await self._provider.fetch("POST", metadata.token_endpoint, data=form, auth=auth)

    async def _read_id_token(self, tokens: Mapping[str, Any], attempt: Attempt) -> dict[str, Any]:
        """The ID token's claims (OIDC Core section 3.1.3.7)."""
        raw = tokens.get("id_token")
        if not isinstance(raw, str):
            raise _failed("the answer holds no ID token")
        claims = await self._provider.read(
            raw,
            _ID_TOKEN_TYPES,
            sub={"essential": True},
            nonce={"essential": True, "value": attempt.nonce},
        )
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise _failed("the ID token was issued to another client as well")
        return claims

    async def _with_groups(
        self, claims: dict[str, Any], tokens: Mapping[str, Any], metadata: Metadata
    ) -> dict[str, Any]:
        """The claims, with the groups that some providers give at userinfo alone (OIDC Core section 5.3)."""
        access_token, known = tokens.get("access_token"), read_texts(claims, self._issuer.groups_claim)
        if known or not metadata.userinfo_endpoint or not isinstance(access_token, str):
            return claims
        headers = {"Authorization": f"Bearer {access_token}"}
        told = await self._provider.fetch("GET", metadata.userinfo_endpoint, headers=headers)
        if told.get("sub") != claims["sub"]:
            raise _failed("userinfo is about somebody else")
        return {**told, **claims}

    def _person(self, claims: Mapping[str, Any], mail: str) -> Person:
        found, since = self._identify(claims, self._issuer), claims.get("auth_time")
        acr, sid = claims.get("acr"), claims.get("sid")
        since = since if isinstance(since, int) and not isinstance(since, bool) else 0
        self._check_age(since)
        return Person(
            issuer=self._settings.issuer,
            subject=found.subject,
            sub=str(claims["sub"]),
            name=found.name,
            groups=tuple(sorted(found.groups)),
            authenticated_at=since,
            acr=acr if isinstance(acr, str) else "",
            sid=sid if isinstance(sid, str) else "",
            mail=mail,
        )

    def _check_age(self, since: int) -> None:
        """OIDC Core section 3.1.3.7, step 13: what was asked by `max_age` has to be what came."""
        now = self._clock()
        if since > now + LEEWAY:
            raise _failed("the login is from the future")
        if since and now - since > self._settings.session_limit + LEEWAY:
            raise _failed("the login is older than a session may be, though `max_age` asked for a newer one")


def read_mail(claims: Mapping[str, Any]) -> str:
    """The person's address, where the ID token itself says that it has been verified (OIDC Core section 5.1)."""
    mail = claims.get("email")
    return mail if claims.get("email_verified") is True and isinstance(mail, str) and is_address(mail) else ""


def own_page(path: str) -> str:
    """The path, if it is one of our pages; else the inbox. Keeps `next` from leading anywhere else."""
    return path if len(path) <= _LONGEST and _PAGES.fullmatch(path) else "/proposals"


def _shortfall(attempt: Attempt, person: Person) -> Shortfall | None:
    if attempt.acr_values and person.acr not in attempt.acr_values:
        return Shortfall.STRENGTH
    if attempt.again and person.authenticated_at < attempt.begun_at - LEEWAY:
        return Shortfall.AGE
    return None


def _failed(detail: str, hint: str = "Log in again.") -> LoginFailed:
    return LoginFailed(_FAILED, hint=hint, detail=detail)


def _refused(error: str) -> LoginFailed:
    """The provider sent the browser back without a login, and said why."""
    detail = f"the provider answered {shorten(error, 80)}"
    if error == "unmet_authentication_requirements":
        return LoginFailed(
            "Your identity provider can't give the kind of login that policy asks for.",
            hint="Tell the platform team; until then somebody else has to approve.",
            detail=detail,
        )
    return _failed(detail)
