"""The login of a person: a browser on this machine (RFC 8252, PKCE), or a code for another device (RFC 8628)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ...policies.errors import Denied, Invalid, Unavailable
from ...tools.text import quote_name
from .asking import LOGIN_SECONDS
from .callback import Callback
from .entries import Asked, Place, Tokens
from .grants import GrantRefused, TokenEndpoint
from .proofs import Prover
from .registration import Client
from .web import Web

Say = Callable[[str], None]
Show = Callable[[str], None]


class ClientUnknown(Denied):
    """The provider does not know the client, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One login at a place. `prover` is None where the provider binds no tokens. `say` tells the person what to do."""

    place: Place
    client: Client
    web: Web
    endpoint: TokenEndpoint
    prover: Prover | None
    say: Say

    async def by_browser(self, asked: Asked, show: Show | None) -> Tokens:
        """Sends the person to the provider and waits for the browser to come back; without `show` only says where
        to go. Raises `Denied`, `ClientUnknown` or `Unavailable`."""
        provider = self.place.provider
        if not provider.authorization_endpoint or "S256" not in provider.code_challenge_methods_supported:
            raise Invalid(
                f"The provider {provider.issuer} does not say that it protects a login by browser (PKCE with S256).",
                hint="Log in by a code: arborgate login --device." if provider.device_authorization_endpoint else None,
            )
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        async with Callback(state) as callback:
            if self.client.registered:
                await self._check_known(callback.redirect_uri)
            url = self._write_url(callback.redirect_uri, state, create_s256_code_challenge(verifier), asked)
            if show is None:
                self.say(f"Log in on this machine, in a browser, at:\n  {url}")
            else:
                self.say(f"Log in in your browser. If none opens, go to:\n  {url}")
                show(url)
            query = await callback.wait(LOGIN_SECONDS)
        self._check_answer(query)
        with _refusing():
            return await self.endpoint.redeem_code(query["code"], callback.redirect_uri, verifier, self._scope(asked))

    async def by_device(self, asked: Asked, show_code: Say) -> Tokens:
        """Shows a code to type on another device, and waits until that is done. Raises as `by_browser` does."""
        provider = self.place.provider
        if not provider.device_authorization_endpoint:
            raise Invalid(f"The provider {provider.issuer} has no login by code.", hint="Leave --device out.")
        form = {"client_id": self.client.client_id, "scope": self._scope(asked), "resource": self.place.audience}
        answer = await self.web.post_form(provider.device_authorization_endpoint, {**form, **_step_up(asked)})
        begun = answer.json
        if not answer.fine:
            with _refusing():
                raise GrantRefused(str(begun.get("error", ""))[:80])
        try:
            code, every, lasts = str(begun["device_code"]), float(begun.get("interval", 5)), float(begun["expires_in"])
            where, typed = str(begun["verification_uri"]), str(begun["user_code"])
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable("The login service's answer lacks what a login by code needs.") from error
        told = f"Go to {quote_name(where)} and type the code {quote_name(typed)}"
        self.say(told)
        show_code(told)
        return await self._poll(code, max(every, 1.0), min(lasts, LOGIN_SECONDS * 2), asked)

    async def _poll(self, code: str, every: float, lasts: float, asked: Asked) -> Tokens:
        try:
            async with asyncio.timeout(lasts):
                while True:
                    await asyncio.sleep(every)
                    try:
                        return await self.endpoint.redeem_device(code, self._scope(asked))
                    except GrantRefused as refused:
                        if refused.code == "slow_down":
                            every += 5
                        elif refused.code != "authorization_pending":
                            with _refusing():
                                raise
                    except Unavailable:
                        every *= 2  # RFC 8628 section 3.5: less often, after a failure to connect
        except TimeoutError:
            raise Denied("Nobody typed the code in time.") from None

    def _write_url(self, redirect_uri: str, state: str, challenge: str, asked: Asked) -> str:
        """The authorization request. It says nothing that would be of use to who sees it."""
        url: str = prepare_grant_uri(
            self.place.provider.authorization_endpoint,
            self.client.client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=self._scope(asked),
            state=state,
            code_challenge=challenge,
            code_challenge_method="S256",
            resource=self.place.audience,
            dpop_jkt=self.prover.thumbprint if self.prover else None,
            **_step_up(asked),
        )
        return url

    async def _check_known(self, redirect_uri: str) -> None:
        """Raises `ClientUnknown` for a registered client that the provider has forgotten. It would say so only to the
        browser, and never send it back."""
        throw_away = create_s256_code_challenge(secrets.token_urlsafe(48))
        url = self._write_url(redirect_uri, secrets.token_urlsafe(32), throw_away, Asked())
        try:
            status = (await self.web.get(url)).status
        except Unavailable:
            return  # a page that we can't read may be one for a person
        if status in (400, 401, 403, 404):
            raise ClientUnknown("The login service does not know this program any more.")

    def _check_answer(self, query: Mapping[str, str]) -> None:
        """Raises `Denied` unless the provider of this login (RFC 9207) gave a code."""
        provider = self.place.provider
        named = query.get("iss")
        if named != provider.issuer and (named or provider.authorization_response_iss_parameter_supported):
            raise Denied("The login did not work: another login service answered.", detail=str(named)[:200])
        if "code" not in query:
            raise Denied("The login did not work.", hint=_explain(query.get("error", "")))

    def _scope(self, asked: Asked) -> str:
        return " ".join(dict.fromkeys([*self.place.scope.split(), *asked.scope.split()]))


@contextmanager
def _refusing() -> Iterator[None]:
    """Says in plain words what a refusal of the provider means for a login."""
    try:
        yield
    except GrantRefused as error:
        if error.code in ("invalid_client", "unauthorized_client"):
            raise ClientUnknown("The login service does not know this program.", detail=error.detail) from error
        raise Denied("The login did not work.", hint=_explain(error.code), detail=error.detail) from error


def _step_up(asked: Asked) -> dict[str, str]:
    told = {"prompt": "login"} if asked.again else {}
    told |= {"max_age": str(asked.max_age)} if asked.max_age is not None else {}
    return told | ({"acr_values": asked.acr_values} if asked.acr_values else {})


def _explain(code: str) -> str | None:
    """What a person can do about an error of the provider (RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5)."""
    match code:
        case "access_denied":
            return "It was declined at the login service."
        case "expired_token":
            return "The code was not typed in time: try again."
        case "invalid_scope":
            return "The login service refuses a scope: ask whoever runs Arborgate."
        case "invalid_target":
            return "The login service gives no tokens for this Arborgate: ask whoever runs it."
        case "unmet_authentication_requirements":
            return "The login service can't log you in as strongly as is asked."
    return f"The login service says {code[:80]!r}." if code else None
