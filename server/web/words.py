"""Text on a page: untrusted strings with nothing hidden in them, times, and diffs as lines."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from markupsafe import Markup

from ...tools.text import disarm
from ...tools.times import write_age, write_time

_SHOWN_AS_IS = re.compile(r"[\x20-\x7e\n\t]*")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
# Letters and marks that are drawn as nothing: fillers, joiners and variation selectors.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")


_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")


class Mark(StrEnum):
    """What a line of a diff is."""

    ADDED = "added"
    HUNK = "hunk"
    REMOVED = "removed"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line of a unified diff without its sign; `prefix` is what the diff begins it with."""

    mark: Mark
    text: str
    prefix: str = ""

    @property
    def sign(self) -> str:
        return {Mark.ADDED: "+", Mark.REMOVED: "−"}.get(self.mark, "")


def reveal(text: str) -> str:
    """The text with every character that is not drawn, or that reorders others, written as ⟨U+202E⟩.

    An approver judges what they see, so unlike an answer to an agent nothing is dropped: it is shown."""
    if _SHOWN_AS_IS.fullmatch(text):
        return text
    return "".join(_name(character) if _is_hidden(character) else character for character in text)


def reveal_clean(text: str, clean: Callable[[str], str]) -> str:
    """The text revealed and without its secrets, also without one that is split by what is not drawn: then what was in
    it is named behind it."""
    revealed = reveal(text)
    if revealed != text and (cleaned := clean(whole := disarm(text))) != whole:
        return cleaned + "".join(map(_name, dict.fromkeys(filter(_is_hidden, text))))
    return clean(revealed)


def reveal_line(text: str) -> str:
    """The same on one line of a terminal, between marks that the text does not hold: no line of it can pass for ours."""
    one_line = reveal(text).replace("\n", " ⏎ ").replace("\t", " ")
    return f"«{one_line.replace('«', '‹').replace('»', '›')}»"


def isolate(text: str) -> str:
    """The text so that letters written from right to left reorder nothing beside it on the page (Unicode annex 9)."""
    return f"\u2068{text}\u2069" if _RIGHT_TO_LEFT.search(text) else text


def read_diff(diff: str, clean: Callable[[str], str]) -> tuple[DiffLine, ...]:
    """The lines of a unified diff, without its file headers; each is revealed and cleaned by itself, so none is cut."""
    lines: list[DiffLine] = []
    in_hunk = False
    for line in diff.split("\n") if diff else ():
        in_hunk = in_hunk or line.startswith("@@")
        if not in_hunk and line.startswith(("--- ", "+++ ")):
            continue
        mark, text = _judge(line)
        prefix = line[: len(line) - len(text)]
        lines.append(DiffLine(mark, isolate(reveal_clean(text, clean)), prefix))
    while lines and lines[-1] == DiffLine(Mark.SAME, ""):
        lines.pop()
    return tuple(lines)


def show_time(seconds: float) -> Markup:
    """A moment as an HTML time element, to the minute, in UTC; a dash for 0."""
    if not seconds:
        return Markup("–")
    exact = write_time(seconds)
    return Markup('<time datetime="{}">{} UTC</time>').format(exact, exact[:16].replace("T", " "))


def show_distance(seconds: float, now: float) -> str:
    """How far a moment is from now: `5m ago`, `in 23h`, `just now`."""
    if abs(seconds - now) < 1:
        return "just now"
    return f"in {write_age(seconds - now)}" if seconds > now else f"{write_age(now - seconds)} ago"


def show_duration(seconds: float) -> str:
    """How long, in the largest unit that leaves no rest: `15 minutes`, `1 hour`, `90 seconds`."""
    whole = int(seconds)
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if whole and whole % size == 0:
            count = whole // size
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{whole} seconds"


def _judge(line: str) -> tuple[Mark, str]:
    if line.startswith("@@"):
        return Mark.HUNK, line
    match line[:1]:
        case "+":
            return Mark.ADDED, line[1:]
        case "-":
            return Mark.REMOVED, line[1:]
        case " ":
            return Mark.SAME, line[1:]
    return Mark.SAME, line


def _is_hidden(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in _HIDDEN_CATEGORIES or _BLANK.match(character) is not None


def _name(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"
