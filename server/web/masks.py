"""Personal data on the pages and in the terminal's answers: masked, but for the parts of which it is said that it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ...policies.model import Caller
from ..masking import Masker, own_words

T = TypeVar("T")


class Masks:
    """Takes secrets and personal data out of one answer for one reader, as it is written piece by piece.

    A mask has the same number everywhere in the answer. What nobody thought of is masked: a part shows only inside `of`,
    or where the whole answer was begun so."""

    def __init__(self, clean: Callable[[str], str], hide: Callable[[str], str], shows: bool) -> None:
        self._clean = clean
        self._hide = hide
        self._shows = shows

    def clean(self, text: str) -> str:
        """The text without secrets, and without personal data."""
        return self.hide(self._clean(text))

    def hide(self, text: str) -> str:
        """The text without personal data."""
        return text if self._shows else self._hide(text)

    def of(self, shows: bool, caller: Callable[[], T]) -> T:
        """What `caller` writes about one thing, of which the reader may see personal data or not; the name is the one by
        which a template hands over the body of its `call`."""
        before, self._shows = self._shows, shows
        try:
            return caller()
        finally:
            self._shows = before


@dataclass(frozen=True, slots=True)
class Masking:
    """Begins the masks of each answer. `clean` takes secrets out of text."""

    clean: Callable[[str], str]
    masker: Masker

    def begin(self, reader: Caller | None, shows: bool = False) -> Masks:
        """For one answer; to nobody (None) nothing is their own. `shows`: whether personal data shows in what is not
        about one thing alone."""
        return Masks(self.clean, self.masker.begin(own_words(reader) if reader else ()), shows)
