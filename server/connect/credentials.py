"""What the bridge needs of a login: headers for each request, and what to make of a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ...policies.errors import ArborgateError, Reason


class LoginRequired(ArborgateError):
    """A person has to do something before this can go on; the message and the hint say what, in plain words."""

    reason = Reason.DENIED


class Credentials(Protocol):
    """The login of one person, on this machine, at one Arborgate."""

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        """`Authorization` and, with a bound token, a fresh `DPoP` proof for this request; the token is refreshed, or
        the person asked to log in, when that is due.

        Raises `LoginRequired` when only the person can go on, and `Unavailable` when the provider does not answer."""
        ...

    async def learn(self, status: int, headers: Mapping[str, str]) -> bool:
        """Takes in what an answer says (names in lower case): a new nonce, an expired token, a scope or a login that is
        asked for. Whether the request is worth sending once more, with new headers.

        Raises `LoginRequired` when only the person can go on."""
        ...
