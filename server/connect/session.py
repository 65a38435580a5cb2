"""A person's login, alive: headers for each request, tokens renewed in time, the person asked when only they can help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from ...policies.errors import ArborgateError, Invalid, Unavailable
from ...tools.times import write_time
from .asking import LOGIN_SECONDS, Asking, Manner
from .challenges import Challenge, read_challenges
from .credentials import LoginRequired
from .entries import Asked, Entry, Place, Slot, Tokens, origin_of
from .proofs import Prover
from .store import Store

if TYPE_CHECKING:
    from .service import Find, LoginService
    from .web import Web

_LOCK_SECONDS = 40.0
_AGAIN_SECONDS = 5.0
_JUST_NOW = 10.0
_LOGIN_LASTS = 60.0
_PARTING_SECONDS = 3.0
_LONGEST_AGE = 86_400 * 365

_used: ContextVar[str] = ContextVar("used", default="")
"""The token that this task's request was sent with: by the time it is refused there may be a newer one."""

Say = Callable[[str], None]


class Session:
    """The login in one slot of the store, as `Credentials`. `find` finds out where to log in, when that is needed.

    It is entered and left, or closed."""

    def __init__(
        self,
        slot: Slot,
        store: Store,
        find: Find,
        *,
        manner: Manner,
        say: Say,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.slot = slot
        self._store = store
        self._find = find
        self._manner = manner
        self._say = say
        self._clock = clock
        self._asking = Asking(self.log_in, manner)
        self._entry: Entry | None = None
        self._prover: Prover | None = None
        self._service: LoginService | None = None
        self._renewing: asyncio.Task[ArborgateError | None] | None = None
        self._refused = ""
        self._obtained = self._again_at = float("-inf")
        self._stepped_up: tuple[Asked, float] = (Asked(), float("-inf"))
        self._not_granted: set[str] = set()

    @classmethod
    def of_kept(cls, slot: Slot, store: Store, say: Say) -> Self:
        """A login as it is kept, of which nobody is asked anything."""

        async def find(_web: Web) -> Place:
            raise LoginRequired("Nobody is asked to log in here.")

        return cls(slot, store, find, manner=Manner(ask=False), say=say)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what was begun in the background."""
        await self._asking.close()
        if self._renewing is not None:
            # Given time: the provider may have taken the old refresh token already, and nobody else has the new one.
            await asyncio.wait({self._renewing}, timeout=_PARTING_SECONDS)
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._service is not None:
            await self._service.close()

    def describe(self) -> str:
        """How the login is kept and how it is bound, for its person to read."""
        tokens = self._tokens
        if tokens is None:
            return "Nobody is logged in."
        kind = (
            "Its tokens are bound to a key of this machine (DPoP)."
            if tokens.bound
            else "Its tokens are bearer tokens: whoever gets hold of one can use it."
        )
        lasts = "renewed by itself after" if tokens.refresh_token else "good until"
        where = self._store.describe(self.slot) or "memory alone"
        return f"{kind}\nIt is {lasts} {write_time(tokens.ends)}, and kept in {where}."

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        if origin_of(url) != self.slot.origin:
            raise Invalid("This login is for another server.", detail=url)
        tokens = await self._ready()
        _used.set(tokens.access_token)
        if not tokens.bound or self._prover is None:
            return {"Authorization": f"Bearer {tokens.access_token}"}
        proof = self._prover.prove(method, url, tokens.access_token)
        return {"Authorization": f"DPoP {tokens.access_token}", "DPoP": proof}

    async def learn(self, status: int, headers: Mapping[str, str]) -> bool:
        prover, here = self._prover, self.slot.resource
        given = prover is not None and prover.learn_nonce(here, headers.get("dpop-nonce"))
        if status not in (401, 403):
            return False
        date, answer = headers.get("date"), False
        for challenge in read_challenges(headers.get("www-authenticate", "")):
            match challenge.error:
                case "use_dpop_nonce":
                    answer = given
                case "invalid_dpop_proof":
                    answer = prover is not None and prover.learn_time(here, date)
                case "invalid_token":
                    answer = self._give_up_token(challenge)
                case "insufficient_scope":
                    answer = await self._widen(challenge.parameters.get("scope", ""))
                case "insufficient_user_authentication":
                    answer = await self._step_up(challenge)
                case _:
                    continue
            break
        return answer

    async def load(self) -> Entry | None:
        """Reads what is kept; raises `Unavailable` when the keyring does not open."""
        self._adopt(await asyncio.to_thread(self._store.read, self.slot))
        return self._entry

    async def log_in(self, asked: Asked | None = None) -> None:
        """Has the person log in. With nothing `asked`, what another process got meanwhile will do. Raises an
        `ArborgateError` that says why it did not work."""
        before = self._tokens
        async with self._store.lock(self.slot, "login", LOGIN_SECONDS) as held:
            if not held:
                raise LoginRequired("Another login on this machine is not finished.", hint="Finish that one.")
            kept = await asyncio.to_thread(self._store.read, self.slot)
            if asked is None and kept is not None and self._is_news(kept, before):
                self._adopt(kept)
                return
            entry = await self._reach().log_in(kept, asked or Asked())
            async with self._store.lock(self.slot, "refresh", _LOCK_SECONDS):
                await self._keep(entry)

    async def log_out(self) -> bool:
        """Takes the login back at the provider where it can be (RFC 7009), and forgets tokens and key. Whether there
        was a login."""
        async with self._store.lock(self.slot, "refresh", _LOCK_SECONDS):
            known = bool(self._store.describe(self.slot))
            try:
                entry = await self.load()
                if entry is not None and entry.tokens is not None:
                    await self._reach().revoke(entry, entry.tokens)
            except Unavailable as error:
                self._say(f"{error.message} The login is forgotten here, but was not taken back there.")
            await asyncio.to_thread(self._store.forget, self.slot)
            self._adopt(None)
        return known

    @property
    def _tokens(self) -> Tokens | None:
        return self._entry.tokens if self._entry else None

    def _lives(self, tokens: Tokens) -> bool:
        return self._clock() < tokens.ends and tokens.access_token != self._refused

    def _is_news(self, kept: Entry, before: Tokens | None) -> bool:
        """Whether another process got tokens that we don't have yet, and that are good."""
        tokens = kept.tokens
        known = before.access_token if before else ""
        return tokens is not None and tokens.access_token != known and self._lives(tokens)

    async def _ready(self) -> Tokens:
        """Tokens that are good now."""
        if self._tokens is None:
            await self.load()
        for _ in range(2):
            tokens = self._tokens
            if tokens is None:
                break
            alive, now = self._lives(tokens), self._clock()
            if alive and (now < tokens.due or not tokens.refresh_token or now < self._again_at):
                return tokens
            if not tokens.refresh_token:
                break
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._renew())
            if alive:
                return tokens  # a later request will have the new one; this one need not wait
            if error := await asyncio.shield(self._renewing):
                raise error
        await self._ask(None)
        if self._tokens is None:
            raise self._asking.required("You are not logged in.")
        return self._tokens

    async def _renew(self) -> ArborgateError | None:
        """Fetches new tokens, or takes those that another process fetched. Returns why that did not work."""
        async with self._store.lock(self.slot, "refresh", _LOCK_SECONDS) as held:
            if not held:
                return Unavailable("Another program on this machine holds on to the login.", hint="Try again.")
            try:
                # A refresh token may be good for one use: what counts is what is kept, not what we remember.
                entry = await asyncio.to_thread(self._store.read, self.slot)
                if entry is None or entry.tokens is None or self._is_news(entry, self._tokens):
                    self._adopt(entry)
                else:
                    await self._keep(await self._reach().refresh(entry, entry.tokens))
            except Unavailable as error:
                self._again_at = self._clock() + _AGAIN_SECONDS
                return Unavailable(
                    "Your login has run out, and the login service does not renew it now.",
                    hint=f"Try again in a moment. {error.message}",
                    detail=error.detail,
                )
            except ArborgateError as error:
                return error
        return None

    def _give_up_token(self, challenge: Challenge) -> bool:
        """Takes in that the token was refused; whether another may do better."""
        tokens = self._tokens
        if tokens is None:
            return False
        if _used.get() not in ("", tokens.access_token):
            return True  # it was an older one
        if challenge.scheme == "dpop" and not tokens.bound and self._entry is not None:
            if not self._entry.place.provider.binds:
                raise LoginRequired(
                    "This server takes only tokens that are bound to a key (DPoP), and your login service gives none.",
                    hint="Ask whoever runs it.",
                )
        elif time.monotonic() - self._obtained < _JUST_NOW:
            return False  # a new one is refused like the old one: the server's own words say why
        self._refused = tokens.access_token
        return True

    async def _widen(self, scope: str) -> bool:
        """Asks for a scope in addition (RFC 6750 section 3.1); whether there is a login that may have it."""
        held = self._tokens.scope.split() if self._tokens else []
        missing = sorted(set(scope.split()) - set(held) - self._not_granted)
        if not missing:
            return False
        if await self._ask(Asked(scope=" ".join([*held, *missing]))) and self._tokens is not None:
            self._not_granted |= set(missing) - set(self._tokens.scope.split())
        return True

    async def _step_up(self, challenge: Challenge) -> bool:
        """Asks for a more recent or a stronger login (RFC 9470); whether there is one that may do."""
        age = challenge.parameters.get("max_age", "")
        max_age = min(int(age), _LONGEST_AGE) if age.isascii() and age.isdigit() else None
        asked = Asked(
            scope=self._tokens.scope if self._tokens else "",
            max_age=max_age,
            acr_values=challenge.parameters.get("acr_values", "")[:500],
        )
        before, at = self._stepped_up
        if before == asked and time.monotonic() - at < _LOGIN_LASTS:
            return False  # that login was just made, and does not do
        if await self._ask(asked):
            self._stepped_up = (asked, time.monotonic())
        return True

    async def _ask(self, asked: Asked | None) -> bool:
        """Has the person log in, unless a login that was made elsewhere has not been tried; whether they did."""
        kept = await asyncio.to_thread(self._store.read, self.slot)
        if kept is not None and self._is_news(kept, self._tokens):
            self._adopt(kept)
            return False
        await self._asking.ask(asked)
        return True

    def _adopt(self, entry: Entry | None) -> None:
        if entry is not None:
            self._prove_with(entry.key)
        self._entry = entry

    async def _keep(self, entry: Entry) -> None:
        """Adopts what was just obtained, then writes it down: it is good even if nobody can keep it."""
        self._adopt(entry)
        self._obtained = time.monotonic()
        try:
            await asyncio.to_thread(self._store.write, self.slot, entry)
        except (OSError, ArborgateError) as error:
            self._say(f"The login can't be kept: {error}")

    def _prove_with(self, key: Mapping[str, str]) -> Prover:
        """The prover of a key: the one that there is, with the nonces that it knows, or a new one."""
        if self._prover is None or self._prover.key != key:
            self._prover = Prover(key, self._clock)
        return self._prover

    def _reach(self) -> LoginService:
        if self._service is None:
            from .service import LoginService  # noqa: PLC0415  # a login that still lives does not wait for it

            self._service = LoginService(
                self.slot,
                self._store,
                self._find,
                self._manner,
                say=self._say,
                show_code=self._asking.show_code,
                prove_with=self._prove_with,
                clock=self._clock,
            )
        return self._service
