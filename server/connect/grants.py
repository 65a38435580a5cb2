"""The token endpoint of a provider: codes, device codes and refresh tokens for tokens, bound to a key where it can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ...policies.errors import Denied, Unavailable
from .entries import Place, Tokens
from .proofs import Prover
from .registration import DEVICE_GRANT
from .web import Answer, Web

_SECONDS = 300.0
_LONGEST = 30 * 86_400.0
_ATTEMPTS = 3


class GrantRefused(Denied):
    """The provider said no; `code` is its word for why (RFC 6749 section 5.2), "" if it gave none."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__("The login service refused.", detail=f"{code} {description}".strip())
        self.code = code


class TokenEndpoint:
    """Speaks for one public client. With a prover, tokens are asked for that are bound to its key."""

    def __init__(
        self,
        web: Web,
        place: Place,
        client_id: str,
        prover: Prover | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._web = web
        self._place = place
        self._client_id = client_id
        self._prover = prover
        self._clock = clock

    async def redeem_code(self, code: str, redirect_uri: str, verifier: str, scope: str) -> Tokens:
        """Raises `GrantRefused` or `Unavailable`, as all of these do."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return await self._ask({**form, "code_verifier": verifier}, scope)

    async def redeem_device(self, device_code: str, scope: str) -> Tokens:
        return await self._ask({"grant_type": DEVICE_GRANT, "device_code": device_code}, scope)

    async def refresh(self, old: Tokens) -> Tokens:
        """New tokens for those of a login. A provider that rotates refresh tokens takes each of them once."""
        new = await self._ask({"grant_type": "refresh_token", "refresh_token": old.refresh_token}, old.scope)
        if old.bound and not new.bound:
            raise GrantRefused("invalid_grant", "the new token is not bound to the key")
        return new if new.refresh_token else new.model_copy(update={"refresh_token": old.refresh_token})

    async def revoke(self, tokens: Tokens) -> None:
        """Takes the login back (RFC 7009), where the provider offers that."""
        endpoint = self._place.provider.revocation_endpoint
        for kind in ("refresh_token", "access_token"):
            token = getattr(tokens, kind)
            if endpoint and token:
                form = {"token": token, "token_type_hint": kind, "client_id": self._client_id}
                await self._web.post_form(endpoint, form)

    async def _ask(self, form: Mapping[str, str], scope: str) -> Tokens:
        endpoint = self._place.provider.token_endpoint
        about_us = {"client_id": self._client_id, "resource": self._place.audience}
        answer = await self._send(endpoint, {**form, **about_us})
        if answer.status >= 500 or answer.status == 429:
            raise Unavailable("The login service answers with an error.", detail=str(answer.status))
        if not answer.fine:
            raise GrantRefused(str(answer.json.get("error", ""))[:80], str(answer.json.get("error_description"))[:200])
        return self._read(answer.json, scope)

    async def _send(self, endpoint: str, form: Mapping[str, str]) -> Answer:
        """Sends the form, again where the provider wants its nonce or its own time in the proof."""
        prover = self._prover
        if prover is None:
            return await self._web.post_form(endpoint, form)
        left = _ATTEMPTS
        while True:
            left -= 1
            answer = await self._web.post_form(endpoint, form, {"DPoP": prover.prove("POST", endpoint)})
            given = prover.learn_nonce(endpoint, answer.headers.get("dpop-nonce"))
            error, date = answer.json.get("error"), answer.headers.get("date")
            worth = (error == "use_dpop_nonce" and given) or (
                error == "invalid_dpop_proof" and prover.learn_time(endpoint, date)
            )
            if not left or not worth:
                return answer

    def _read(self, body: Mapping[str, Any], scope: str) -> Tokens:
        kind = str(body.get("token_type", "")).lower()
        token, refresh, lasts = (
            body.get("access_token"),
            body.get("refresh_token", ""),
            body.get("expires_in", _SECONDS),
        )
        known = kind == "bearer" or (kind == "dpop" and self._prover is not None)
        if not known or not isinstance(token, str) or not token.isascii() or not isinstance(refresh, str):
            raise Unavailable("The login service answers with no token that can be used.", detail=kind)
        if isinstance(lasts, bool) or not isinstance(lasts, int | float) or lasts <= 0:
            raise Unavailable("The login service answers with no token that can be used.", detail="expires_in")
        now = self._clock()
        return Tokens(
            access_token=token,
            refresh_token=refresh if self._place.lasting else "",
            bound=kind == "dpop",
            began=now,
            ends=now + min(float(lasts), _LONGEST),
            scope=str(body.get("scope") or scope),
        )
