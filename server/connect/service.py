"""The login service behind a place: a person's login there, its renewal, and its end."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from ...policies.errors import Denied, Unavailable
from .asking import Manner
from .entries import Asked, Entry, Place, Slot, Tokens
from .grants import GrantRefused, TokenEndpoint
from .login import ClientUnknown, Login
from .proofs import Prover, make_key
from .registration import Client, choose_client
from .store import Store
from .web import Web

Find = Callable[[Web], Awaitable[Place]]
Say = Callable[[str], None]


class LoginService:
    """Speaks to the provider for one slot. `find` finds out where to log in, `prove_with` gives the prover of a key,
    `show_code` shows what to type on another device."""

    def __init__(
        self,
        slot: Slot,
        store: Store,
        find: Find,
        manner: Manner,
        *,
        say: Say,
        show_code: Say,
        prove_with: Callable[[Mapping[str, str]], Prover],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._slot = slot
        self._store = store
        self._find = find
        self._manner = manner
        self._say = say
        self._show_code = show_code
        self._prove_with = prove_with
        self._clock = clock
        self._web = Web()

    async def close(self) -> None:
        await self._web.close()

    async def log_in(self, kept: Entry | None, asked: Asked) -> Entry:
        """Has the person log in; with the key that there was. Raises an `ArborgateError`."""
        place = await self._find(self._web)
        key = dict(kept.key) if kept else make_key()
        prover = self._prove_with(key) if place.provider.binds or place.bound_only else None
        client = await self._choose(place)
        try:
            tokens = await self._go_through(place, client, prover, asked)
        except ClientUnknown:
            if not client.registered:
                raise
            self._store.forget_client(place.provider.issuer)
            client = await self._choose(place)
            tokens = await self._go_through(place, client, prover, asked)
        if place.bound_only and not tokens.bound:
            raise Denied(
                "This server takes only tokens that are bound to a key (DPoP), and the login service gives none.",
                hint="Ask whoever runs it.",
            )
        return Entry(place=place, client_id=client.client_id, registered=client.registered, key=key, tokens=tokens)

    async def refresh(self, entry: Entry, tokens: Tokens) -> Entry:
        """The entry with new tokens; with none where the provider refuses, for then only the person can help.

        Raises `Unavailable`."""
        try:
            renewed = await self._endpoint(entry, tokens).refresh(tokens)
        except GrantRefused as refused:
            if entry.registered and refused.code in ("invalid_client", "unauthorized_client"):
                self._store.forget_client(entry.place.provider.issuer)
            return entry.model_copy(update={"tokens": None})
        except Unavailable:
            if not await self._has_moved(entry):
                raise
            return entry.model_copy(update={"tokens": None})
        return entry.model_copy(update={"tokens": renewed})

    async def revoke(self, entry: Entry, tokens: Tokens) -> None:
        """Takes the login back, where the provider offers that. Raises `Unavailable`."""
        await self._endpoint(entry, tokens).revoke(tokens)

    async def _has_moved(self, entry: Entry) -> bool:
        """Whether the resource has another provider now, so that there is no use in waiting for the old one."""
        try:
            place = await self._find(self._web)
        except Unavailable:
            return False
        known = entry.place.provider
        moved = place.provider.issuer == known.issuer and place.provider.token_endpoint != known.token_endpoint
        return moved or known.issuer not in place.issuers

    async def _choose(self, place: Place) -> Client:
        return await choose_client(place, self._slot.resource, self._web, self._store, self._manner.client_id)

    async def _go_through(self, place: Place, client: Client, prover: Prover | None, asked: Asked) -> Tokens:
        endpoint = TokenEndpoint(self._web, place, client.client_id, prover, self._clock)
        login = Login(place=place, client=client, web=self._web, endpoint=endpoint, prover=prover, say=self._say)
        if self._manner.device or (self._manner.show is None and place.provider.device_authorization_endpoint):
            return await login.by_device(asked, self._show_code)
        return await login.by_browser(asked, self._manner.show)

    def _endpoint(self, entry: Entry, tokens: Tokens) -> TokenEndpoint:
        prover = self._prove_with(entry.key) if tokens.bound else None
        return TokenEndpoint(self._web, entry.place, entry.client_id, prover, self._clock)
