"""Whether a text looks as if a machine had drawn it, so that nobody can guess it."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

LEAST = 20
"""Characters below which nothing counts as drawn by a machine."""

_BITS = 76.0
_CHANGES = 0.2
_SEEN = 4_096
_AMOUNT = re.compile(r"[\d.:,-]+[A-Za-z%]{0,5}")


def looks_random(text: str) -> bool:
    """Long, of many different characters, and changing between digits, small and capital letters as chance does it.

    Words, names and what people make up do not pass, nor does a repeated piece; a short random text does not either."""
    drawn = [character for character in text[:_SEEN] if character.isalnum()]
    if len(drawn) < LEAST or any(character.isspace() for character in text[:_SEEN].strip()):
        return False
    counts = Counter(drawn)
    bits = -sum(count * math.log2(count / len(drawn)) for count in counts.values())
    changes = sum(_sort(one) != _sort(next_) for one, next_ in pairwise(drawn))
    return bits >= _BITS and changes >= _CHANGES * len(drawn) and len(counts) >= 10


def is_no_word(text: str) -> bool:
    """Neither a word nor some of them: with a digit, or with capital letters within, or longer than words are."""
    return len(text) >= 30 or any(character.isdigit() for character in text) or text[1:] != text[1:].lower()


def is_no_plain_word(text: str) -> bool:
    """Not what fields, messages and sentences are made of: holds a digit or a sign besides its letters, and is no
    number, amount or duration (`24`, `24d`, `10Mi`)."""
    return not text.replace("-", "").replace("_", "").replace(".", "").isalpha() and is_no_amount(text)


def is_no_amount(text: str) -> bool:
    """Not a number with a unit: `24d`."""
    return _AMOUNT.fullmatch(text) is None


def _sort(character: str) -> int:
    return 0 if character.isdigit() else 1 if character.islower() else 2
