"""What the layers of one HTTP request tell each other, under keys of our own in its ASGI scope."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

CALLER: Final = "arborgate.caller"
"""Where an authenticated request keeps its `Caller`."""

REFUSAL: Final = "arborgate.refusal"
"""Where a call leaves the error it ended with, so that the answer can say what the token lacks."""

NONCE: Final = "arborgate.nonce"
"""Where a good proof leaves the nonce that the client is to use from now on (RFC 9449 section 8.2), for the answer."""

LEAVE: Final = "arborgate.leave"
"""Where the doorkeeper leaves a function that gives the request's place to another: what lasts calls it."""

PEER: Final = "arborgate.peer"
"""Where the listener keeps the address at the other end of the connection, whatever forwarded headers say ("" for
none)."""


def leave_place(scope: Scope) -> None:
    """Gives the place of a request back that is about to wait: it must not keep out those that would be answered now."""
    leave = scope.get(LEAVE)
    if leave is not None:
        leave()
