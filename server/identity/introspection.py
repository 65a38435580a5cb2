"""Opaque tokens, asked about at their issuer (RFC 7662): seldom, once for all who wait, and never believed for long."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from authlib.integrations.httpx_client import OAuth2ClientAuth

from ...policies.errors import BadConfiguration, Unavailable
from ..sampling import Sampling
from .flaws import Flaw, Unauthenticated
from .published import Published
from .settings import IntrospectionSettings, IssuerSettings
from .tokens import read_seconds

logger = logging.getLogger(__name__)

_OPAQUE = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
"""What a bearer token is made of (RFC 6750 section 2.1)."""
_REFUSED_SECONDS = 5.0
"""How long a token that is not active stays so: one that is revoked never comes back, one that is new was just issued."""
_REST_SECONDS = 1.0
"""How long an issuer that did not answer is left alone."""
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the issuer said of a token, believed until then: its claims, or why it is refused."""

    until: float
    claims: Mapping[str, Any]
    flaw: Flaw | None = None
    detail: str = ""


class Introspection:
    """Asks one issuer about its opaque tokens. A token is asked about once, however many calls come with it; what is
    not known to be active, at most `most_unknown` times a second."""

    def __init__(
        self,
        issuer: IssuerSettings,
        settings: IntrospectionSettings,
        client: httpx2.AsyncClient,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self._settings = settings
        self._published = Published(issuer, client)
        self._clock = clock
        try:
            self._secret = settings.client_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfiguration(f"introspection.client_secret_file: can't be read: {error}") from error
        self._url = settings.url
        self._finding = asyncio.Lock()
        self._unknown = Sampling(settings.most_unknown, clock)
        self._active: OrderedDict[bytes, _Answer] = OrderedDict()
        self._refused: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Answer | None]] = {}
        self._resting_until = float("-inf")

    def knows(self, token: str) -> bool:
        """Whether a token, by how it begins, can be of this issuer. What looks like a JWT says itself whose it is, and
        is judged by its signature: it is shown to nobody."""
        return (
            token.startswith(self._settings.prefix) and token.count(".") != 2 and _OPAQUE.fullmatch(token) is not None
        )

    async def ask(self, token: str) -> tuple[Mapping[str, Any], float]:
        """The claims of an active token, and until when (seconds since the epoch) they are believed.

        Raises `Unauthenticated` for any other token, and `Unavailable` when the issuer does not answer or there are
        too many questions to it."""
        seen_as = hashlib.sha256(token.encode()).digest()
        answer = self._recall(seen_as)
        if answer is None:
            asking = self._asking.get(seen_as)
            if asking is None:
                asking = self._begin(token, seen_as)
            await asyncio.wait({asking})  # which is not ended by one who waits going away
            answer = asking.result()
        if answer is None:
            raise _unavailable(self.issuer)
        if answer.flaw is not None:
            raise Unauthenticated(answer.flaw, detail=answer.detail)
        return answer.claims, answer.until

    def _recall(self, seen_as: bytes) -> _Answer | None:
        answer = self._active.get(seen_as) or self._refused.get(seen_as)
        return answer if answer is not None and self._clock() < answer.until else None

    def _begin(self, token: str, seen_as: bytes) -> asyncio.Task[_Answer | None]:
        if self._clock() < self._resting_until or (seen_as not in self._active and not self._unknown.take()):
            raise _unavailable(self.issuer)
        asking = asyncio.create_task(self._ask(token, seen_as))
        self._asking[seen_as] = asking
        asking.add_done_callback(lambda _done: self._asking.pop(seen_as))
        return asking

    async def _ask(self, token: str, seen_as: bytes) -> _Answer | None:
        """The issuer's answer, kept; None when there is none."""
        asked = self._clock()
        try:
            told = await self._fetch(token)
        except Exception as error:  # the issuer is away or answers nonsense, in whatever way
            logger.warning("%s can't be asked about a token: %s", self.issuer.issuer, type(error).__name__)
            self._resting_until = self._clock() + _REST_SECONDS
            return None
        try:
            claims = _judge(told, self.issuer)
            until = min(asked + self._settings.max_age, read_seconds(claims, "exp") or 0.0)
        except Unauthenticated as error:
            answer = _Answer(asked + _REFUSED_SECONDS, {}, error.flaw, error.detail)
            self._active.pop(seen_as, None)
            _keep(self._refused, seen_as, answer)
            return answer
        answer = _Answer(until, claims)
        self._refused.pop(seen_as, None)
        _keep(self._active, seen_as, answer)
        return answer

    async def _fetch(self, token: str) -> Mapping[str, Any]:
        async with self._finding:
            self._url = self._url or await self._published.find("introspection_endpoint")
        auth: Any = OAuth2ClientAuth(self._settings.client_id, self._secret, "client_secret_basic")
        form = {"token": token, "token_type_hint": "access_token"}
        status, told = await self._published.fetch("POST", self._url, form=form, auth=auth)
        if status != 200:
            raise ValueError(f"the answer was {status}")
        return told


def _judge(told: Mapping[str, Any], issuer: IssuerSettings) -> Mapping[str, Any]:
    """The claims of an answer about a token that can be accepted; raises `Unauthenticated`."""
    if told.get("active") is not True:
        raise Unauthenticated(Flaw.INACTIVE)
    if told.get("iss", issuer.issuer) != issuer.issuer:
        raise Unauthenticated(Flaw.ISSUER)
    if told.get("exp") is None:
        raise Unauthenticated(Flaw.CLAIMS, detail="exp")
    kind = told.get("token_type", "bearer")
    if not isinstance(kind, str) or kind.lower() not in ("bearer", "dpop") or told.get("token_use") == "refresh_token":
        raise Unauthenticated(Flaw.CLAIMS, detail="token_type")
    confirmation = told.get("cnf")
    if kind.lower() == "dpop" and not (isinstance(confirmation, dict) and "jkt" in confirmation):
        raise Unauthenticated(Flaw.CLAIMS, detail="cnf")  # bound, and not said to what
    if "sub" not in told and "username" not in told and "client_id" in told:
        return {**told, "sub": told["client_id"]}  # an app acting for itself, as in RFC 9068 section 2.2
    return told


def _keep(answers: OrderedDict[bytes, _Answer], seen_as: bytes, answer: _Answer) -> None:
    answers[seen_as] = answer
    answers.move_to_end(seen_as)
    if len(answers) > _MOST_KEPT:
        answers.popitem(last=False)


def _unavailable(issuer: IssuerSettings) -> Unavailable:
    return Unavailable(
        "The token's issuer can't be asked about it right now.", detail=f"introspection, {issuer.issuer}"
    )
