"""What it is to send: one notice through one channel, once; and why it did not arrive."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from .notice import Notice


class Medium(StrEnum):
    """The kinds of channels."""

    MAIL = "mail"
    SLACK = "slack"
    WEBHOOK = "webhook"


class Undelivered(Exception):
    """It did not arrive, as far as is known. `why` is in our words and safe to record: no address, URL or answer.

    `final`: another attempt would not help. `after`: the receiver wants to be left alone for so many seconds."""

    def __init__(self, why: str, *, final: bool = False, after: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.final = final
        self.after = after


class Sender(Protocol):
    """One channel's way out."""

    medium: Medium

    async def send(self, notice: Notice, to: str = "", /) -> None:
        """Returns when the receiver has taken it; raises `Undelivered`. `to` is for mail to one person."""
        ...
