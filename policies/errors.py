"""What can go wrong, as one family of errors named for what happened.

They live in the lowest layer so that every layer raises the same ones; `server/errors.py` puts them on the wire.
A message is written for the agent or person who has to act on it: it names the field, says what was wrong and what to
try. It never holds a host name, a credential or a stack trace; what only operators may know goes into `detail`, which
is recorded and logged (redacted) and never sent.
"""

from __future__ import annotations

import math
from enum import StrEnum


class Reason(StrEnum):
    """Why a call ended without a result: the closed vocabulary of error codes and of recorded outcomes."""

    BUSY = "busy"
    CONFLICT = "conflict"
    DEADLINE = "deadline"
    DENIED = "denied"
    INTERNAL = "internal"
    INVALID = "invalid"
    NOT_THERE = "not_there"
    REFUSED = "refused"
    STALE = "stale"
    UNAVAILABLE = "unavailable"
    UNRECORDED = "unrecorded"


class ArborgateError(Exception):
    """The base of all errors: `str(error)` is for the caller, `detail` for operators alone, `reason` for programs."""

    reason: Reason = Reason.INTERNAL

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint
        self.detail = detail


class Invalid(ArborgateError):
    """The caller's input is wrong: `field` names where, `hint` the way out."""

    reason = Reason.INVALID


class NotThere(ArborgateError):
    """The thing asked for does not exist, or the caller may not know that it does."""

    reason = Reason.NOT_THERE


class Denied(ArborgateError):
    """Policy says no, and the caller may know so (what is denied is no secret, as with a proposal on a visible app)."""

    reason = Reason.DENIED


class ScopeNeeded(Denied):
    """The token's scope leaves this out; `scope` is the one that would do (RFC 6750 section 3.1)."""

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"The token lacks the scope {scope!r} for this.", hint="Ask the person to consent to it, and log in again."
        )
        self.scope = scope


class LoginNeeded(Denied):
    """Policy asks for a more recent or a stronger login (RFC 9470): at most `max_age` seconds ago, by one of
    `acr_values` where there are any."""

    def __init__(self, max_age: int, acr_values: tuple[str, ...] = ()) -> None:
        super().__init__(
            "Policy asks for a more recent or a stronger login for this.",
            hint="The person you act for has to log in again.",
        )
        self.max_age = max_age
        self.acr_values = acr_values


class Conflict(ArborgateError):
    """Somebody else was first: the state moved between reading and writing."""

    reason = Reason.CONFLICT


class Stale(ArborgateError):
    """The target moved since the plan was made: propose again."""

    reason = Reason.STALE


class Refused(ArborgateError):
    """The plan can't be made or applied, for a reason the caller can act on (self-heal would undo it, say)."""

    reason = Reason.REFUSED


class Unavailable(ArborgateError):
    """A system behind Arborgate does not answer; the message names which, not where."""

    reason = Reason.UNAVAILABLE


class DeadlinePassed(ArborgateError):
    """The call took longer than its deadline."""

    reason = Reason.DEADLINE


class Busy(ArborgateError):
    """Too much at once: try again after `retry_after` seconds."""

    reason = Reason.BUSY

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None, detail: str = "") -> None:
        super().__init__(message, hint=hint or f"Try again in {max(1, math.ceil(retry_after))} s.", detail=detail)
        self.retry_after = retry_after


class Unrecorded(ArborgateError):
    """The audit log can't be written, so nothing may leave."""

    reason = Reason.UNRECORDED


class BadConfiguration(ArborgateError):
    """Settings or policies that must not be started with; the message names file, line and field."""

    reason = Reason.INVALID
