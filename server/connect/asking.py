"""A person is asked to log in: one login at a time, which all requests wait for, and never again and again."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ...policies.errors import ArborgateError, Unavailable
from .credentials import LoginRequired
from .entries import Asked

LOGIN_SECONDS = 300.0
"""How long a person may take."""

WAIT_SECONDS = 45.0
"""How long a request waits for a person. Programs that send requests give up after a minute."""

_QUIET_SECONDS = 600.0
"""How long nobody is asked again after a login that came to nothing: an agent that tries on must not open pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a person is asked. `ask`: whether requests may do so at all; `device`: by a code to type elsewhere; `show`
    opens the login's URL in a browser, None where there is none; `client_id`: as which client; `command` is what they can
    run instead."""

    ask: bool = True
    device: bool = False
    show: Callable[[str], None] | None = None
    client_id: str = ""
    command: str = "arborgate login"
    wait: float = WAIT_SECONDS


class LoginAsked(LoginRequired):
    """A login that requests may not begin by themselves; `asked` is what it must be."""

    def __init__(self, message: str, hint: str, asked: Asked | None) -> None:
        super().__init__(message, hint=hint)
        self.asked = asked or Asked()


class Asking:
    """`log_in` is the login itself."""

    def __init__(self, log_in: Callable[[Asked | None], Awaitable[None]], manner: Manner) -> None:
        self._log_in = log_in
        self._manner = manner
        self._login: asyncio.Task[ArborgateError | None] | None = None
        self._code: asyncio.Future[str] | None = None
        self._quiet_until = float("-inf")

    async def ask(self, asked: Asked | None) -> None:
        """Begins a login, or joins the one under way. Returns when it succeeded; raises `LoginRequired` when it did
        not, when it takes longer than a request can wait, or when a code has to be typed first."""
        if not self._manner.ask:
            raise self.required(
                "This needs a login." if asked is None else "This needs a wider or stronger login.", asked
            )
        if self._login is None or self._login.done():
            if time.monotonic() < self._quiet_until:
                raise self.required("This needs a login, and nobody logged in when asked a moment ago.", asked)
            self._code = asyncio.get_running_loop().create_future()
            self._login = asyncio.create_task(self._run(asked))
        login, code = self._login, self._code
        awaited: set[asyncio.Future[Any]] = {login, *([code] if code else [])}
        await asyncio.wait(awaited, timeout=self._manner.wait, return_when=asyncio.FIRST_COMPLETED)
        if login.done():
            if error := login.result():
                raise error
            return
        if code is not None and code.done():
            raise LoginRequired(f"You have to log in. {code.result()}", hint="Then ask again.")
        raise self.required(
            "A login waits in your browser. Finish it and ask again.", asked, lead="If you see none, run"
        )

    def show_code(self, text: str) -> None:
        """Where to go and what to type: told to every request that waits, since only an answer reaches the person."""
        if self._code is not None and not self._code.done():
            self._code.set_result(text)

    def required(self, message: str, asked: Asked | None = None, *, lead: str = "Run") -> LoginAsked:
        """What to raise: with the command that does in a terminal what is asked."""
        return LoginAsked(message, f"{lead} in a terminal: {self._manner.command}{_write_options(asked)}", asked)

    async def close(self) -> None:
        if self._login is not None:
            self._login.cancel()
            await asyncio.gather(self._login, return_exceptions=True)

    async def _run(self, asked: Asked | None) -> ArborgateError | None:
        try:
            await self._log_in(asked)
        except Unavailable as error:
            return error  # nobody was asked yet, so asking later is no nuisance
        except ArborgateError as error:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            failed = self.required(" ".join(filter(None, (error.message, error.hint))), asked)
            failed.detail = error.detail
            return failed
        return None


def _write_options(asked: Asked | None) -> str:
    """The options of `arborgate login` that ask for the same."""
    if asked is None:
        return ""
    options = [("--scope", asked.scope), ("--acr-values", asked.acr_values)]
    options += [("--max-age", str(asked.max_age))] if asked.max_age is not None else []
    written = "".join(f" {name} {shlex.quote(value)}" for name, value in options if value)
    return f" --again{written}" if asked.again else written
