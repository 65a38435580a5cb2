"""What went wrong on the way to the server, in words that say what a person can do about it."""

from __future__ import annotations

import contextlib
import random
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpcore2

from ...policies.errors import ArborgateError, Busy, Denied, NotThere, Refused, Unavailable
from .messages import parse

_FIRST_PAUSE: Final = 0.1
_BUSY_SECONDS: Final = 60.0
_TOLD: Final = 300
"""How much of what the server says is passed on."""

_UNTOUCHED = (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.PoolTimeout, httpcore2.ProxyError)
"""Failures before the first byte of a request is sent."""


class Lost(Exception):
    """An attempt that brought no answer. `untouched`: the server can't have acted on it, so it may be made again,
    whatever it was; `after`: seconds that the server asks to wait; `error`: what to say in the end."""

    def __init__(self, error: ArborgateError, *, untouched: bool, after: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.untouched = untouched
        self.after = after


class Notes:
    """Standard error: a line for people when something changes, not each time that it is still so."""

    def __init__(self) -> None:
        self._last = ""
        self._busy_at = float("-inf")

    def tell(self, error: ArborgateError) -> None:
        """Says what is wrong and what to do, unless that was said last.

        That calls have to wait their turn comes and goes with each of them: it is said once a minute."""
        detail = f"({_clean(error.detail)})" if error.detail else ""
        text = " ".join(part for part in (error.message, detail, error.hint) if part)
        if not isinstance(error, Busy):
            self._say(text)
        elif time.monotonic() - self._busy_at >= _BUSY_SECONDS:
            self._busy_at = time.monotonic()
            _print(text)

    def mend(self) -> None:
        """Says that it works again, if anything was said to be wrong."""
        if self._last:
            self._say("Arborgate answers again.")
            self._last = ""

    def _say(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        _print(text)


def _print(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"arborgate connect: {text}", file=sys.stderr, flush=True)  # noqa: T201  # stderr is what people see


def grow(most: float) -> Iterator[float]:
    """Pauses that grow up to `most` seconds, uneven so that many bridges do not come back in step."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311  # spreads load, guards nothing
        pause = min(pause * 2, most)


def lost_on_the_way(error: Exception) -> Lost | ArborgateError:
    """What a request that failed below HTTP comes to: an attempt to repeat, or an error that repeating won't mend."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, httpcore2.ConnectError) and _is_distrust(error):
        return Unavailable(
            "This machine does not trust the certificate of the server.",
            hint="Have the CA of the server added to the certificates of this machine, or name it in SSL_CERT_FILE.",
            detail=detail,
        )
    if isinstance(error, _UNTOUCHED):
        unreached = Unavailable(
            "Arborgate can't be reached from this machine.",
            hint="Check the network, the VPN and the URL, or ask who runs it; then try again.",
            detail=detail,
        )
        return Lost(unreached, untouched=True)
    if isinstance(error, httpcore2.LocalProtocolError | httpcore2.UnsupportedProtocol):
        return Unavailable("The request can't be sent as it is.", detail=detail)
    return broken_off(detail)


def broken_off(detail: str) -> Lost:
    """A request that may have been acted on, and has no answer."""
    error = Unavailable(
        "The connection to Arborgate broke before the answer came.", hint="Try again in a moment.", detail=detail
    )
    return Lost(error, untouched=False)


def left_open(lost: Lost) -> Unavailable:
    """What to say of a request without an answer that can't be sent again, because it may have had its effect."""
    return Unavailable(
        "The connection to Arborgate broke before the answer came; the call may or may not have taken effect.",
        hint="Look whether it did before it is made again.",
        detail=lost.error.detail,
    )


def lost_for_now(status: int, headers: Mapping[str, str]) -> Lost | None:
    """An answer that asks to come again, or that came from a proxy whose server was away; None for any other."""
    after = _read_pause(headers.get("retry-after", ""))
    if status == 429 or (status == 503 and after is not None):
        busy = Busy("You ask more often than Arborgate allows, so calls wait their turn.", retry_after=after or 1.0)
        return Lost(busy, untouched=True, after=after or 0.0)
    if status in (502, 503, 504):
        return broken_off(f"status {status}")
    return None


def explain_status(status: int, headers: Mapping[str, str], body: bytes) -> ArborgateError:
    """What an HTTP answer without a JSON-RPC message means."""
    told = _told(body)
    error: ArborgateError = Refused(f"Arborgate refuses the request with status {status}{': ' + told if told else '.'}")
    if status < 300:
        error = Unavailable(
            "What answers at this URL does not speak MCP.",
            hint="Check the URL, and whether the login page of a network or a proxy stands before it.",
        )
    elif status < 400:
        error = Refused(
            "The server answers with another address, which a login must not follow.",
            hint=f"Use that URL if it is the right one: {_clean(headers.get('location', ''))[:_TOLD]}",
        )
    elif status in (401, 403):
        error = Denied(
            f"Arborgate refuses this login{': ' + told if told else '.'}",
            hint="Log in again with `arborgate login`, or ask who runs Arborgate for access.",
        )
    elif status in (404, 405):
        error = NotThere("There is no MCP server at this URL.", hint="Check the URL; Arborgate's ends in /mcp.")
    elif status == 413:
        error = Refused(told or "The request is larger than the server takes.", hint="Send less at once.")
    elif status >= 500:
        error = Unavailable(f"Arborgate failed with status {status}.", hint="Try again, or ask who runs it.")
    return error


def _told(body: bytes) -> str:
    """The words of Arborgate's own error (`{"error": {"message": …}}`), or of a login's (`error_description`)."""
    try:
        found: Any = parse(body)
    except ValueError:
        return ""
    error = found.get("error") if isinstance(found, dict) else None
    words = error.get("message") if isinstance(error, dict) else found.get("error_description") if error else None
    return _clean(words)[:_TOLD] if isinstance(words, str) else ""


def _read_pause(value: str) -> float | None:
    """The seconds of a Retry-After (RFC 9110 section 10.2.3); None without one that can be read."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _is_distrust(error: BaseException) -> bool:
    """Whether a certificate was refused, by this error or by what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
