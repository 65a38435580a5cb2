"""How large answers may be, and what of them comes in pages."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from ..policies.errors import Invalid

ASKED = "max_bytes"
"""The parameter that asks for another size than the default, of those tools that have it."""

LEAST = 4_096
"""Bytes; the least that can be asked for: an answer says what it is about, and what was left out, whatever its size."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How large an answer may be, in bytes: unless asked otherwise, and at most. Its JSON and its text both keep to it."""

    default: int = 16_384
    most: int = 65_536

    def of(self, params: BaseModel) -> int:
        """What the answer of this call may have."""
        return getattr(params, ASKED, 0) or self.default

    def times(self, params: BaseModel) -> int:
        """How many times the default that is, at least 1: so many times more of something an answer can show."""
        return max(1, self.of(params) // self.default)

    def check(self, params: BaseModel) -> None:
        """Raises `Invalid` (field `max_bytes`) for a size that no answer can have."""
        if getattr(params, ASKED, 0) and not LEAST <= self.of(params) <= self.most:
            raise Invalid(
                f"{ASKED}: an answer of this tool has {LEAST} to {self.most} bytes.",
                field=ASKED,
                hint=f"Leave it out for {self.default}; what does not fit, the answer says how to get.",
            )

    def leaves_room(self, params: BaseModel) -> bool:
        """Whether the same call could be given more."""
        return hasattr(params, ASKED) and self.of(params) < self.most


ANSWER = Budget()
"""What an answer may have: 16 KiB hold a page or an app, and who asks can have 64."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a tool answers in pages: the list `rows` of its result, as long as its parameter `count` says at most. The
    same call with a smaller count ends earlier, and its cursor (or offset) goes on from there."""

    rows: str
    count: str = "limit"
